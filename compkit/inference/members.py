"""What trained networks predicted, one by one or in the mean of an encoder's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

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

#: Out-of-fold maps are of the images that validated the network, test maps of all test images, and
#: unlabelled ones of all training images without labels.
Kind = Literal["oof", "test", "unlabelled"]


def maps_of(run: Run, encoder: str, folds: Sequence[int], kind: Kind) -> Maps:
    """Open the maps of one network, or the mean of those of several of an encoder.

    They are predicted if they are not there, or are of another origin: of other checkpoints,
    views, tiles or data. What is found damaged is said and predicted anew, as long as there are
    checkpoints to predict it with. Of a mean nothing is written but itself.

    Raises
    ------
    CompkitError
        If they cannot be predicted, or a checkpoint is not what was trained here.
    """
    maps = _current(run, encoder, folds, kind)
    if maps is None:
        # Others may ask for the same maps at the time.
        with locked(_place(run, encoder, folds), "predicting", wait=True):
            maps = write_maps_of(run, encoder, folds, kind)
    return maps


def write_maps_of(run: Run, encoder: str, folds: Sequence[int], kind: Kind) -> Maps:
    """Do as `maps_of` for the process that holds the lock of the maps' directory."""
    if (maps := _current(run, encoder, folds, kind, tell=False)) is not None:
        return maps
    directory, store, config = _place(run, encoder, folds) / kind, run.store, run.config
    made = _origin(run, encoder, folds, kind)
    paths = tuple(checkpoint_of(run.part(encoder, k), config) for k in folds)
    networks = Networks(paths, config.inference, config.machine)
    pixels = store.test_images if kind == "test" else store.images
    indices, names = _images(run, folds[0], kind)
    stacks = batches((pixels[i] for i in indices), config.inference.batch)
    maps_by_image = (one for (maps,) in predicted([networks], stacks) for one in maps)
    whose = fold_name(encoder, folds[0]) if len(folds) == 1 else f"{len(folds)} {encoder}"
    tracked = track(maps_by_image, f"{kind} maps of {whose}", len(names))
    write_maps(directory, names, run.head().maps, tracked, made)
    return read_maps(directory)


def _place(run: Run, encoder: str, folds: Sequence[int]) -> Path:
    """Return where maps of these networks lie: of one in its directory, else in the encoder's."""
    return run.part(encoder, folds[0]) if len(folds) == 1 else run.directory / encoder


def _current(
    run: Run, encoder: str, folds: Sequence[int], kind: Kind, tell: bool = True
) -> Maps | None:
    """Return maps if they are what would be predicted now; tell if they are not."""
    directory = _place(run, encoder, folds) / kind
    if not directory.is_dir():
        return None
    reason = f"{directory} was made with other weights, views or data"
    names, origin = tuple(_images(run, folds[0], kind)[1]), _origin(run, encoder, folds, kind)
    try:
        maps = read_maps(directory)
        channels = run.head().maps
        shapes = shapes_of(run.store.test_images if kind == "test" else run.store.images)
        grids = [
            (len(channels), *seen(tuple(shapes[i]), run.config.input.size))
            for i in _images(run, folds[0], kind)[0]
        ]
        wanted = (names, channels, grids, origin)
        made = maps.made
        if made.data != origin.data and run.store.is_of(made.data):
            made = replace(made, data=origin.data)  # by an older compkit, of training and test
        if (maps.images, maps.channels, maps.grids, made) == wanted:
            return maps
        tell = tell and (kind != "test" or made.data == origin.data)  # another test is no fault
    except CompkitError as error:
        if not all(checkpoint_of(run.part(encoder, k), run.config).is_file() for k in folds):
            raise
        reason = str(error)
    if tell:
        say(f"predicting anew: {reason}")
    return None


def _images(run: Run, fold: int, kind: Kind) -> tuple[list[int], list[str]]:
    """Return which images maps are of: their numbers among training or test images, and names."""
    store = run.store
    if kind == "test":
        return list(range(len(store.test))), list(store.test)
    chosen = store.unlabelled if kind == "unlabelled" else run.folds.valid_indices(fold)
    return chosen.tolist(), [store.train[i] for i in chosen]


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


def _origin(run: Run, encoder: str, folds: Sequence[int], kind: Kind) -> Origin:
    """Return what maps of networks are made from; refuse one that was not trained here."""
    found = []
    for fold in folds:
        path = checkpoint_of(run.part(encoder, fold), run.config)
        found.append(trained_weights(path))
        if path.is_file():
            _refuse_stranger(run, encoder, fold, path)
    inference, store = run.config.inference, run.store
    data = store.test_content if kind == "test" else store.content
    return Origin("+".join(found), data, inference.views, inference.tile)


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
                f"{path} was trained on images that validate fold {fold}: put the one back that "
                "was trained there"
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
