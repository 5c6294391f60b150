"""Fit one encoder on one fold, and predict its out-of-fold maps."""

from __future__ import annotations

import logging
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from compkit.config import RunConfig
from compkit.data.augment import one_thread
from compkit.data.dataset import Draws, TrainingSet
from compkit.files import locked, read_json, write_json
from compkit.folds import ALL
from compkit.inference.members import write_member_maps
from compkit.machine import device_of, precision_of, worker_count
from compkit.models.checkpoint import warm_start
from compkit.progress import say
from compkit.run import FITTED, Run, fold_name
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
from compkit.training.curve import draw_curve
from compkit.training.module import SegmentationModule, seed_of


def fit_fold(
    run: Run, encoder: str, fold: int, prefix: str = "", watch: Watch | None = None
) -> None:
    """Train one network to its end, from its last epoch's edge if it was interrupted.

    On the fold `ALL` it learns from every labelled image. Its scores are then of the first fold's,
    which it trained on: they show progress, and κ adapts to them, but they promise nothing.

    Writes ``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``curve.png`` and ``environment.json``;
    ``fit.json`` when the fit is over; then the out-of-fold maps ``oof/``. `prefix` goes before its
    name in what people are told. `watch` is called with the number and score of every epoch, and
    may end the fit by raising.

    Raises
    ------
    CompkitError
        If another process works in the same directory.
    """
    part, label = run.part(encoder, fold), fold_name(encoder, fold)
    with locked(part, f"training {label}"):
        if run.is_done(encoder, fold):
            score = read_json(part / FITTED)["score"]
            say(f"{prefix}{label}: done (score {score:.4f})")
            return
        for leftover in part.glob(".*.part"):
            leftover.unlink()  # half of a checkpoint that a kill interrupted; we own the directory
        if not (part / FITTED).is_file():
            keeper = _fit(run, encoder, fold, f"{prefix}{label}", watch)
            result = {"score": keeper.best_score, "seconds": round(keeper.seconds, 1)}
            write_json(part / FITTED, result)
        if fold != ALL:
            write_member_maps(run, encoder, fold, "oof")


def _fit(run: Run, encoder: str, fold: int, label: str, watch: Watch | None) -> KeepBestAndLast:
    config, part = run.config, run.part(encoder, fold)
    number = run.folds.k if fold == ALL else fold
    torch.manual_seed(seed_of(config.seed, number, *encoder.encode()))
    last = part / LAST
    start = None if last.exists() else config.model.start_of(encoder, fold)
    pretrained = not last.exists() and start is None
    module = SegmentationModule(config, encoder, run.side, run.ranking, pretrained)
    if start is not None:
        warm_start(module.network, start)
    write_json(part / "environment.json", _environment())
    crop, stride = config.input.crop, module.network.stride
    if crop and crop % stride:
        # Whole images are not padded so, and statistics of batch normalisation then fit neither.
        say(f"input.crop {crop} is no multiple of {stride}, so crops are padded: another is better")
    keeper, history = KeepBestAndLast(part), History(part / "metrics.csv")
    watching = [Watching(watch)] if watch else []
    trainer = _trainer(config, part, [history, keeper, *watching], label, keeper)
    training, validation = _loaders(run, module, fold)
    checkpoint = last if last.exists() else None
    try:
        trainer.fit(module, training, validation, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit of its own; the command decides how it ends.
        raise KeyboardInterrupt from None
    draw_curve(history.rows, fold_name(encoder, fold), part / "curve.png")
    return keeper


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


def _loaders(run: Run, module: SegmentationModule, fold: int) -> tuple[DataLoader, DataLoader]:
    config, store = run.config, run.store
    train, valid = run.folds.train_indices(fold), run.folds.valid_indices(max(fold, 0))
    dataset = TrainingSet(store, train.tolist(), config, module.head)
    t, workers = config.training, worker_count(config.machine)
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=Draws(len(dataset), config.input.batch, t.steps_per_epoch, config.seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=one_thread,
        pin_memory=torch.cuda.is_available(),
        # Its own: making an iterator must not move the generator that dropout draws from.
        generator=torch.Generator().manual_seed(0),
    )
    images = torch.from_numpy(np.stack([store.images[i] for i in valid]))
    labels = torch.from_numpy(np.stack([store.labels_of(i) for i in valid]).astype(np.int32))
    validation: DataLoader = DataLoader(
        TensorDataset(images, labels), batch_size=config.inference.batch
    )
    return loader, validation


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
