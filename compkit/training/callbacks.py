"""What happens around training: averaged weights, checkpoints, history and its curve, progress."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping, WeightAveraging
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from compkit.errors import CompkitError
from compkit.files import replacing
from compkit.metrics.rand import METRICS
from compkit.models.checkpoint import CARD, weights_digest
from compkit.progress import Task
from compkit.run import FITTED
from compkit.schema import write_record

#: Checkpoints of one network: for prediction, and for resuming.
BEST, LAST = "best.ckpt", "last.ckpt"

#: The history of a fit, an epoch a row.
HISTORY = "metrics.csv"

#: Called with the number and the score of an epoch; may end the fit by raising.
Watch = Callable[[int, float], None]


class AveragedWeights(WeightAveraging):
    """An exponential moving average of the weights, used for validation and kept in checkpoints.

    The decay warms up as (1 + n) / (10 + n) over updates n, so that short runs do not average in
    their random start.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._average_model is not None
        both = zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True)
        kinds: dict[bool, list[tuple[Tensor, Tensor]]] = {}
        for averaged, current in both:  # a step averages all tensors of a kind together
            pair = averaged.detach(), current.detach()
            kinds.setdefault(averaged.is_floating_point(), []).append(pair)
        self._pairs = [
            (list(a), list(c)) for a, c in (zip(*k, strict=True) for k in kinds.values())
        ]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Average as the base does, but by the trainer's count: the base waits for the GPU's."""
        assert self._average_model is not None
        n = trainer.global_step - 1
        average = get_ema_multi_avg_fn(min(self._decay, (1 + n) / (10 + n)) if n else 0.0)
        for averaged, current in self._pairs:
            average(averaged, current, n)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written aside and then moved: a kill leaves the old or the new.

    ``best.ckpt`` holds what predicts alone.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        path = Path(path)
        packed = _packed(_predicting(checkpoint) if path.name == BEST else checkpoint)
        with replacing(path) as temporary:
            temporary.write_bytes(packed)


def finish(part: Path, result: dict[str, Any]) -> None:
    """Write ``fit.json`` of a fit that is over; of ``last.ckpt`` keep what predicts, a quarter."""
    last = part / LAST
    digests = {name: weights_digest(part / name) for name in (BEST, LAST)}
    kept = _packed(_predicting(torch.load(last, map_location="cpu", weights_only=True)))
    with replacing(last) as temporary:
        temporary.write_bytes(kept)
        # Not before it is whole, since what is over is not gone on with where a disk is full.
        write_record(part / FITTED, result | {"checkpoints": digests})


def _predicting(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {key: checkpoint[key] for key in ("state_dict", CARD)}


def _packed(checkpoint: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getbuffer()


class KeepBestAndLast(Checkpoint):
    """Save ``best.ckpt`` when the score is a new best, and ``last.ckpt``, at every epoch's edge.

    Paths are not part of its state, so a run may be moved between machines and resumed.

    Parameters
    ----------
    directory : Path
    watch : callable, optional
        Told of every epoch once it is saved: of callbacks, the trainer calls those that write
        checkpoints last, in whatever order they are given.
    """

    def __init__(self, directory: Path, watch: Watch | None = None) -> None:
        self.best_score = float("-inf")
        self.seconds = 0.0  # of fitting, over all sessions
        self.started = False
        self._directory, self._watch = directory, watch
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started, self._since = True, time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        score = float(trainer.callback_metrics["score"])
        if score > self.best_score:
            self.best_score = score
            trainer.save_checkpoint(self._directory / BEST)
        trainer.save_checkpoint(self._directory / LAST)
        if self._watch is not None:
            self._watch(trainer.current_epoch + 1, score)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.seconds = state_dict["best_score"], state_dict["seconds"]


class StayStopped(Callback):
    """Add no epoch to a fit that was stopped early, but killed before it was over.

    The trainer forgets that it was to stop; what stops it does not.
    """

    def __init__(self, early: EarlyStopping) -> None:
        self._early = early

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self._early.stopped_epoch > 0


class History(Callback):
    """One row an epoch in ``metrics.csv``, and in the checkpoint, so resuming repeats none."""

    def __init__(self, path: Path) -> None:
        self.rows: list[dict[str, float]] = []
        self._path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        if not math.isfinite(metrics["loss"]):
            raise CompkitError(
                f"the loss is not finite by step {trainer.global_step}: "
                "lower training.lr, clip gradients, or train at machine.precision 32"
            )
        self.rows.append(row | metrics)
        with replacing(self._path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def steps_done(part: Path) -> int:
    """Return after how many steps the last epoch of one network's directory ended."""
    path = part / HISTORY
    return int(pd.read_csv(path)["step"].iloc[-1]) if path.is_file() else 0


class FitProgress(Callback):
    """The progress of one fit in optimiser steps, with the last and the best score.

    An epoch's last step counts once it is validated, so that its score stands beside it.
    """

    def __init__(self, bar: Task, keeper: KeepBestAndLast) -> None:
        self._bar, self._keeper = bar, keeper

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.skip(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.is_last_batch:
            self._bar.advance()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = float(trainer.callback_metrics["score"])
        best = max(score, self._keeper.best_score)
        self._bar.advance(1, f"score {score:.4f} (best {best:.4f})")


def draw_curve(
    rows: Sequence[dict[str, float]],
    title: str,
    path: Path,
    names: Sequence[str] = METRICS,
    label: str = "score on the validation fold",
    loss: str = "training loss",
) -> None:
    """Draw training loss and validation scores against optimiser steps into a PNG.

    `names` are those of the scores in `rows`; `label` and `loss` say what is drawn.
    """
    history = pd.DataFrame(rows)
    figure = Figure(figsize=(8, 3), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    figure.suptitle(title)
    losses.plot(history["step"], history["loss"], marker=".")
    losses.set(xlabel="step", ylabel=loss)
    for name in names:
        scores.plot(history["step"], history[name], marker=".", label=name)
    scores.set(xlabel="step", ylabel=label, ylim=(0, 1))
    scores.legend(loc="lower right", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
