"""Which parameters the best trials of a study have in common."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

#: Importances are not told from fewer complete trials: five of them should be the best ones.
_ENOUGH = 10
#: How often scores are shuffled to see how important parameters seem by chance.
_SHUFFLES = 200


def importances(study: optuna.Study) -> pd.DataFrame:
    """Return PED-ANOVA importances, and how often scores that mean nothing give such ones.

    Returns
    -------
    DataFrame
        By parameter, most important first: share, p (corrected; of seeming so important where
        scores are shuffled), trials (that have it). Empty where trials are too few.

    Notes
    -----
    PED-ANOVA asks how differently the best trials are distributed, which also works for parameters
    that not all trials have: S. Watanabe et al. (2023), "PED-ANOVA: efficiently quantifying
    hyperparameter importance in arbitrary subspaces"; "Conditional PED-ANOVA", arXiv 2601.20800.
    Shuffled scores tell importance from chance: A. Altmann et al. (2010), "Permutation importance:
    a corrected feature importance measure"; the p-value is of the highest among all parameters.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _ENOUGH:
        return pd.DataFrame(columns=["share", "p", "trials"], dtype=float)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=max(0.1, 5 / len(complete))
    )
    values = np.array([trial.value for trial in complete], dtype=float)
    rng, numbers = np.random.default_rng(0), [trial.number for trial in complete]

    def evaluate(values: np.ndarray) -> pd.Series:
        loss = dict(zip(numbers, -values, strict=True))  # the evaluator minimises a target
        found = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: loss[trial.number], normalize=False
        )
        return pd.Series(found, dtype=float)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials in a regime, and of the target's direction
        found = evaluate(values)
        chance = pd.DataFrame([evaluate(rng.permutation(values)) for _ in range(_SHUFFLES)])
    middle, spread = chance.mean(), chance.std()
    spread = spread.where(spread > 0, np.inf)
    highest = ((chance - middle) / spread).max(axis=1)
    rows = pd.DataFrame({"share": found / (found.sum() or 1.0), "size": (found - middle) / spread})
    reached = rows.pop("size").map(lambda size: (highest >= size).sum())
    rows["p"] = (1 + reached) / (1 + _SHUFFLES)
    rows["trials"] = [sum(name in trial.params for trial in complete) for name in rows.index]
    return rows.sort_values("share", ascending=False, kind="stable")
