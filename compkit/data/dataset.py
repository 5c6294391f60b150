"""Training examples, each a function of the seed, its place in the draw, and its image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from compkit.config import RunConfig
from compkit.data.augment import Augment
from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.heads.base import Head
from compkit.regions import numbered
from compkit.resample import channels_first, seen, shrunk, shrunk_labels


class Batch(TypedDict):
    """One training batch.

    images, float32 (N, C, H, W) in 0…1; labels, int32 (N, H, W); targets, float32 (N, T, H, W), as
    the head made them; weights, float32 (N, 1, H, W), how much each pixel counts.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    weights: Tensor


#: A place in the endless draw of training images, and the image drawn there.
Draw = tuple[int, int]


class Draws(Sampler[Draw]):
    """An endless draw of images, each image once a round, in a seeded order; an epoch at a time.

    Which image stands at which place depends on the seed and the place alone, so training resumed
    at an epoch's edge sees what it would have seen. It is the loader's ``sampler``, not its
    ``batch_sampler``, since the trainer tells the epoch to that one alone.

    Parameters
    ----------
    images, epoch : int
        How many images there are, and how many draws an epoch has.
    seed : int
    """

    def __init__(self, images: int, epoch: int, seed: int) -> None:
        self._images, self._length, self._seed = images, epoch, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields; the trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        first, order = self._epoch * self._length, np.empty(0, np.int64)
        for place in range(first, first + self._length):
            round_, position = divmod(place, self._images)
            if place == first or position == 0:
                order = np.random.default_rng((self._seed, round_)).permutation(self._images)
            yield place, int(order[position])


class Examples(Dataset[Any], Sized):
    """Examples by `Draw`: each a function of its place in the draw and its image alone.

    Parameters
    ----------
    images : iterable of ndarray of uint8 or uint16, shape (H, W) or (H, W, 3)
    config : RunConfig
    stream : int
        Tells apart sets whose examples at one place are changed independently.

    Attributes
    ----------
    images : list of ndarray
        As the network sees them.
    augment : Augment
    """

    def __init__(self, images: Iterable[np.ndarray], config: RunConfig, stream: int) -> None:
        self.images = as_seen(images, config)
        side = seen_side((image.shape for image in self.images), config)
        self.augment = Augment(config.augment, side, config.input.crop, config.input.focus)
        self._seed, self._stream = config.seed, stream

    def __len__(self) -> int:
        return len(self.images)

    def seed(self, place: int, number: int = 0) -> int:
        """Return one of the seeds of a place: 31 bits, as augmentations' generators take them."""
        key = (self._seed, place, self._stream)
        return int(np.random.SeedSequence(key).generate_state(number + 1)[number] >> 1)


def seen_side(shapes: Iterable[tuple[int, ...]], config: RunConfig) -> int:
    """Return the median longer side of images whose shapes a network sees.

    Raises
    ------
    CompkitError
        If they cannot be in one batch.
    """
    found = [shape[:2] for shape in shapes]
    if len(set(found)) > 1 and config.input.crop is None:
        raise CompkitError(
            "images differ in size, so that a batch of whole ones cannot be: give input.crop, for "
            f"instance {min(map(min, found))}, the smallest side"
        )
    return int(np.median([max(shape) for shape in found]))


def shown_side(side: int, config: RunConfig) -> int:
    """Return the side of what a network is shown in training: of whole images, or of a crop.

    Raises
    ------
    CompkitError
        If a crop would be larger than the images, whose side as seen is `side`.
    """
    crop = config.input.crop
    if crop is not None and crop > side:
        raise CompkitError(
            f"input.crop is {crop}, but the images are {side} pixels wide: make it smaller"
        )
    return crop or side


def as_seen(images: Iterable[np.ndarray], config: RunConfig) -> list[np.ndarray]:
    """Return images at the size that the network sees."""
    return [shrunk(np.asarray(one), seen(one.shape, config.input.size)) for one in images]


class Packed(Sequence[np.ndarray]):
    """Label maps held as PNGs, in a fiftieth of the memory.

    Parameters
    ----------
    files : sequence of bytes
        Of each what `packed` made of it.
    """

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return cv2.imdecode(np.frombuffer(self._files[index], np.uint8), cv2.IMREAD_UNCHANGED)


def packed(labels: np.ndarray) -> bytes:
    """Return a label map, uint8 or uint16 (H, W), as a PNG."""
    return cv2.imencode(".png", labels)[1].tobytes()


class TrainingSet(Examples):
    """Images with label maps, augmented: those of one fold, or labelled by another network.

    Parameters
    ----------
    images : iterable of ndarray, shape (H, W) or (H, W, 3)
        Of uint8 or uint16.
    labels : sequence of ndarray of uint8 or uint16, shape (h, w)
        Region ids, of the images as the network sees them.
    config : RunConfig
    head : Head
        Makes the targets.
    known : sequence of ndarray of uint8, shape (h, w), optional
        How much the labels count, up to 255; as much everywhere by default.
    stream : int
        As of `Examples`.
    """

    def __init__(
        self,
        images: Iterable[np.ndarray],
        labels: Sequence[np.ndarray],
        config: RunConfig,
        head: Head,
        known: Sequence[np.ndarray] | None = None,
        stream: int = 0,
    ) -> None:
        super().__init__(images, config, stream)
        shapes = [(image.shape[0], image.shape[1]) for image in self.images]
        everywhere = {shape: np.full(shape, 255, np.uint8) for shape in set(shapes)}
        self._labels, self._head = labels, head
        self._known = [everywhere[shape] for shape in shapes] if known is None else known

    def __getitem__(self, key: Draw) -> Batch:
        place, index = key
        image = self.images[index]
        if image.dtype == np.uint16:  # of which albumentations knows next to nothing
            image = image.astype(np.float32) / np.float32(65535)
        white = np.float32(1 if image.dtype == np.float32 else 255)
        image, labels, known = self.augment(
            image, self._labels[index], self._known[index], self.seed(place)
        )
        return {
            "images": torch.from_numpy(np.ascontiguousarray(channels_first(image)) / white),
            "labels": torch.from_numpy(labels.astype(np.int32)),
            "targets": torch.from_numpy(self._head.targets(labels)),
            "weights": torch.from_numpy(known[None].astype(np.float32) / np.float32(255)),
        }


def narrow(labels: np.ndarray) -> np.ndarray:
    """Return a label map as uint8 or uint16, numbered anew where its ids do not fit."""
    if labels.dtype.itemsize <= 2:
        return labels
    regions = numbered(labels)
    return regions.astype(np.min_scalar_type(int(regions.max(initial=0))))


def labelled_set(
    store: Store, indices: Iterable[int], config: RunConfig, head: Head, stream: int = 0
) -> TrainingSet:
    """Return the training set of some labelled images, by indices into ``store.train``."""
    chosen = list(indices)
    truths = (narrow(np.asarray(store.labels_of(i))) for i in chosen)
    labels = [shrunk_labels(one, seen(one.shape, config.input.size)) for one in truths]
    known = None
    if store.competition.rules.ignored and config.loss.ignored < 1:
        little = np.uint8(round(255 * config.loss.ignored))
        away = (np.asarray(store.ignored_of(i)) for i in chosen)
        levels = (np.where(ignored, little, np.uint8(255)) for ignored in away)
        known = Packed([packed(shrunk_labels(n, seen(n.shape, config.input.size))) for n in levels])
    return TrainingSet((store.images[i] for i in chosen), labels, config, head, known, stream)
