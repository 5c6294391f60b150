"""Overlapping tiles of images that are larger than what the network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: What a pair of pixels weighs in a tile that holds only one of them: nothing, unless none does.
_UNKNOWN = 1e-6


def tiled(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    side: int,
    known: Callable[[tuple[int, int]], Tensor],
) -> Tensor:
    """Return the function's maps of whole images, blended from those of their tiles.

    Tiles overlap by half. A tile's pixels weigh most at its centre and next to nothing at its edge
    (a Hann window), where the network sees too little around them; so maps have no seams.

    Parameters
    ----------
    function : callable
        Takes images (N, C, h, w) to maps (N, M, h, w).
    images : Tensor, shape (N, C, H, W)
    side : int
        Of a tile, pixels; larger than the image, it is the image.
    known : callable
        Takes the shape (h, w) of a tile to what in its maps has a meaning, bool (M, h, w): a pair
        of pixels of which one lies outside the tile has none.
    """
    height, width = images.shape[-2:]
    if height <= side and width <= side:
        return function(images)
    total, weights = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
    for rows in _spans(height, side):
        for columns in _spans(width, side):
            maps = function(images[..., rows, columns])
            shape = (maps.shape[-2], maps.shape[-1])
            weight = _window(shape).to(maps.device) * known(shape).to(maps).clamp_min(_UNKNOWN)
            if not total.ndim:
                total = maps.new_zeros(len(maps), maps.shape[1], height, width)
                weights = maps.new_zeros(maps.shape[1], height, width)
            total[..., rows, columns] += maps * weight
            weights[..., rows, columns] += weight
    return total / weights


def _spans(length: int, side: int) -> Iterator[slice]:
    """Yield the places of tiles along an axis: half a tile apart, the last at the end."""
    last = max(0, length - side)
    for start in [*range(0, last, max(1, side // 2)), last]:
        yield slice(start, min(start + side, length))


def _window(shape: tuple[int, int]) -> Tensor:
    """Return the weight of each pixel of a tile, above 0, float32 (h, w)."""
    rows, columns = (
        torch.sin(torch.pi * (torch.arange(length) + 0.5) / length) ** 2 for length in shape
    )
    return rows[:, None] * columns
