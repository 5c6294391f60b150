"""TTA views: transforms of an image batch that carry their inverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compkit.data.resample import resized
from compkit.errors import CompkitError, nearest


class Transform(ABC):
    """An invertible change of geometry on tensors (..., H, W)."""

    #: Takes (row, column) offsets in the image to offsets in the view.
    matrix: np.ndarray = np.eye(2, dtype=int)

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Return the view of `x`."""

    @abstractmethod
    def invert(self, y: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return `y`, maps of the view, on the grid of the image, whose (H, W) was `shape`."""


@dataclass(frozen=True)
class Flip(Transform):
    """A mirror along `axis`: -1 swaps left and right, -2 up and down."""

    axis: int

    @property
    def matrix(self) -> np.ndarray:  # type: ignore[override]
        return np.diag([1, -1] if self.axis == -1 else [-1, 1])

    def apply(self, x: Tensor) -> Tensor:
        return x.flip(self.axis)

    def invert(self, y: Tensor, shape: tuple[int, int]) -> Tensor:
        return y.flip(self.axis)


@dataclass(frozen=True)
class Turn(Transform):
    """A turn by `quarters` of 90 degrees, counter-clockwise."""

    quarters: int

    @property
    def matrix(self) -> np.ndarray:  # type: ignore[override]
        return np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), self.quarters)

    def apply(self, x: Tensor) -> Tensor:
        return torch.rot90(x, self.quarters, (-2, -1))

    def invert(self, y: Tensor, shape: tuple[int, int]) -> Tensor:
        return torch.rot90(y, -self.quarters, (-2, -1))


@dataclass(frozen=True)
class Scale(Transform):
    """A change of size by `factor`."""

    factor: float

    def apply(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return resized(x, (round(height * self.factor), round(width * self.factor)))

    def invert(self, y: Tensor, shape: tuple[int, int]) -> Tensor:
        return resized(y, shape)


@dataclass(frozen=True)
class View:
    """A sequence of transforms, applied left to right and undone right to left."""

    transforms: tuple[Transform, ...]

    def through(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return ``invert(function(apply(x)))`` on the grid of `x`, (N, C, H, W)."""
        shapes = []
        for transform in self.transforms:
            shapes.append((x.shape[-2], x.shape[-1]))
            x = transform.apply(x)
        y = function(x)
        for transform, shape in zip(reversed(self.transforms), reversed(shapes), strict=True):
            y = transform.invert(y, shape)
        return y

    @property
    def matrix(self) -> np.ndarray:
        """Takes (row, column) offsets in the image to offsets in the view, int (2, 2)."""
        total = np.eye(2, dtype=int)
        for transform in self.transforms:
            total = transform.matrix @ total
        return total


_NAMED: dict[str, tuple[Transform, ...]] = {
    "identity": (),
    "hflip": (Flip(-1),),
    "vflip": (Flip(-2),),
    "rot90": (Turn(1),),
    "rot180": (Turn(2),),
    "rot270": (Turn(3),),
}


def parse_view(text: str) -> View:
    """Return the view that `text` names: transforms joined by ``+``.

    Raises
    ------
    CompkitError
        If a transform is unknown or a scale is not between 0.25 and 4.
    """
    transforms: tuple[Transform, ...] = ()
    for word in text.split("+"):
        if word in _NAMED:
            transforms += _NAMED[word]
        elif word.startswith("scale"):
            transforms += (Scale(_factor(word, text)),)
        else:
            raise CompkitError(
                f"inference.views has an unknown transform {word!r} in {text!r}"
                f"{nearest(word, _NAMED)}: take {', '.join(_NAMED)} or scale with a factor"
            )
    return View(transforms)


def _factor(word: str, text: str) -> float:
    try:
        factor = float(word.removeprefix("scale"))
    except ValueError:
        factor = float("nan")
    if not 0.25 <= factor <= 4:
        raise CompkitError(
            f"inference.views has {word!r} in {text!r}: give a factor from 0.25 to 4, as scale1.25"
        )
    return factor
