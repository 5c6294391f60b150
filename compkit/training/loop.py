"""The training loop: a module fitted to its end, from its last epoch's edge if interrupted."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from compkit.config import RunConfig, TrainingConfig
from compkit.config.files import FREE, differences
from compkit.data.augment import one_thread
from compkit.data.dataset import Draws, Examples
from compkit.errors import CompkitError
from compkit.failures import sentence_of
from compkit.files import write_json
from compkit.machine import device_of, precision_of, worker_count
from compkit.models.checkpoint import BROKEN, card_of, read_checkpoint, refusing, unreadable
from compkit.progress import say, task
from compkit.schema import checked
from compkit.training.callbacks import (
    HISTORY,
    LAST,
    AtomicCheckpoints,
    AveragedWeights,
    FitProgress,
    History,
    KeepBestAndLast,
    StayStopped,
    Watch,
)

#: What to do about a checkpoint that cannot be gone on from.
_ANEW = "delete it to train this network anew"


def fit(
    module: pl.LightningModule,
    training: Mapping[str, DataLoader[Any]],
    validation: DataLoader,
    config: RunConfig,
    part: Path,
    label: str,
    watch: Watch | None = None,
) -> tuple[KeepBestAndLast, list[dict[str, float]]]:
    """Fit a module that logs ``loss`` in training and ``score`` in validation.

    Writes ``last.ckpt``, ``best.ckpt``, ``metrics.csv`` and ``environment.json`` into `part`, and
    goes on from ``last.ckpt`` if it is there.

    Parameters
    ----------
    training : mapping of str to DataLoader
        Of each a batch is in every step's, by its name.
    label : str
        What the progress bar calls it.
    watch : callable, optional
        Called with the number and score of every epoch; may end the fit by raising.

    Returns
    -------
    keeper : KeepBestAndLast
        Knows the best score, and the seconds that fitting took.
    rows : list of dict
        The history, an epoch a row.
    """
    write_json(part / "environment.json", _environment())
    keeper, history = KeepBestAndLast(part, watch), History(part / HISTORY)
    last = part / LAST
    begun = last.is_file()
    epochs = _epochs_done(last, module, config) if begun else 0
    for loader in training.values():
        # The trainer tells a resumed loader its epoch, too, but only after workers were sent their
        # first examples.
        cast(Draws, loader.sampler).set_epoch(epochs)
    # The bar is closed here, since the trainer tears its callbacks down only where all went well.
    with task(label, config.training.steps) as bar:
        trainer = _trainer(config, part, [FitProgress(bar, keeper), history, keeper])
        try:
            trainer.fit(
                module, dict(training), validation, ckpt_path=last if begun else None,
                weights_only=True,
            )  # fmt: skip
        except SystemExit:
            # Lightning turns Ctrl-C into an exit of its own; the command decides how it ends.
            raise KeyboardInterrupt from None
        except BROKEN as error:
            if not begun or keeper.started or sentence_of(error) is not None:
                raise
            raise unreadable(last, error, _ANEW) from None
    return keeper, history.rows


def _epochs_done(last: Path, module: Any, config: RunConfig) -> int:
    """Return after how many epochs a fit was interrupted, once it is sure that it was this one."""
    checkpoint = read_checkpoint(last, "", _ANEW)
    made = card_of(last, checkpoint, _ANEW)
    with refusing(last, _ANEW):
        epochs = int(checkpoint["epoch"]) + 1
        _require_whole(last, checkpoint, epochs, config.training)
    changed = differences(made.config, config, FREE)
    if made.encoder != module.encoder or changed:
        what = "; ".join(changed) or f"its encoder is {made.encoder}"
        raise CompkitError(f"{last} is of another fit ({what}): {_ANEW}")
    if made.seen is None:
        say(
            f"{last} was begun by an older compkit, all of whose epochs drew the same examples: "
            f"what is left of it draws on; delete {last.parent} to train it from its start"
        )
    elif not set(module.seen) <= set(made.seen):
        raise CompkitError(f"{last} is of another fold, or of other data: {_ANEW}")
    return epochs


def _require_whole(last: Path, checkpoint: dict[str, Any], epochs: int, t: TrainingConfig) -> None:
    """Raise if the trainer would begin anew, in silence, what is missing of a checkpoint."""
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if done != epochs:
        raise ValueError(f"its loop is after {done} epochs, its weights after {epochs}")
    needed = ["optimizer_states", "lr_schedulers", "callbacks"]
    if t.ema:  # without these, the average would begin anew from itself
        needed += ["current_model_state", "averaging_state"]
    for name in needed:
        if not checkpoint[name]:
            raise ValueError(f"{name} is empty")
    if t.optimizer == "adamw" and not checkpoint["optimizer_states"][0]["state"]:
        raise ValueError("the optimiser's state is empty")
    states = {name: checkpoint["callbacks"].get(name) for name in ("KeepBestAndLast", "History")}
    told = checked(_Told, states, f"what callbacks tell in {last}", _ANEW)
    scores = [row["score"] for row in told.History.rows]
    if len(scores) != epochs or told.KeepBestAndLast.best_score != max(scores):
        raise ValueError("its history is not that of its epochs")


@dataclass(frozen=True)
class _Kept:
    best_score: float
    seconds: float


@dataclass(frozen=True)
class _Rows:
    rows: list[dict[str, float]]


@dataclass(frozen=True)
class _Told:
    """States of our callbacks in a checkpoint; the trainer passes over those that are empty."""

    KeepBestAndLast: _Kept
    History: _Rows


def drawn(dataset: Examples, batch: int, config: RunConfig) -> DataLoader:
    """Return the loader of an endless draw of a data set's examples, `batch` at a time."""
    workers = worker_count(config.machine)
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=Draws(len(dataset), config.training.steps_per_epoch * batch, config.seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=one_thread,
        pin_memory=torch.cuda.is_available(),
        # Its own: making an iterator must not move the generator that dropout draws from.
        generator=torch.Generator().manual_seed(0),
    )


def _trainer(config: RunConfig, part: Path, callbacks: list[Callback]) -> pl.Trainer:
    t = config.training
    if t.ema:
        # First: validation, history and checkpoints are of the averaged weights.
        callbacks.insert(0, AveragedWeights(t.ema))
    if t.patience:
        early = EarlyStopping(
            "score", mode="max", patience=t.patience, check_on_train_epoch_end=True
        )
        callbacks += [early, StayStopped(early)]
    # Lightning has much to say to people who chose its settings by hand.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    return pl.Trainer(
        accelerator="gpu" if device_of(config.machine).type == "cuda" else "cpu",
        devices=1,
        precision=precision_of(config.machine),  # type: ignore[arg-type]
        max_epochs=t.steps // t.steps_per_epoch,
        gradient_clip_val=t.clip or None,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(part, name="", version="tensorboard"),
        log_every_n_steps=t.steps_per_epoch,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        use_distributed_sampler=False,
    )


def _environment() -> dict[str, Any]:
    packages = ("compkit", "torch", "timm", "segmentation-models-pytorch", "albumentations")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device or "cpu",
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in packages},
    }
