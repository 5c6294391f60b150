"""Examples without labels: all images of a competition, augmented, in pairs or with hidden windows.

Each is a function of the seed, its place in the draw and its image, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from compkit.config import RunConfig
from compkit.data.dataset import Draw, Examples
from compkit.data.store import Store
from compkit.errors import CompkitError

#: Streams of random numbers that must not go together.
_TRAINING, _HELD_BACK, _SPLIT = 1, 2, 3


def split_images(store: Store, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Part all images, those of the test after those of training, into two ascending sets.

    Returns
    -------
    training, held_back : ndarray of int64
        At least two each; `share` of all are held back.

    Raises
    ------
    CompkitError
        If there are too few images for that.
    """
    count = len(store.train) + len(store.test)
    held_back = max(2, round(share * count))
    if count - held_back < 2:
        raise CompkitError(
            f"{count} images, {held_back} of them held back, leave too few to pretrain on: "
            "give more images, or a smaller --held-back"
        )
    order = np.random.default_rng((seed, _SPLIT)).permutation(count)
    return np.sort(order[held_back:]), np.sort(order[:held_back])


def images_of(store: Store, indices: Sequence[int]) -> list[np.ndarray]:
    """Return images, uint8 (H, H), of those of training followed by those of the test."""
    count = len(store.train)
    return [store.images[i] if i < count else store.test_images[i - count] for i in indices]


class _Unlabelled(Examples):
    """Images of a competition, by `Draw`.

    Parameters
    ----------
    store : Store
    indices : sequence of int
        As `split_images` numbers them.
    config : RunConfig
        Input, augmentation and seed.
    training : bool
        Whether to train on; else the draws of the images held back are others.
    """

    def __init__(
        self, store: Store, indices: Sequence[int], config: RunConfig, training: bool
    ) -> None:
        stream = _TRAINING if training else _HELD_BACK
        super().__init__(images_of(store, indices), config, stream)

    def augmented(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return an image, float32 (1, H, W) in 0…1, and which of its pixels are known, bool."""
        # What is labelled is not to be known here: all of the image is one region.
        image, whole = self.images[index], np.ones_like(self.images[index])
        image, _, known = self.augment(image, whole, whole, seed)
        return _tensor(image), torch.from_numpy(known[None] > 0)


class Pair(TypedDict):
    """Two views of each of some images, float32 (N, 1, H, W) in 0…1."""

    one: Tensor
    other: Tensor


class Pairs(_Unlabelled):
    """Two independent augmentations of each image."""

    def __getitem__(self, key: Draw) -> Pair:
        place, index = key
        one, other = (self.augmented(index, self.seed(place, number))[0] for number in range(2))
        return {"one": one, "other": other}


class Puzzle(TypedDict):
    """Images to reconstruct.

    images, float32 (N, 1, H, W) in 0…1; hidden, bool (N, 1, H, W), what the network does not see;
    counted, bool (N, 1, H, W), where its answer counts.
    """

    images: Tensor
    hidden: Tensor
    counted: Tensor


class Puzzles(_Unlabelled):
    """Images with some of their windows hidden, or with none.

    Images held back are shown whole and without augmentation.

    Parameters
    ----------
    window : int
        Side of the windows, pixels; 0 hides none, and everything counts.
    ratio : float
        Share of the windows that is hidden.
    """

    def __init__(
        self,
        store: Store,
        indices: Sequence[int],
        config: RunConfig,
        training: bool,
        window: int,
        ratio: float,
    ) -> None:
        super().__init__(store, indices, config, training)
        self._training, self._window, self._ratio = training, window, ratio

    def __getitem__(self, key: Draw) -> Puzzle:
        place, index = key
        if self._training:
            image, known = self.augmented(index, self.seed(place))
        else:
            image = _tensor(self.images[index])
            known = torch.ones_like(image, dtype=torch.bool)
        if not self._window:
            return {"images": image, "hidden": torch.zeros_like(known), "counted": known}
        rng = np.random.default_rng(self.seed(place, 1))
        mask = hidden_windows(image.shape[-1], self._window, self._ratio, rng)
        hidden = torch.from_numpy(mask)[None]
        return {"images": image, "hidden": hidden, "counted": known & hidden}


def hidden_windows(side: int, window: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Return which pixels of an image are hidden, in whole windows of a grid.

    Where the grid does not divide the image, the last row and column of windows are narrower.

    Parameters
    ----------
    side, window : int
        Of the image and of a window, pixels.
    ratio : float
        Share of the windows that is hidden, to the nearest number of windows.
    rng : Generator

    Returns
    -------
    ndarray of bool, shape (side, side)
    """
    cells = -(-side // window)
    chosen = np.zeros(cells * cells, bool)
    chosen[rng.permutation(len(chosen))[: hidden_count(side, window, ratio)]] = True
    large = np.kron(chosen.reshape(cells, cells), np.ones((window, window), bool))
    return large[:side, :side]


def hidden_count(side: int, window: int, ratio: float) -> int:
    """Return how many windows of an image are hidden."""
    return round(ratio * (-(-side // window)) ** 2)


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image[None].astype(np.float32) / 255)
