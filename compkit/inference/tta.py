"""TTA views: transforms of an image batch that carry their inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from torch import Tensor

from compkit.errors import CompkitError, nearest
from compkit.resample import resized

_NONE = np.eye(2, dtype=int)


@dataclass(frozen=True)
class Transform:
    """An invertible change of geometry on tensors (..., H, W).

    Attributes
    ----------
    apply, invert : callable
        From an image to its view, and back; not quite to its size, if that was rounded.
    matrix : ndarray of int, shape (2, 2)
        Takes (row, column) offsets in the image to offsets in the view.
    """

    apply: Callable[[Tensor], Tensor]
    invert: Callable[[Tensor], Tensor]
    matrix: np.ndarray


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
            y = resized(transform.invert(y), shape)
        return y

    @property
    def matrix(self) -> np.ndarray:
        """Takes (row, column) offsets in the image to offsets in the view, int (2, 2)."""
        return reduce(lambda total, one: one.matrix @ total, self.transforms, _NONE)


def _flip(axis: int, matrix: np.ndarray) -> Transform:
    flip = partial(torch.flip, dims=(axis,))
    return Transform(flip, flip, matrix)


def _turn(quarters: int) -> Transform:
    """Return a turn by so many times 90 degrees, counter-clockwise."""
    there, back = (partial(torch.rot90, k=k, dims=(-2, -1)) for k in (quarters, -quarters))
    return Transform(there, back, np.linalg.matrix_power([[0, -1], [1, 0]], quarters))


def _scale(factor: float) -> Transform:
    def apply(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return resized(x, (round(height * factor), round(width * factor)))

    return Transform(apply, lambda y: y, _NONE)


_NAMED: dict[str, tuple[Transform, ...]] = {
    "identity": (),
    "hflip": (_flip(-1, np.diag([1, -1])),),
    "vflip": (_flip(-2, np.diag([-1, 1])),),
    "rot90": (_turn(1),),
    "rot180": (_turn(2),),
    "rot270": (_turn(3),),
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
            transforms += (_scale(_factor(word, text)),)
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
