"""Several label maps of one image cut into the pieces on which none of them changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Keys are renumbered before the next label map could carry them beyond 64 bits.
_KEY_LIMIT = 1 << 40


@dataclass(frozen=True)
class Segments:
    """The joint segments of M label maps, numbered by their first pixel.

    Attributes
    ----------
    index : ndarray of intp, shape (H, W)
        The segment of every pixel. A segment need not hang together.
    labels : integer ndarray, shape (M, S)
        Every segment's label in each map.
    sizes : ndarray of int64, shape (S,)
        Pixels.
    """

    index: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


def joint_segments(labels: np.ndarray) -> Segments:
    """Return the segments of pixels that have the same label in every map.

    Parameters
    ----------
    labels : integer ndarray, shape (M, H, W)
        At least one pixel.
    """
    flat = labels.reshape(len(labels), -1)
    change = np.ones(flat.shape[1], bool)  # runs of pixels are far fewer than pixels
    np.any(flat[:, 1:] != flat[:, :-1], axis=0, out=change[1:])
    starts = np.flatnonzero(change)
    runs = flat[:, starts]
    keys = np.zeros(len(starts), np.int64)
    for row in runs:
        ids, codes = np.unique(row, return_inverse=True)
        keys = keys * len(ids) + codes
        if keys.max() >= _KEY_LIMIT:
            keys = np.unique(keys, return_inverse=True)[1]
    numbers = first_seen(keys)
    first = np.unique(numbers, return_index=True)[1]
    lengths = np.diff(starts, append=flat.shape[1])
    sizes = np.bincount(numbers, lengths).astype(np.int64)
    index = np.repeat(numbers, lengths).reshape(labels.shape[1:])
    return Segments(index, runs[:, first], sizes)


def first_seen(ids: np.ndarray) -> np.ndarray:
    """Return `ids`, shape (N,), renumbered 0, 1, … in the order in which they first occur."""
    _, first, codes = np.unique(ids, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.intp)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[codes]
