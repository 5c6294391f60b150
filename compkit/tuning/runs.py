"""The runs of a study: named by their settings, trained on the folds that take part, scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna import TrialPruned

from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.ensemble.decoder import Decoder
from compkit.ensemble.members import Member
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.tuned import tune_run
from compkit.errors import InUseError
from compkit.files import locked
from compkit.metrics.bootstrap import mean
from compkit.metrics.named import image_score
from compkit.run import Run, start_run
from compkit.training.fit import fit_fold


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
        name = digest(config)
        with locked(self.directory / name / "trial", "training these settings", wait):
            run = start_run(name, config, self.data, self.directory)
            try:
                yield replace(run, hold_out=self.hold_out)
            except TrialPruned:
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
        decoders: dict[str, Decoder] = {}
        for wait in (False, True):
            for name in [name for name in configs if name not in decoders]:
                others = nullcontext() if wait else suppress(InUseError)
                with others, self.owned(configs[name], wait) as run:
                    parts = list(run.parts())
                    for number, (encoder, fold) in enumerate(parts, start=1):
                        fit_fold(run, encoder, fold, f"{name}, {number}/{len(parts)}: ")
                    decoders[name] = tune_run(run)
        return {name: decoders[name] for name in configs}

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
                truth = run.store.labels_of(index)
                maps = mixture.out_of_fold(run.store.train[index])
                regions = mixture.head.decode(maps, decoder.params, truth.shape)
                scores.append(image_score(truth, regions, run.ranking))
            return np.array(scores), [str(group) for group in run.folds.group[indices]]


def _remove_checkpoints(run: Run) -> None:
    for checkpoint in run.directory.rglob("*.ckpt"):
        checkpoint.unlink()


def fold_scores(run: Run, decoder: Decoder) -> list[float]:
    """Return the mean of the metric that ranks over each fold's images; trials score its mean."""
    scores = np.array(decoder.image_scores[run.ranking])
    folds = run.folds.fold[[run.store.train.index(image) for image in decoder.image_names]]
    return [float(mean(scores[folds == fold])) for fold in np.unique(folds)]


def digest(config: RunConfig) -> str:
    """Return what runs of equal settings are called, the machine's aside."""
    values: dict[str, Any] = {k: v for k, v in to_plain(config).items() if k != "machine"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
