"""The direction to each region's centre: the gradient of heat that spreads from there."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from compkit.heads.graph import NEIGHBOURS, shifted

#: Heat spreads over about this share of a part's size (the root of its area). Less of it makes
#: the flow straighter, and underflows far from the centre.
_REACH = 0.25


def centre_flow(parts: np.ndarray, cell: int) -> np.ndarray:
    """Return the unit vector (down, right) in which heat of the part's centre grows.

    One implicit step of diffusion inside each part, all parts in one sparse system (Crane,
    Weischedel & Wardetzky 2013, "Geodesics in heat"; Cellpose takes many explicit steps). The
    gradient is that of the heat's logarithm, which has its direction and no underflow.

    Parameters
    ----------
    parts : ndarray of int32, shape (H, W)
        Numbers 1…n of 4-connected areas; 0 is background.
    cell : int
        Side of the squares that share one temperature where they lie deep in one part; 1 or 2.

    Returns
    -------
    ndarray of float32, shape (2, H, W)
        Zero in the background, at centres, and in parts of one pixel.
    """
    flow = np.zeros((2, *parts.shape))
    if not parts.any():
        return flow.astype(np.float32)
    heat = np.log(_heat(parts, cell))
    for axis, (down, right) in enumerate(((1, 0), (0, 1))):
        for sign in (1, -1):
            there = (sign * down, sign * right)
            same = shifted(parts, there) == parts
            flow[axis] += sign * np.where(same, shifted(heat, there) - heat, 0)
    norm = np.hypot(*flow)
    flow *= norm > 1e-6  # what is left of a difference of zero has no direction
    return (flow / np.maximum(norm, 1e-6)).astype(np.float32)


def _heat(parts: np.ndarray, cell: int) -> np.ndarray:
    """Return the heat, float64 (H, W) above 0, of one implicit step; 1 in the background."""
    inside = parts > 0
    nodes, widths = _nodes(parts, cell)
    count = int(nodes.max()) + 1
    source = np.bincount(nodes[_centres(parts)], minlength=count).astype(float)
    areas = np.bincount(parts.ravel())
    loss = np.bincount(nodes[inside], 1 / (_REACH**2 * areas[parts[inside]]), minlength=count)
    firsts, seconds, weights = [], [], []
    for offset in NEIGHBOURS:
        linked = inside & (shifted(parts, offset) == parts) & (shifted(nodes, offset) != nodes)
        firsts.append(nodes[linked])
        seconds.append(shifted(nodes, offset)[linked])
        weights.append(2 / (widths + shifted(widths, offset))[linked])
    first, second, weight = (np.concatenate(x) for x in (firsts, seconds, weights))
    ends = np.concatenate([first, second])
    degree = np.bincount(ends, np.concatenate([weight, weight]), minlength=count)
    every = np.arange(count)
    system = coo_array(
        (
            np.concatenate([loss + degree, -weight, -weight]),
            (np.concatenate([every, ends]), np.concatenate([every, second, first])),
        ),
        shape=(count, count),
    )
    options = {"SymmetricMode": True}  # with it, and no pivots, all of the solution is positive
    solver = splu(
        system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
    )
    return np.where(inside, solver.solve(source)[nodes], 1.0)


def _nodes(parts: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's unknown, 0…n − 1 inside parts, and its width in pixels, (H, W) each."""
    height, width = (side // cell * cell for side in parts.shape)
    # At a part's edge a square would leave pixels without any neighbour of another heat.
    known, around = parts.astype(np.float32), np.ones((3, 3), np.uint8)
    deep = (parts > 0) & (cv2.dilate(known, around) == cv2.erode(known, around))
    squares = deep[:height, :width].reshape(height // cell, cell, width // cell, cell)
    whole = squares.all(axis=(1, 3))
    wide = np.zeros(parts.shape, bool)
    wide[:height, :width] = whole.repeat(cell, axis=0).repeat(cell, axis=1)
    rows, columns = np.indices(parts.shape)
    corner = np.where(
        wide,
        (rows - rows % cell) * parts.shape[1] + columns - columns % cell,
        rows * parts.shape[1] + columns,
    )
    used = np.zeros(parts.size, int)
    used[corner[parts > 0]] = 1
    return (np.cumsum(used) - 1)[corner], np.where(wide, cell, 1)


def _centres(parts: np.ndarray) -> np.ndarray:
    """Return the pixels, bool (H, W), of each part that are nearest its median.

    Several that touch may be, or a flow would not turn with its image.
    """
    rows, columns = np.nonzero(parts)
    part = parts[rows, columns]
    away = (rows - _medians(part, rows)[part]) ** 2 + (columns - _medians(part, columns)[part]) ** 2
    order = np.lexsort((away, part))
    first = order[np.searchsorted(part[order], np.arange(int(parts.max()) + 1))]
    first = first[part]
    nearest = (away == away[first]) & (
        np.maximum(abs(rows - rows[first]), abs(columns - columns[first])) <= 1
    )
    centres = np.zeros(parts.shape, bool)
    centres[rows[nearest], columns[nearest]] = True
    return centres


def _medians(part: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the median of the values of each part, float (n + 1,)."""
    order = np.lexsort((values, part))
    sizes = np.bincount(part)
    starts = np.cumsum(sizes) - sizes
    values = values[order]
    low, high = starts + np.maximum(sizes - 1, 0) // 2, starts + sizes // 2
    return (
        values[np.minimum(low, len(values) - 1)] + values[np.minimum(high, len(values) - 1)]
    ) / 2
