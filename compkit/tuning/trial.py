"""One trial: settings trained fold by fold, and stopped once they cannot be the best."""

from __future__ import annotations

import time

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from compkit.config import RunConfig
from compkit.config.check import check
from compkit.ensemble.calibrate import calibrate_run, default_scores
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.errors import CompkitError
from compkit.failures import sentence_of
from compkit.metrics.bootstrap import Groups, standard_error
from compkit.progress import say
from compkit.run import Run
from compkit.training.fit import fit_fold
from compkit.tuning.halving import reduced
from compkit.tuning.runs import Runs, digest, fold_scores
from compkit.tuning.settings import configured
from compkit.tuning.space import Space
from compkit.tuning.study import called, told

#: How often settings whose trial was interrupted are tried again.
_RETRIES = 3

#: What is tuned of the decoder in the lower rungs, where all of it would take as long as training;
#: the order of trials hardly depends on the rest.
_QUICKLY = ("fill",)

#: Standard errors by which a trial may lie behind the best one on the folds that are done.
_BEHIND = 2.0


class Objective:
    """The mean over folds of the metric that ranks, of decoded out-of-fold regions.

    The decoder is tuned for each trial, cross-fitted as always. Equal settings share a directory,
    so a trial that was killed goes on where it was.

    Parameters
    ----------
    base : RunConfig
        What the trial's settings are laid over.
    space : Space
    runs : Runs
        Where its run lies, and which folds it is trained on.
    times : int
        How many times less work than the settings say it is trained for (see `reduced`).
    prunes : bool
        Whether it may be stopped early.
    """

    def __init__(
        self, base: RunConfig, space: Space, runs: Runs, times: int = 1, prunes: bool = True
    ) -> None:
        self._base, self._space, self._runs = base, space, runs
        self._times, self._prunes = times, prunes

    def __call__(self, trial: optuna.Trial) -> float:
        try:
            settings = self._space.suggest(trial)
            trial.set_user_attr("settings", settings)
            config = reduced(configured(self._base, settings), self._times, self._runs.side)
            trial.set_user_attr("run", digest(config))
            check(config)
            with self._runs.owned(config) as run:
                return self._score(trial, run)
        except KeyboardInterrupt:
            try_again(trial.study, trial)
            raise
        except optuna.TrialPruned:
            raise
        except Exception as error:
            refused = None if isinstance(error, CompkitError) else sentence_of(error)
            sentence = refused or " ".join(f"{error}".split()) or repr(error)
            trial.set_user_attr("error", sentence)
            say(f"{called(trial.study, trial.number)} failed: {sentence}")
            raise

    def _score(self, trial: optuna.Trial, run: Run) -> float:
        start = time.monotonic()
        epochs = run.config.training.steps // run.config.training.steps_per_epoch
        trial.set_user_attr("epochs", epochs)
        parts = list(run.parts())
        for number, (encoder, fold) in enumerate(parts):

            def watch(epoch: int, score: float, number: int = number, fold: int = fold) -> None:
                trial.report(score, number * epochs + epoch)
                if self._prunes and trial.should_prune():
                    _prune(trial, f"fold {fold}, epoch {epoch}")

            label = f"{called(trial.study, trial.number)}, {number + 1}/{len(parts)}: "
            fit_fold(run, encoder, fold, label, watch)
            images, groups, scores = plain_scores(run)
            last = number + 1 == len(parts)
            if self._prunes and not last and hopeless(trial.study, images, scores, groups):
                _prune(trial, f"fold {fold}")
        decoder = calibrate_run(run, _QUICKLY if self._times > 1 else None)
        by_fold = fold_scores(run, decoder)
        trial.set_user_attr("image_scores", decoder.image_scores[run.ranking])
        trial.set_user_attr("plain_scores", dict(zip(images, scores.tolist(), strict=True)))
        trial.set_user_attr("fold_scores", by_fold)
        trial.set_user_attr("seconds", round(time.monotonic() - start, 1))
        return float(np.mean(by_fold))


def plain_scores(run: Run) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the images out of fold so far, their groups, and scores under default decoding."""
    members = members_of([run], partial=True)
    mixture = Mixture(members)
    images = [image for image in mixture.images if all(image in m.out_of_fold for m in members)]
    groups = run.folds.group[[run.store.train.index(image) for image in images]]
    return images, groups, default_scores(mixture, images)


def hopeless(
    study: optuna.Study, images: list[str], scores: np.ndarray, groups: Groups = None
) -> bool:
    """Tell whether scores lie behind the best trial's on the same images beyond chance."""
    done = [t for t in study.get_trials(deepcopy=False) if "plain_scores" in t.user_attrs]
    if not done:
        return False
    best = max(done, key=lambda t: t.value or 0.0).user_attrs["plain_scores"]
    behind = np.array([best[image] for image in images]) - scores
    return bool(behind.mean() > _BEHIND * standard_error(behind, groups))


def try_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Put the settings of an interrupted trial in line; their run goes on where it was."""
    retries = trial.user_attrs.get("retries", 0) + 1
    if retries <= _RETRIES:
        drawn = trial.params if "settings" in trial.user_attrs else {}  # else all are drawn again
        answers = trial.user_attrs.get("told", {}) | drawn
        told(study, answers, retries=retries, retry_of=trial.number)
        name = called(study, trial.number)
        say(f"{name} was interrupted: its settings go on as another trial")


def _prune(trial: optuna.Trial, where: str) -> None:
    trial.set_user_attr("pruned_at", where)
    raise optuna.TrialPruned(where)
