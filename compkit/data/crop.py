"""Random crops, anywhere or around a region."""

from __future__ import annotations

import numpy as np

#: A part of an image: its rows and its columns.
Window = tuple[slice, slice]


def random_window(labels: np.ndarray, side: int, focus: float, rng: np.random.Generator) -> Window:
    """Return a random square part of a label map (H, W).

    Parameters
    ----------
    labels : unsigned integer ndarray, shape (H, W)
        Region ids; 0 is background.
    side : int
        Of the part, pixels; at most H and W.
    focus : float
        Probability that the part lies around a random pixel of a region, as far as the image
        reaches; each region is equally likely, whatever its area.
    rng : Generator
    """
    last = np.array(labels.shape) - side
    corner = rng.integers(last + 1)
    if rng.random() < focus and len(regions := np.flatnonzero(np.bincount(labels.ravel())[1:])):
        inside = np.flatnonzero(labels == 1 + rng.choice(regions))
        centre = np.array(np.unravel_index(rng.choice(inside), labels.shape))
        corner = np.clip(centre - side // 2, 0, last)
    row, column = map(int, corner)
    return slice(row, row + side), slice(column, column + side)
