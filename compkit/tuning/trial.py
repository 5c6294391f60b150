"""The trials of a study: settings trained fold by fold, scored, and stopped by a pruner."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import HyperbandPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState

from compkit.begin import start_run
from compkit.cluster import is_on_ray
from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.ensemble.decoder import Decoder, default_scores, tune_run
from compkit.ensemble.mixture import Member, Mixture, members_of
from compkit.errors import CompkitError, InUseError
from compkit.failures import sentence_of
from compkit.files import locked
from compkit.metrics.bootstrap import mean
from compkit.metrics.named import image_score
from compkit.progress import say, track
from compkit.run import Run
from compkit.schema import digest
from compkit.tasks import each
from compkit.training.fit import fit_fold
from compkit.training.job import check_images
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


@dataclass(frozen=True)
class Runs:
    """Where the runs of a study lie, and which folds take part.

    Attributes
    ----------
    data : str
    directory : Path
        Each run lies in a directory of its settings' digest, so equal settings share one.
    hold_out : int or None
        A fold whose score nothing is chosen by: no network validates on it and no decoder is tuned
        on it before the end. Networks of other folds do train on its images, which tells nothing
        of what it will score.
    """

    data: str
    directory: Path
    hold_out: int | None = None

    @contextmanager
    def owned(self, config: RunConfig, wait: bool = True) -> Iterator[Run]:
        """Yield the run of some settings, once no other process trains it, without the hold-out.

        When it is scored or pruned, its checkpoints go: a study's would fill a disk, and scores are
        of the maps, which stay. After an error or Ctrl-C they stay too, for it may go on.

        Raises
        ------
        InUseError
            If another process trains it and this one is not to wait.
        """
        name = _name_of(config)
        check_images(config, self.data)
        with locked(self.directory / name / "trial", "training these settings", wait):
            run = start_run(name, config, self.data, self.directory)
            try:
                yield replace(run, hold_out=self.hold_out)
            except optuna.TrialPruned:
                _remove_checkpoints(run)
                raise
            _remove_checkpoints(run)

    def evaluated(self, configs: Mapping[str, RunConfig]) -> dict[str, Decoder]:
        """Train what is unfinished, and return the decoders with their out-of-fold scores.

        What another worker trains is left for last, so that several share the work.

        Parameters
        ----------
        configs : mapping of str to RunConfig
            By what people know them as.
        """
        if is_on_ray():
            machine = next(iter(configs.values())).machine
            found = each(self._evaluated, configs.items(), machine)
            tracked = track(found, "training the best again", len(configs))
            return dict(zip(configs, tracked, strict=True))
        decoders: dict[str, Decoder] = {}
        for wait in (False, True):
            for name in [name for name in configs if name not in decoders]:
                with nullcontext() if wait else suppress(InUseError):
                    decoders[name] = self._evaluated(name, configs[name], wait)
        return {name: decoders[name] for name in configs}

    def _evaluated(self, name: str, config: RunConfig, wait: bool = True) -> Decoder:
        with self.owned(config, wait) as run:
            parts = list(run.parts())
            for number, (encoder, fold) in enumerate(parts, start=1):
                fit_fold(run, encoder, fold, f"{name}, {number}/{len(parts)}: ")
            return tune_run(run)

    def held_out(
        self, config: RunConfig, decoder: Decoder, label: str
    ) -> tuple[np.ndarray, list[str]]:
        """Train on all but the hold-out's images, and return the scores of those.

        The last epoch counts, since the best one would be chosen by the score itself. What remains
        is that an adaptive κ and `training.patience` go by the validation while it trains.

        Parameters
        ----------
        decoder : Decoder
            Tuned on the other folds.

        Returns
        -------
        scores : ndarray of float64, shape (N,)
            The metric that ranks.
        groups : list of N str
            The group of each image.
        """
        assert self.hold_out is not None
        last = replace(config, inference=replace(config.inference, checkpoint="last"))
        with self.owned(last) as run:
            for encoder, fold in run.parts(fold=self.hold_out):
                fit_fold(run, encoder, fold, f"{label}, hold-out: ")
            whole = replace(run, hold_out=None)
            mixture = Mixture([Member(whole, encoder) for encoder in config.encoders])
            scores, indices = [], run.folds.valid_indices(self.hold_out).tolist()
            for index in indices:
                truth = run.store.truth_of(index)
                maps = mixture.out_of_fold(run.store.train[index])
                regions = mixture.head.decode(maps, decoder.params, truth.shape[-2:])
                scores.append(image_score(truth, regions, run.ranking))
            return np.array(scores), [str(group) for group in run.folds.group[indices]]


@dataclass
class Objective:
    """The mean over folds of the metric that ranks, of decoded out-of-fold regions.

    The decoder is tuned for each trial, cross-fitted as always. Equal settings share a directory,
    so a trial that was killed goes on where it was.

    Attributes
    ----------
    space : Space
    runs : Runs
        Where its run lies, and which folds it is trained on.
    pruner : str
        As `make_pruner` knows it; it decides what is reported to Optuna.
    """

    space: Space
    runs: Runs
    pruner: str

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
        outside = is_base(trial) and self.space.params_of_base() is None
        settings = {} if outside else self.space.suggest(trial)
        trial.set_user_attr("settings", settings)
        config = configured(self.space.base, settings)
        trial.set_user_attr("run", _name_of(config))
        with self.runs.owned(config) as run:
            return self._score(trial, run)

    def _score(self, trial: optuna.Trial, run: Run) -> float:
        start, epochs, parts = time.monotonic(), _epochs(run.config), list(run.parts())
        for number, (encoder, fold) in enumerate(parts):

            def watch(epoch: int, score: float, before: int = number * epochs) -> None:
                if self.pruner in BY_EPOCH:
                    _report(trial, {before + epoch: score}, prune=True)

            label = f"trial {trial.number}, {number + 1}/{len(parts)}: "
            fit_fold(run, encoder, fold, label, watch)
            rest = [other for _, other in parts[number + 1 :]]
            if self.pruner == "wilcoxon" and fold not in rest:
                _report(trial, group_scores(run), prune=bool(rest))
        decoder = tune_run(run)
        by_fold = _fold_scores(run, decoder)
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


def _remove_checkpoints(run: Run) -> None:
    for checkpoint in run.directory.rglob("*.ckpt"):
        checkpoint.unlink()


def _fold_scores(run: Run, decoder: Decoder) -> list[float]:
    """Return the mean of the metric that ranks over each fold's images."""
    scores = np.array(decoder.image_scores[run.ranking])
    folds = run.folds.fold[[run.store.train.index(image) for image in decoder.image_names]]
    return [float(mean(scores[folds == fold])) for fold in np.unique(folds)]


def _name_of(config: RunConfig) -> str:
    """Return what runs of equal settings are called, the machine's aside."""
    return digest({k: v for k, v in to_plain(config).items() if k != "machine"})[:12]
