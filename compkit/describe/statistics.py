"""Statistics of label maps: arrays in, numbers out. Ids may be any; only what they part counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np

from compkit.metrics.regions import SIZES
from compkit.regions import numbered

#: Regions under the first share of the image are called small, those over the second large.
SMALL, LARGE = SIZES[0], 0.1


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one image.

    Attributes
    ----------
    pixels : int
        Pixels of the image.
    areas : ndarray of int64, shape (n,)
        Pixels of each region, by first pixel.
    touching : int
        How many regions share a pixel's edge with another.
    split : int
        How many regions consist of several parts that share no pixel's edge.
    """

    pixels: int
    areas: np.ndarray
    touching: int
    split: int

    @property
    def coverage(self) -> float:
        """The share of the pixels that are in a region, 0 to 1."""
        return float(self.areas.sum() / self.pixels)

    @property
    def shares(self) -> np.ndarray:
        """Each region's share of the image, float64 (n,)."""
        return self.areas / self.pixels


def measure(labels: np.ndarray) -> Regions:
    """Measure the regions of one label map, unsigned or int32 (H, W), 0 being background."""
    regions = numbered(labels)
    parts = cc3d.connected_components(regions, connectivity=4).astype(np.int64)
    owners = np.zeros(int(parts.max()) + 1, np.int64)
    owners[parts] = regions
    return Regions(
        pixels=labels.size,
        areas=np.bincount(regions.ravel())[1:],
        touching=len(np.unique(neighbours(regions))),
        split=int(np.count_nonzero(np.bincount(owners[1:]) > 1)),
    )


def neighbours(labels: np.ndarray) -> np.ndarray:
    """Return the pairs of regions that share a pixel's edge.

    Parameters
    ----------
    labels : integer ndarray, shape (H, W)
        Ids from 0, the background.

    Returns
    -------
    ndarray of int64, shape (P, 2)
        Each pair once, the lower id first.
    """
    sides = (labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])
    meeting = []
    for one, other in sides:
        meet = (one != other) & (one > 0) & (other > 0)
        meeting.append(np.stack([one[meet], other[meet]], axis=1).astype(np.int64))
    pairs = np.sort(np.concatenate(meeting), axis=1)
    return np.unique(pairs, axis=0)


def summarise(images: Sequence[Regions]) -> dict[str, dict[str, Any]]:
    """Return statistics of one or more images, at least one of which has a region.

    Returns
    -------
    dict of str to dict
        ``regions_per_image``; ``coverage``, shares of the pixels, 0 to 1; ``region_share``, the
        regions' shares of their image; ``large``, the share of images with a large region;
        ``touching`` and ``split``, how many regions are, and their share of all.
    """
    counts = np.array([len(image.areas) for image in images])
    coverage = np.array([image.coverage for image in images])
    shares = np.concatenate([image.shares for image in images])
    low, high = np.quantile(shares, [0.05, 0.95])
    largest = np.array([image.shares.max(initial=0) for image in images])
    return {
        "regions_per_image": {
            "total": int(counts.sum()),
            "mean": float(counts.mean()),
            "sd": float(counts.std()),
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "max": int(counts.max()),
        },
        "coverage": {"mean": float(coverage.mean()), "sd": float(coverage.std())},
        "region_share": {
            "mean": float(shares.mean()),
            "median": float(np.median(shares)),
            "quantile_05": float(low),
            "quantile_95": float(high),
            "under_small": float((shares < SMALL).mean()),
            "over_large": float((shares > LARGE).mean()),
        },
        "large": {"images": float((largest > LARGE).mean())},
        "touching": _part(sum(image.touching for image in images), len(shares)),
        "split": _part(sum(image.split for image in images), len(shares)),
    }


def _part(count: int, total: int) -> dict[str, Any]:
    return {"regions": count, "share": count / total}
