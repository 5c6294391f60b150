"""One trial: settings trained fold by fold, and stopped once they cannot be the best."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from compkit.config import RunConfig
from compkit.config_check import check
from compkit.config_files import to_plain
from compkit.ensemble.calibrate import calibrate_run
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.selection import Candidates
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.progress import say
from compkit.run import Run, start_run
from compkit.training.fit import fit_fold
from compkit.tuning.settings import configured
from compkit.tuning.space import Space

#: Seconds that a worker may take from a trial's beginning to its lock.
_STARTING = 2.0

#: How often settings whose trial was interrupted are tried again.
_RETRIES = 3

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
    data : str
    directory : Path
        Where the trials' runs lie.
    """

    def __init__(self, base: RunConfig, space: Space, data: str, directory: Path) -> None:
        self._base, self._space, self._data, self._directory = base, space, data, directory

    def __call__(self, trial: optuna.Trial) -> float:
        with locked(_place(self._directory, trial.number), f"running trial {trial.number}"):
            trial.set_user_attr("host", gethostname())
            settings = self._space.suggest(trial)
            config = configured(self._base, settings)
            name = digest(config)
            trial.set_user_attr("settings", settings)
            trial.set_user_attr("run", name)
            try:
                check(config)
                with locked(self._directory / name / "trial", "trying these settings", wait=True):
                    return self._score(trial, start_run(name, config, self._data, self._directory))
            except KeyboardInterrupt:
                try_again(trial.study, trial)
                raise
            except optuna.TrialPruned:
                raise
            except Exception as error:
                sentence = " ".join(f"{error}".split()) or repr(error)
                trial.set_user_attr("error", sentence)
                say(f"trial {trial.number} failed: {sentence}")
                raise

    def _score(self, trial: optuna.Trial, run: Run) -> float:
        start = time.monotonic()
        epochs = run.config.training.steps // run.config.training.steps_per_epoch
        parts = list(run.parts())
        for number, (encoder, fold) in enumerate(parts):

            def watch(epoch: int, score: float, number: int = number, fold: int = fold) -> None:
                trial.report(score, number * epochs + epoch)
                if trial.should_prune():
                    _prune(trial, f"fold {fold}, epoch {epoch}")

            fit_fold(
                run, encoder, fold, f"trial {trial.number}, {number + 1}/{len(parts)}: ", watch
            )
            images, scores = plain_scores(run)
            if number + 1 < len(parts) and hopeless(trial.study, images, scores):
                _prune(trial, f"fold {fold}")
        decoder = calibrate_run(run)
        honest = np.array(decoder.image_scores[run.ranking])
        folds = run.folds.fold[[run.store.train.index(image) for image in decoder.image_names]]
        by_fold = [float(honest[folds == fold].mean()) for fold in range(run.folds.k)]
        trial.set_user_attr("image_scores", honest.tolist())
        trial.set_user_attr("plain_scores", dict(zip(images, scores.tolist(), strict=True)))
        trial.set_user_attr("fold_scores", by_fold)
        trial.set_user_attr("seconds", round(time.monotonic() - start, 1))
        return float(np.mean(by_fold))


def plain_scores(run: Run) -> tuple[list[str], np.ndarray]:
    """Return the images out of fold so far, and their scores under default decoding."""
    members = members_of([run], partial=True)
    images = [
        image for image in Mixture(members).images if all(image in m.out_of_fold for m in members)
    ]
    equal = (1.0,) * len(members)
    return images, Candidates(members, equal, images)([equal])[0]


def hopeless(study: optuna.Study, images: list[str], scores: np.ndarray) -> bool:
    """Tell whether scores lie behind the best trial's on the same images beyond chance."""
    done = [t for t in study.get_trials(deepcopy=False) if "plain_scores" in t.user_attrs]
    if not done:
        return False
    best = max(done, key=lambda t: t.value or 0.0).user_attrs["plain_scores"]
    behind = np.array([best[image] for image in images]) - scores
    return bool(behind.mean() > _BEHIND * behind.std() / len(behind) ** 0.5)


def digest(config: RunConfig) -> str:
    """Return what runs of equal settings are called, the machine's aside."""
    values: dict[str, Any] = {k: v for k, v in to_plain(config).items() if k != "machine"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def is_dead(trial: FrozenTrial, directory: Path) -> bool:
    """Tell whether a running trial's worker was one of this machine and has gone."""
    started = trial.datetime_start
    if started is None or (datetime.now() - started).total_seconds() < _STARTING:
        return False
    if trial.user_attrs.get("host", gethostname()) != gethostname():
        return False
    try:
        with locked(_place(directory, trial.number), "looking for a dead trial"):
            return True
    except CompkitError:
        return False


def try_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Put the settings of an interrupted trial in line; their run goes on where it was."""
    retries = trial.user_attrs.get("retries", 0) + 1
    if retries <= _RETRIES:
        study.enqueue_trial(trial.params, {"retries": retries, "retry_of": trial.number})
        say(f"trial {trial.number} was interrupted: its settings go on as another trial")


def _place(directory: Path, number: int) -> Path:
    """Return what the process that runs a trial locks, as long as it lives."""
    return directory / "workers" / str(number)


def _prune(trial: optuna.Trial, where: str) -> None:
    trial.set_user_attr("pruned_at", where)
    raise optuna.TrialPruned(where)
