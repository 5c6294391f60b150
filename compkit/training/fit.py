"""Fit one encoder on one fold, and predict its out-of-fold maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compkit.data.arrays import Ragged
from compkit.data.dataset import labelled_set
from compkit.data.store import Store
from compkit.files import locked
from compkit.folds import ALL
from compkit.heads.base import Head
from compkit.inference.members import write_maps_of
from compkit.leak import inherited, refuse_leak
from compkit.metrics.named import beside
from compkit.models.checkpoint import warm_start
from compkit.progress import say
from compkit.run import FITTED, Run, fold_name, read_fitted
from compkit.training.callbacks import LAST, Watch, draw_curve, finish
from compkit.training.external import external_set, open_external
from compkit.training.loop import drawn, fit
from compkit.training.micro import part_count
from compkit.training.module import SegmentationModule, seed_of
from compkit.training.pseudo import pseudo_labelled


def fit_fold(
    run: Run,
    encoder: str,
    fold: int,
    prefix: str = "",
    watch: Watch | None = None,
    wait: bool = False,
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
        If another process works in the same directory, unless told to wait for it.
    """
    part, label = run.part(encoder, fold), fold_name(encoder, fold)
    with locked(part, f"training {label}", wait):
        if run.is_done(encoder, fold):
            say(f"{prefix}{label}: done (score {read_fitted(part).score:.4f})")
            return
        if not (part / FITTED).is_file():
            finish(part, _fit(run, encoder, fold, f"{prefix}{label}", watch))
        if fold != ALL:
            write_maps_of(run, encoder, fold)


def _fit(run: Run, encoder: str, fold: int, label: str, watch: Watch | None) -> dict[str, Any]:
    """Fit a network and draw its curve; return what ``fit.json`` is to say of it."""
    config, part = run.config, run.part(encoder, fold)
    number = run.folds.k if fold == ALL else fold
    torch.manual_seed(seed_of(config.seed, number, *encoder.encode()))
    begun = (part / LAST).exists()
    start = None if begun else config.model.start_of(encoder, fold)
    seen = run.store.digests(run.folds.train_indices(fold))
    if (other := open_external(config, run.store)) is not None:
        seen += other.digests(other.labelled.tolist())
    if not begun:
        refuse_leak(config, encoder, fold, run.store, run.folds)
        seen += inherited(config, encoder, fold)
    pretrained = not begun and start is None
    module = SegmentationModule(
        config, encoder, run.side, run.ranking, pretrained, seen, run.store.pixels
    )
    if start is not None:
        warm_start(module.network, start)
    crop, stride = config.input.crop, module.network.stride
    if crop and crop % stride:
        # Whole images are not padded so, and statistics of batch normalisation then fit neither.
        say(f"input.crop {crop} is no multiple of {stride}, so crops are padded: another is better")
    training = _training(run, module.head, fold)
    module.parts = part_count(module, training, label)
    if config.machine.compile:
        module.network.model.compile()  # in place, so that tensors keep their names
    keeper, rows = fit(module, training, _validation(run, fold), config, part, label, watch)
    rises = "adaptive_tvmf_dice" in config.loss.terms
    draw_curve(
        rows, fold_name(encoder, fold), part / "curve.png", beside(run.ranking),
        loss="training loss" + "\n(κ grows, so it may rise)" * rises,
    )  # fmt: skip
    scores = {"score": rows[-1]["score"], "best_score": keeper.best_score}
    return scores | {"seconds": round(keeper.seconds, 1)}


def _training(run: Run, head: Head, fold: int) -> dict[str, DataLoader]:
    config, store, u = run.config, run.store, run.config.unlabelled
    labelled = labelled_set(store, run.folds.train_indices(fold).tolist(), config, head)
    loaders = {"labelled": drawn(labelled, config.input.batch, config)}
    if (other := open_external(config, store)) is not None:
        loaders["external"] = drawn(
            external_set(other, config, head), config.external.batch, config
        )
    if u.weight:
        loaders["pseudo"] = drawn(pseudo_labelled(run, head, fold), u.batch, config)
    return loaders


def _validation(run: Run, fold: int) -> DataLoader:
    config, valid = run.config, run.folds.valid_indices(max(fold, 0))
    if (most := config.training.validation_images) is not None and most < len(valid):
        generator = np.random.default_rng(seed_of(config.seed, max(fold, 0)))
        valid = np.sort(generator.choice(valid, most, replace=False))
    # Images of several sizes do not fit into one batch.
    batch = 1 if isinstance(run.store.images, Ragged) else config.inference.batch
    return DataLoader(Labelled(run.store, valid), batch_size=batch)


class Labelled(Dataset[tuple[Tensor, Tensor]]):
    """Images, (H, W) or (H, W, 3), and their label maps, int32 (H, W), read as they are asked for.

    Parameters
    ----------
    store : Store
    indices : ndarray of int, shape (N,)
        Which of its training images.
    """

    def __init__(self, store: Store, indices: np.ndarray) -> None:
        self._store, self._indices = store, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        index = int(self._indices[number])
        image, labels = np.array(self._store.images[index]), self._store.labels_of(index)
        return torch.from_numpy(image), torch.from_numpy(labels.astype(np.int32))
