"""One trial: settings trained fold by fold, scored, and stopped where the pruner says so."""

from __future__ import annotations

import time
import warnings

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import HyperbandPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState

from compkit.config import RunConfig
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.tuned import default_scores, tune_run
from compkit.errors import CompkitError
from compkit.failures import sentence_of
from compkit.metrics.bootstrap import mean
from compkit.progress import say
from compkit.run import Run
from compkit.training.fit import fit_fold
from compkit.tuning.runs import Runs, digest, fold_scores
from compkit.tuning.space import Space, configured

#: The pruners that compare trials at an epoch.
BY_EPOCH = ("halving", "hyperband")

#: Of so many trials that come to a rung of successive halving, one goes on.
_REDUCTION = 3


def make_pruner(name: str, config: RunConfig, folds: int) -> optuna.pruners.BasePruner:
    """Return one of Optuna's pruners for trials that are trained as configured.

    Parameters
    ----------
    folds : int
        Folds that each trial is trained on.
    """
    if name == "wilcoxon":
        return WilcoxonPruner()
    if name == "none":
        return NopPruner()
    epochs = _epochs(config)
    least = max(1, epochs // 2)  # the first half of a fit says little
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=_REDUCTION)
    return HyperbandPruner(least, epochs * folds * len(config.encoders), _REDUCTION)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first, and of equal settings one."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    by_run: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: -(trial.value or 0.0)):
        by_run.setdefault(trial.user_attrs["run"], trial)
    return list(by_run.values())


def is_base(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial is the configuration that the others are laid over."""
    return bool(trial.user_attrs.get("base", False))


class Objective:
    """The mean over folds of the metric that ranks, of decoded out-of-fold regions.

    The decoder is tuned for each trial, cross-fitted as always. Equal settings share a directory,
    so a trial that was killed goes on where it was.

    Parameters
    ----------
    space : Space
    runs : Runs
        Where its run lies, and which folds it is trained on.
    pruner : str
        As `make_pruner` knows it; it decides what is reported to Optuna.
    """

    def __init__(self, space: Space, runs: Runs, pruner: str) -> None:
        self._space, self._runs, self._pruner = space, runs, pruner

    def __call__(self, trial: optuna.Trial) -> float:
        try:
            return self._run(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            refused = None if isinstance(error, CompkitError) else sentence_of(error)
            sentence = refused or " ".join(f"{error}".split()) or repr(error)
            trial.set_user_attr("error", sentence)
            say(f"trial {trial.number} failed: {sentence}")
            raise

    def _run(self, trial: optuna.Trial) -> float:
        outside = is_base(trial) and self._space.params_of_base() is None
        settings = {} if outside else self._space.suggest(trial)
        trial.set_user_attr("settings", settings)
        config = configured(self._space.base, settings)
        trial.set_user_attr("run", digest(config))
        with self._runs.owned(config) as run:
            return self._score(trial, run)

    def _score(self, trial: optuna.Trial, run: Run) -> float:
        start, epochs, parts = time.monotonic(), _epochs(run.config), list(run.parts())
        for number, (encoder, fold) in enumerate(parts):

            def watch(epoch: int, score: float, before: int = number * epochs) -> None:
                if self._pruner in BY_EPOCH:
                    _report(trial, {before + epoch: score}, prune=True)

            label = f"trial {trial.number}, {number + 1}/{len(parts)}: "
            fit_fold(run, encoder, fold, label, watch)
            rest = [other for _, other in parts[number + 1 :]]
            if self._pruner == "wilcoxon" and fold not in rest:
                _report(trial, group_scores(run), prune=bool(rest))
        decoder = tune_run(run)
        by_fold = fold_scores(run, decoder)
        trial.set_user_attr("image_scores", decoder.image_scores[run.ranking])
        trial.set_user_attr("fold_scores", by_fold)
        trial.set_user_attr("seconds", round(time.monotonic() - start, 1))
        # These are the same for all trials.
        trial.study.set_user_attr("image_groups", decoder.image_groups)
        trial.study.set_user_attr("doubts", run.folds.doubts())
        return float(mean(np.array(by_fold)))


def group_scores(run: Run) -> dict[int, float]:
    """Return the mean score of each group of images out of fold so far, decoded by default.

    Groups, not images, are what Wilcoxon's test may take for independent.
    """
    members = members_of([run], partial=True)
    mixture = Mixture(members)
    images = [image for image in mixture.images if all(image in m.out_of_fold for m in members)]
    scores = default_scores(mixture, images)
    of = run.folds.group[[run.store.train.index(image) for image in images]]
    numbers = np.searchsorted(np.unique(run.folds.group), of)
    means = pd.Series(scores).groupby(numbers).mean().dropna()
    return dict(zip(means.index.tolist(), means.tolist(), strict=True))


def _report(trial: optuna.Trial, scores: dict[int, float], prune: bool) -> None:
    """Report scores by step, and end the trial if the pruner says so; the base is never pruned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that goes on after a kill reports some steps again
        for step, score in scores.items():
            trial.report(score, step)
        if prune and not is_base(trial) and trial.should_prune():
            raise optuna.TrialPruned


def _epochs(config: RunConfig) -> int:
    return config.training.steps // config.training.steps_per_epoch
