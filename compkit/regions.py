"""Operations on label maps."""

from __future__ import annotations

import numpy as np


def keep_largest(labels: np.ndarray, limit: int) -> tuple[np.ndarray, int]:
    """Keep the `limit` largest regions, numbered 1, 2, … by decreasing size.

    Parameters
    ----------
    labels : integer ndarray
        Region ids from 0, the background.
    limit : int
        How many regions to keep at most, as a submission may hold no higher id.

    Returns
    -------
    labels : ndarray of the same shape and dtype
        Dropped regions are background. Of regions of one size, the lower id comes first.
    dropped : int
        How many regions were dropped.
    """
    sizes = np.bincount(labels.ravel())
    sizes[:1] = 0
    count = np.count_nonzero(sizes)
    kept = np.argsort(-sizes, kind="stable")[: min(count, limit)]
    numbers = np.zeros(len(sizes), labels.dtype)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[labels], int(count - len(kept))
