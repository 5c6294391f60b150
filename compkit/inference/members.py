"""What trained networks predict; and on disk what each did of the images that it did not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from compkit.cluster import is_on_ray
from compkit.config import InferenceConfig, MachineConfig, RunConfig
from compkit.config.files import FREE, differences
from compkit.data.arrays import shapes_of
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import ALL
from compkit.inference.maps import Maps, Origin, read_maps, write_maps
from compkit.inference.predict import Predictor, batches, mean_of
from compkit.machine import autocast, device_of
from compkit.models.checkpoint import again, load_checkpoint, read_card, weights_digest
from compkit.progress import say, track
from compkit.resample import seen
from compkit.run import Run, fold_name, read_fitted
from compkit.tasks import each


def maps_of(run: Run, encoder: str, fold: int) -> Maps:
    """Open the out-of-fold maps of one network: of the images that validated it.

    They are predicted if they are not there, or are of another origin: of another checkpoint,
    views, tiles or data. What is found damaged is said and predicted anew, as long as there is a
    checkpoint to predict it with.

    Raises
    ------
    CompkitError
        If they cannot be predicted, or the checkpoint is not what was trained here.
    """
    maps = _current(run, encoder, fold)
    if maps is None:
        # Others may ask for the same maps at the time.
        with locked(run.part(encoder, fold), "predicting", wait=True):
            maps = write_maps_of(run, encoder, fold)
    return maps


def write_maps_of(run: Run, encoder: str, fold: int) -> Maps:
    """Do as `maps_of` for the process that holds the lock of the network's directory."""
    if (maps := _current(run, encoder, fold, tell=False)) is not None:
        return maps
    part, config, made = run.part(encoder, fold), run.config, _origin(run, encoder, fold)
    directory, path = part / "oof", checkpoint_of(part, config)  # which `_origin` proved
    networks = Networks((path,), config.inference, config.machine)
    indices = run.folds.valid_indices(fold).tolist()
    stacks = batches((run.store.images[i] for i in indices), config.inference.batch)
    maps_by_image = (one for (maps,) in predicted([networks], stacks) for one in maps)
    label = f"out-of-fold maps of {fold_name(encoder, fold)}"
    tracked = track(maps_by_image, label, len(indices))
    names = [run.store.train[i] for i in indices]
    write_maps(directory, names, run.head().maps, tracked, made)
    return read_maps(directory)


def _current(run: Run, encoder: str, fold: int, tell: bool = True) -> Maps | None:
    """Return maps if they are what would be predicted now; tell if they are not."""
    directory, store = run.part(encoder, fold) / "oof", run.store
    if not directory.is_dir():
        return None
    reason = f"{directory} was made with other weights, views or data"
    indices, origin = run.folds.valid_indices(fold).tolist(), _origin(run, encoder, fold)
    try:
        maps = read_maps(directory)
        channels, shapes = run.head().maps, shapes_of(store.images)
        grids = [(len(channels), *seen(tuple(shapes[i]), run.config.input.size)) for i in indices]
        wanted = (tuple(store.train[i] for i in indices), channels, grids, origin)
        made = maps.made
        if made.data != origin.data and store.is_of(made.data):
            made = replace(made, data=origin.data)  # by an older compkit, of training and test
        if (maps.images, maps.channels, maps.grids, made) == wanted:
            return maps
    except CompkitError as error:
        if not checkpoint_of(run.part(encoder, fold), run.config).is_file():
            raise
        reason = str(error)
    if tell:
        say(f"predicting anew: {reason}")
    return None


@dataclass(frozen=True)
class Networks:
    """Networks whose maps are averaged: their checkpoints, and how and where they predict."""

    paths: tuple[Path, ...]
    inference: InferenceConfig
    machine: MachineConfig

    def __reduce__(self) -> tuple[Any, ...]:
        # Another machine loads them by itself, onto its own device.
        return Networks, (self.paths, self.inference, self.machine)

    @cached_property
    def predictors(self) -> list[Predictor]:
        """One for each checkpoint, on the device."""
        return [self._predictor(path) for path in self.paths]

    def _predictor(self, path: Path) -> Predictor:
        network, head, made = load_checkpoint(path)
        network = network.to(device_of(self.machine))
        return Predictor(network, head, self.inference.views, made.input.size, self.inference.tile)


def predicted(
    members: Sequence[Networks], stacks: Iterable[np.ndarray]
) -> Iterator[list[np.ndarray]]:
    """Yield the mean maps (N, M, h, w) of each member's networks, of every stack of images.

    On a Ray cluster, each stack (N, H, W) is a task.
    """
    work = ((tuple(members), stack) for stack in stacks)
    return each(_predicted_there if is_on_ray() else _predicted, work, members[0].machine)


def _predicted(members: Sequence[Networks], images: np.ndarray) -> list[np.ndarray]:
    found = []
    for networks in members:
        with autocast(networks.machine):
            found.append(mean_of(networks.predictors, images))
    return found


def _predicted_there(members: tuple[Networks, ...], images: np.ndarray) -> list[np.ndarray]:
    return _predicted(_last(members), images)


@lru_cache(maxsize=1)
def _last(members: tuple[Networks, ...]) -> tuple[Networks, ...]:
    """Return the members of the last call if they are these: they are loaded already."""
    return members


def checkpoint_of(part: Path, config: RunConfig) -> Path:
    """Return the file, in one network's directory, that predicts."""
    # What was trained on all images has not been validated: its best epoch is not known.
    kept = "last" if part.name == "all" else config.inference.checkpoint
    return part / f"{kept}.ckpt"


def _origin(run: Run, encoder: str, fold: int) -> Origin:
    """Return what a network's out-of-fold maps are made from."""
    path, inference = proven(run, encoder, fold), run.config.inference
    return Origin(trained_weights(path), run.store.content, inference.views, inference.tile)


def proven(run: Run, encoder: str, fold: int) -> Path:
    """Return the checkpoint of a network, which may have gone; refuse one not trained here."""
    path = checkpoint_of(run.part(encoder, fold), run.config)
    trained_weights(path)
    if path.is_file():
        _refuse_stranger(run, encoder, fold, path)
    return path


def _refuse_stranger(run: Run, encoder: str, fold: int, path: Path) -> None:
    """Refuse a checkpoint of another network, or one that has seen what validates its fold."""
    made = read_card(path)
    if (made.encoder, made.side) != (encoder, run.side):
        raise CompkitError(
            f"{path} is of {made.encoder} on images of {made.side} pixels, not of {encoder} on "
            f"{run.side}: put the one back that was trained there"
        )
    refuse_other_settings(path, run.config, run.directory)
    if fold != ALL and made.seen is not None:
        # A split made by hand may part exact copies, of which one is to be seen and one is not.
        own = run.store.digests(run.folds.train_indices(fold))
        valid = set(run.store.digests(run.folds.valid_indices(fold))) - set(own)
        if not valid.isdisjoint(made.seen):
            raise CompkitError(
                f"{path} was trained on images that validate fold {fold}: put back whichever was "
                f"changed, it or {run.directory / 'folds.csv'}"
            )


def refuse_other_settings(path: Path, config: RunConfig, directory: Path) -> None:
    """Raise a CompkitError if a checkpoint was trained with other settings than its run's."""
    if changed := differences(read_card(path).config, config, FREE):
        raise CompkitError(
            f"{path} was trained with another configuration than {directory / 'config.yaml'} "
            f"({'; '.join(changed)}): put back whichever of them was changed"
        )


def trained_weights(path: Path) -> str:
    """Return the digest of a network's weights, known though the checkpoint may have gone.

    Raises
    ------
    CompkitError
        If it is not the checkpoint that was trained there; or if it is absent and unknown.
    """
    known = (read_fitted(path.parent).checkpoints or {}).get(path.name)
    found = weights_digest(path) if path.is_file() else known
    if found is None:
        raise CompkitError(f"there is no checkpoint {path}: {again(path)}")
    if known is not None and found != known:
        raise CompkitError(
            f"{path} is not the checkpoint that was trained there: put that one back, or "
            f"{again(path)}"
        )
    return found
