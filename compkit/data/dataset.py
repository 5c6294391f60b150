"""Training examples, each a function of the seed, its place in the draw, and its image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from compkit.config import RunConfig
from compkit.data.augment import Augment
from compkit.data.contrast import equalised
from compkit.data.resample import shrunk, shrunk_labels
from compkit.data.store import Store
from compkit.data.weights import pixel_weights, places
from compkit.errors import CompkitError
from compkit.heads.base import Head


class Batch(TypedDict):
    """One training batch.

    images, float32 (N, 1, H, W) in 0…1; labels, int32 (N, H, W); targets, float32 (N, T, H, W), as
    the head made them; weights, float32 (N, 1, H, W), how much each pixel counts.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    weights: Tensor


#: A place in the endless draw of training images, and the image drawn there.
Draw = tuple[int, int]


class Draws(Sampler[list[Draw]]):
    """Batches of an endless draw of images, each image once a round, in a seeded order.

    Which image stands at which place depends on the seed and the place alone, so training resumed
    at an epoch's edge sees what it would have seen.
    """

    def __init__(self, images: int, batch: int, steps_per_epoch: int, seed: int) -> None:
        self._images, self._batch, self._steps, self._seed = images, batch, steps_per_epoch, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; the trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[Draw]]:
        first = self._epoch * self._steps * self._batch
        for start in range(first, first + self._steps * self._batch, self._batch):
            yield [(draw, self._image(draw)) for draw in range(start, start + self._batch)]

    def _image(self, draw: int) -> int:
        round_, place = divmod(draw, self._images)
        order = np.random.default_rng((self._seed, round_)).permutation(self._images)
        return int(order[place])


class Examples(Dataset[Any], Sized):
    """Examples by `Draw`: each a function of its place in the draw and its image alone."""


class TrainingSet(Examples):
    """The labelled training images of one fold, augmented.

    Parameters
    ----------
    store : Store
        Images and labels.
    indices : sequence of int
        Indices into ``store.train``.
    config : RunConfig
        Input, augmentation, weights and seed.
    head : Head
        Makes the targets.
    """

    def __init__(self, store: Store, indices: Sequence[int], config: RunConfig, head: Head) -> None:
        side, crop = config.input.size or store.size, config.input.crop
        if crop is not None and crop > side:
            raise CompkitError(
                f"input.crop is {crop}, but the images are {side} pixels wide: make it smaller"
            )
        grey = [shrunk(np.asarray(store.images[i]), side) for i in indices]
        clahe = config.input.contrast == "clahe"
        self._images = [equalised(image) for image in grey] if clahe else grey
        self._labels = [shrunk_labels(np.asarray(store.labels_of(i)), side) for i in indices]
        self._places = [places(image, config.weights) for image in grey]
        self._augment = Augment(config.augment, side, crop, config.input.focus)
        self._head, self._weights, self._seed = head, config.weights, config.seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Draw) -> Batch:
        draw, index = key
        # 31 bits, as the augmentations' generators take them.
        seed = int(np.random.SeedSequence((self._seed, draw)).generate_state(1)[0] >> 1)
        image, labels, place = self._augment(
            self._images[index], self._labels[index], self._places[index], seed
        )
        weights = pixel_weights(labels, place, self._weights)
        return {
            "images": torch.from_numpy(image[None].astype(np.float32) / 255),
            "labels": torch.from_numpy(labels.astype(np.int32)),
            "targets": torch.from_numpy(self._head.targets(labels)),
            "weights": torch.from_numpy(weights)[None],
        }
