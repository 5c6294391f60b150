"""Operations on label maps, int32 or unsigned (H, W) with 0 as background."""

from __future__ import annotations

import math

import cc3d
import cv2
import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter


def numbered(labels: np.ndarray) -> np.ndarray:
    """Return the regions numbered 1…n by their first pixel, row by row, int32."""
    codes, _ = pd.factorize(np.append(0, labels))  # the background is seen first, so it stays 0
    return codes[1:].astype(np.int32).reshape(labels.shape)


def spread(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return `labels` in which a pixel of the mask without a region takes the nearest one's.

    Distances are Euclidean up to two per cent. Without any region nothing changes.
    """
    empty = labels == 0
    if not (todo := empty & mask).any() or empty.all():
        return labels
    _, places = cv2.distanceTransformWithLabels(
        empty.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    region = np.zeros(int(places.max()) + 1, labels.dtype)
    region[places[~empty]] = labels[~empty]
    return np.where(todo, region[places], labels)


def inside(labels: np.ndarray) -> np.ndarray:
    """Return where regions are, bool (H, W), but for lines between such as touch.

    So no two regions touch any more, not even at a corner, and connected parts tell them apart. The
    line, a pixel wide, is taken of the larger region, and of two of one size of the higher id: a
    small one stays whole. What is thin may vanish so, or fall apart.
    """
    sizes = np.bincount(labels.ravel())
    sizes[0] = labels.size + 1  # the background is larger than any region
    rank = np.empty(len(sizes), np.int32)
    rank[np.argsort(sizes, kind="stable")] = np.arange(len(sizes))
    ranks = rank[labels]
    return (labels > 0) & (minimum_filter(ranks, size=3, mode="nearest") == ranks)


def absorb_small(labels: np.ndarray, area: float) -> np.ndarray:
    """Return `labels` in which regions under `area` pixels go to the nearest larger one.

    The largest region of each connected part of the foreground stays, however small.
    """
    if not area or not labels.any():
        return labels
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    parts = cc3d.connected_components(labels > 0, connectivity=4)
    part = np.zeros(len(sizes), parts.dtype)
    part[labels] = parts
    largest = np.zeros(int(parts.max()) + 1, sizes.dtype)
    np.maximum.at(largest, part, sizes)
    keep = (sizes >= area) | (sizes == largest[part])
    keep[0] = False
    return spread(np.where(keep[labels], labels, 0), labels > 0)


def dusted(mask: np.ndarray, area: float, connectivity: int) -> np.ndarray:
    """Return a mask, bool (H, W), without the connected parts that are smaller than `area`."""
    return cc3d.dust(mask, threshold=math.ceil(area), connectivity=connectivity)


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
