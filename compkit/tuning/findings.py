"""What a search for settings found: from an Optuna study to tables and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from compkit.intervals import resampling
from compkit.leaderboard.estimates import selection_optimism
from compkit.metrics.bootstrap import Groups, interval
from compkit.tuning.evidence import LEVEL, Effect, chance_of_best, effect
from compkit.tuning.gains import Confirmation, Gain, confirmations, gain_over
from compkit.tuning.importance import importances

#: Intervals are made of so many of the best trials.
TOP = 20
#: Settings whose effect is looked for on their own: what they are called, whose trials have them.
CURVES = {
    "loss.kappa": ("κ", "fixed κ"),
    "loss.adaptive_lambda": ("λ", "adaptive κ = λ · Dice"),
}

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
    TrialState.WAITING: "unfinished",
}


@dataclass(frozen=True)
class Findings:
    """What came out of a study.

    Attributes
    ----------
    name, metric : str
        Of the study.
    hold_out : int or None
        The fold that took no part.
    states : DataFrame
        By state (complete, pruned, failed, unfinished): count and seconds.
    trials : DataFrame
        The complete trials by number, best first: value, fold_error (standard error over folds),
        seconds, behind (the best), p (corrected; of being no worse than the best), tied (with the
        best, within chance), run; for the first ones also low and high, the 95 % interval, NaN for
        the others and where all images are of one group.
    params : DataFrame
        The parameters of those trials, in the same order; None where a trial lacks one.
    scales : dict of str to str
        By parameter: log, linear or category.
    settings : dict
        What the best trial set.
    images : int
        How many images score a trial.
    over : str
        What intervals over them rest on: `compkit.intervals.resampling`.
    doubts : list of str
        Why all scores are too high: `compkit.folds.Folds.doubts`.
    optimism : float
        How much the best score owes to being the best; NaN below two groups of images.
    importances : DataFrame
        By parameter, most important first: share, p (corrected; of seeming so important where
        scores are shuffled), trials (that have it). Empty where trials are too few.
    curves : dict of str to Effect
        By parameter of `CURVES`.
    pruned_with : dict of str to int
        How many pruned trials had each parameter of `CURVES`.
    baselines : list of Gain
        The best trial against unmodified configurations.
    confirmed : list of Confirmation
        What the trial that was chosen scored beyond the search.
    events : DataFrame
        All trials in order of their number: state and value (NaN where there is none).
    pruned : dict of str to int
        Where trials were pruned, and how many there.
    failures : list of (int, str)
        Failed trials with what they said.
    """

    name: str
    metric: str
    hold_out: int | None
    states: pd.DataFrame
    trials: pd.DataFrame
    params: pd.DataFrame
    scales: dict[str, str]
    settings: dict[str, Any]
    images: int
    over: str
    doubts: list[str]
    optimism: float
    importances: pd.DataFrame
    curves: dict[str, Effect]
    pruned_with: dict[str, int]
    baselines: list[Gain]
    confirmed: list[Confirmation]
    events: pd.DataFrame
    pruned: dict[str, int]
    failures: list[tuple[int, str]]

    @property
    def varying(self) -> list[str]:
        """The parameters that are not the same in all complete trials."""
        return [name for name in self.scales if len(set(map(repr, self.params[name]))) > 1]

    @property
    def labels(self) -> dict[str, str]:
        """Of each parameter, the last word of its dotted name, or all of it where ambiguous."""
        last = {name: name.rpartition(".")[2] for name in self.scales}
        words = Counter(last.values())
        return {name: word if words[word] == 1 else name for name, word in last.items()}


def find(study: optuna.Study) -> Findings:
    """Work out what a study found, however few of its trials are complete.

    Parameters
    ----------
    study : Study
        Maximised. Complete trials carry image_scores, fold_scores, seconds, run and settings,
        pruned ones pruned_at, failed ones error. The study's attribute `image_groups` is the group
        of each image; a study made before groups were kept has none, and images are resampled.
    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete.sort(key=lambda trial: -_value(trial))
    scores = np.array([trial.user_attrs["image_scores"] for trial in complete], dtype=float)
    about = study.user_attrs
    images, groups = scores.shape[1] if complete else 0, about.get("image_groups")
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    return Findings(
        name=study.study_name,
        metric=str(about.get("metric", "score")),
        hold_out=about.get("hold_out"),
        states=_states(trials),
        trials=_table(complete, scores, groups),
        params=_params(complete),
        scales=_scales(complete),
        settings=complete[0].user_attrs.get("settings", {}) if complete else {},
        images=images,
        over=resampling(images, groups) if complete else "",
        doubts=about.get("doubts", []),
        optimism=selection_optimism(scores, groups) if complete else np.nan,
        importances=importances(study),
        curves={name: _curve(name, complete) for name in CURVES},
        pruned_with={name: sum(name in trial.params for trial in pruned) for name in CURVES},
        baselines=[
            gain_over(str(name), one, _value(complete[0]), scores[0], groups)
            for name, one in ((about.get("baseline") or {}).items() if complete else ())
        ],
        confirmed=confirmations(study),
        events=pd.DataFrame(
            {
                "state": [_STATES[trial.state] for trial in trials],
                "value": [
                    _value(trial) if trial.state == TrialState.COMPLETE else np.nan
                    for trial in trials
                ],
            },
            index=[trial.number for trial in trials],
        ),
        pruned=dict(Counter(str(t.user_attrs.get("pruned_at", "unknown")) for t in pruned)),
        failures=[(t.number, str(t.user_attrs.get("error", "no reason was kept"))) for t in failed],
    )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _states(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    rows = pd.DataFrame(
        0.0, index=list(dict.fromkeys(_STATES.values())), columns=["count", "seconds"]
    )
    for trial in trials:
        spent = trial.duration.total_seconds() if trial.duration else 0.0
        seconds = trial.user_attrs.get("seconds", spent)
        rows.loc[_STATES[trial.state]] += [1, seconds]
    return rows.astype({"count": int})


def _table(complete: Sequence[FrozenTrial], scores: np.ndarray, groups: Groups) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "value": [_value(trial) for trial in complete],
            "fold_error": [_error(trial.user_attrs["fold_scores"]) for trial in complete],
            "seconds": [trial.user_attrs["seconds"] for trial in complete],
            "run": [str(trial.user_attrs["run"]) for trial in complete],
        },
        index=[trial.number for trial in complete],
    )
    ends = [interval(one, groups) for one in scores[:TOP]]
    missing = [(np.nan, np.nan)] * (len(complete) - len(ends))
    rows[["low", "high"]] = np.array([*ends, *missing], dtype=float).reshape(-1, 2)
    rows["behind"] = rows["value"].max() - rows["value"]
    rows["p"] = chance_of_best(scores, 0, groups) if complete else []
    rows["tied"] = rows["p"] >= LEVEL
    return rows


def _error(folds: Sequence[float]) -> float:
    return float(np.std(folds, ddof=1) / np.sqrt(len(folds))) if len(folds) > 1 else np.nan


def _params(complete: Sequence[FrozenTrial]) -> pd.DataFrame:
    names = dict.fromkeys(name for trial in complete for name in trial.params)
    columns = {
        name: pd.Series([trial.params.get(name) for trial in complete], dtype=object)
        for name in names
    }
    numbers = [trial.number for trial in complete]
    return (
        pd.DataFrame(columns).set_axis(numbers, axis=0) if columns else pd.DataFrame(index=numbers)
    )


def _scales(complete: Sequence[FrozenTrial]) -> dict[str, str]:
    scales = {}
    for trial in complete:
        for name, distribution in trial.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                scales[name] = "category"
            else:
                scales[name] = "log" if getattr(distribution, "log", False) else "linear"
    return scales


def _curve(name: str, complete: Sequence[FrozenTrial]) -> Effect:
    points = [(t.number, t.params[name], _value(t)) for t in complete if name in t.params]
    return effect(CURVES[name][0], pd.DataFrame(points, columns=["number", "x", "score"]))
