"""The training loop: a module fitted to its end, from its last epoch's edge if interrupted."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from compkit.config import RunConfig
from compkit.data.augment import one_thread
from compkit.data.dataset import Draws, Examples
from compkit.files import write_json
from compkit.machine import device_of, precision_of, worker_count
from compkit.training.callbacks import (
    LAST,
    AtomicCheckpoints,
    AveragedWeights,
    FitProgress,
    History,
    KeepBestAndLast,
    Watch,
    Watching,
)


def fit(
    module: pl.LightningModule,
    training: Mapping[str, DataLoader],
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
    keeper, history = KeepBestAndLast(part), History(part / "metrics.csv")
    watching = [Watching(watch)] if watch else []
    trainer = _trainer(config, part, [history, keeper, *watching], label, keeper)
    checkpoint = part / LAST if (part / LAST).exists() else None
    try:
        trainer.fit(module, dict(training), validation, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit of its own; the command decides how it ends.
        raise KeyboardInterrupt from None
    return keeper, history.rows


def drawn(dataset: Examples, batch: int, config: RunConfig) -> DataLoader:
    """Return the loader of an endless draw of a data set's examples, `batch` at a time."""
    workers = worker_count(config.machine)
    steps = config.training.steps_per_epoch
    return DataLoader(
        dataset,
        batch_sampler=Draws(len(dataset), batch, steps, config.seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=one_thread,
        pin_memory=torch.cuda.is_available(),
        # Its own: making an iterator must not move the generator that dropout draws from.
        generator=torch.Generator().manual_seed(0),
    )


def _trainer(
    config: RunConfig, part: Path, kept: list[Callback], label: str, keeper: KeepBestAndLast
) -> pl.Trainer:
    t = config.training
    callbacks: list[Callback] = [FitProgress(label, t.steps, keeper), *kept]
    if t.ema:
        # First: validation, history and checkpoints are of the averaged weights.
        callbacks.insert(0, AveragedWeights(t.ema))
    if t.patience:
        callbacks.append(
            EarlyStopping("score", mode="max", patience=t.patience, check_on_train_epoch_end=True)
        )
    _quiet()
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


def _quiet() -> None:
    """Leave out what Lightning says to people who chose its settings by hand."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
