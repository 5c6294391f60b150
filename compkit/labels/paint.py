"""Label maps of regions that are given one by one, which may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np


@dataclass(frozen=True)
class Painted:
    """The label map of an image's regions.

    Attributes
    ----------
    labels : ndarray of uint8, uint16 or uint32, shape (H, W)
        Regions 1, 2, … in the order in which they were given; 0 is background.
    overlapping : int
        Pixels of more than one region.
    lost : int
        Regions of which no pixel is left, as smaller ones cover them, or which have none.
    """

    labels: np.ndarray
    overlapping: int
    lost: int


def paint(shape: tuple[int, int], regions: Sequence[np.ndarray]) -> Painted:
    """Paint regions into a label map; a pixel of several goes to the smallest of them.

    So what lies on something larger stays whole. Of regions of one size the earlier has it.

    Parameters
    ----------
    shape : tuple of int
        (H, W).
    regions : sequence of ndarray of int
        The pixels of each region, as indices row by row.
    """
    labels = np.zeros(shape[0] * shape[1], np.min_scalar_type(len(regions)))
    sizes = np.array([len(pixels) for pixels in regions])
    # Larger ones first, and of equal ones the later.
    for number in np.lexsort((np.arange(len(regions)), sizes))[::-1]:
        labels[regions[number]] = number + 1
    counts = np.zeros(len(labels), np.int32)
    for pixels in regions:
        counts[pixels] += 1
    left = np.bincount(labels, minlength=len(regions) + 1)[1:]
    return Painted(
        labels.reshape(shape), int(np.count_nonzero(counts > 1)), int(np.count_nonzero(left == 0))
    )


def parted(labels: np.ndarray) -> np.ndarray:
    """Return a label map in which each connected part of a region is a region of its own."""
    parts = cc3d.connected_components(labels, connectivity=8)
    return parts.astype(np.min_scalar_type(int(parts.max(initial=0))))
