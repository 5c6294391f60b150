"""Regions from a graph of pixels: affinities at offsets, parted by the mutex watershed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

import mwatershed
import numpy as np
from torch import Tensor

from compkit.errors import CompkitError
from compkit.heads.partition import Offsets
from compkit.parameters import Param, Params

Values = TypeVar("Values", np.ndarray, Tensor)

#: Bytes that an edge takes while the graph is parted (it crosses into mwatershed as Python ints).
_EDGE = 200

#: Offsets of pixels that touch; what a region's pixels hang together by.
NEIGHBOURS = ((0, 1), (1, 0))


def offsets_of(reach: Sequence[float], side: int) -> tuple[tuple[int, int], ...]:
    """Return the touching neighbours, then four directions for each distance of `reach`.

    Together with their opposites they are the same under every flip and turn by 90°.

    Parameters
    ----------
    reach : sequence of float
        Distances in pixels at a side of 128; they grow with the image.
    side : int
        Of the images, pixels.
    """
    far = [max(2, round(r * side / 128)) for r in reach]
    return NEIGHBOURS + tuple(o for r in far for o in ((0, r), (r, 0), (r, r), (r, -r)))


def graph_space(reach: Sequence[float]) -> Mapping[str, Param]:
    """Return the parameters of `mutex_watershed`: the stride, and a bias for each distance."""
    bias = Param((0.0, -0.3, -0.15, 0.15), -1, 1)
    return {"stride": Param((4, 2, 8), 1, 64)} | {f"bias{r:g}": bias for r in reach}


def mutex_watershed(
    affinities: np.ndarray,
    offsets: Offsets,
    mask: np.ndarray,
    params: Params,
    reach: Sequence[float],
) -> np.ndarray:
    """Part the mask by the mutex watershed (Wolf et al. 2018, "The mutex watershed").

    Touching neighbours attract with their affinity a; pixels further apart repel with 1 − a plus
    their distance's bias, and never attract: an attraction across a gap would weld regions that
    only look alike. Edges are taken by decreasing weight; one that would join what a repulsion
    parted is dropped.

    Parameters
    ----------
    affinities : ndarray of float, shape (O, H, W)
        For each offset, the probability that a pixel and the one at the offset are of one region.
    offsets : sequence of (int, int)
        From `offsets_of(reach, side)`.
    mask : ndarray of bool, shape (H, W)
        Edges with an end outside it are left out.
    params : mapping
        ``stride``: only each stride-th row and column begin a repulsion; ``bias…``: see above.

    Returns
    -------
    ndarray of int32, shape (H, W)
        Region ids; 0 outside the mask and where a pixel has no neighbour in it.

    Raises
    ------
    CompkitError
        If the graph would not fit in the machine's memory.
    """
    near = len(NEIGHBOURS)
    biases = [params[f"bias{r:g}"] for r in reach for _ in range(4)]
    strides = [1] * near + [int(params["stride"])] * (len(offsets) - near)
    parts = []
    for number, (offset, stride) in enumerate(zip(offsets, strides, strict=True)):
        first, second = _ends(mask, offset, stride)
        a = affinities[number].ravel()[first]
        repels = number >= near
        weight = 1 - a + biases[number - near] if repels else a
        parts.append((weight, np.full(len(first), not repels), first, second))
    weight, attracts, first, second = (np.concatenate(part) for part in zip(*parts, strict=True))
    _refuse_too_many(len(weight), mask.shape)
    # 16 bits sort by counting; finer differences are noise.
    order = np.argsort((weight * -8192).astype(np.int16), kind="stable")
    order = order[weight[order] > 0]
    edges = zip(
        attracts[order].tolist(), first[order].tolist(), second[order].tolist(), strict=True
    )
    found = np.array(mwatershed.cluster(list(edges)), np.int64).reshape(-1, 2)
    labels = np.zeros(mask.size, np.int32)
    labels[found[:, 0]] = found[:, 1] + 1
    return labels.reshape(mask.shape)


def shifted(values: Values, offset: tuple[int, int]) -> Values:
    """Return `values` (..., H, W) of the pixel at `offset` from each; edges are repeated."""
    height, width = values.shape[-2:]
    rows = np.clip(np.arange(height) + offset[0], 0, height - 1)
    columns = np.clip(np.arange(width) + offset[1], 0, width - 1)
    return values[..., rows[:, None], columns]


def _ends(mask: np.ndarray, offset: tuple[int, int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices of the pixel pairs at `offset` that lie in the mask."""
    height, width = mask.shape
    rows, columns = (stride * places for places in np.nonzero(mask[::stride, ::stride]))
    down, right = rows + offset[0], columns + offset[1]
    inside = (down < height) & (right >= 0) & (right < width)
    first, second = (rows * width + columns)[inside], (down * width + right)[inside]
    both = mask.ravel()[second]
    return first[both], second[both]


def _refuse_too_many(edges: int, shape: tuple[int, int]) -> None:
    if "SC_AVPHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return  # macOS and Windows do not tell what is free
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if edges * _EDGE > free:
        raise CompkitError(
            f"an image of {shape[0]}×{shape[1]} has a graph of {edges:,} edges, which takes about "
            f"{edges * _EDGE / 2**30:.1f} GB of memory where {free / 2**30:.1f} GB are free: "
            "train at a smaller input.size, or decode with a larger stride"
        )
