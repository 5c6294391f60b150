"""How well a mask is met, pixel by pixel, and each true region by a predicted one of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from compkit.metrics.rand import contingency

#: The measures of a mask, and of a region.
MEASURES = ("accuracy", "iou", "dice", "precision", "recall")

#: Upper ends of the classes of region size, as shares of the image; the last class has none.
SIZES = (0.001, 0.003, 0.01, 0.03)

#: What the classes are called.
SIZE_NAMES = ("under 0.1 %", "0.1–0.3 %", "0.3–1 %", "1–3 %", "over 3 %")


def pixel_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Return the measures of the masks ``truth != 0`` and ``prediction != 0``.

    Parameters
    ----------
    truth, prediction : integer or bool ndarray, same shape
        Masks or label maps, of one pixel at least.

    Returns
    -------
    dict of str to float
        ``MEASURES``: accuracy (TP + TN) / n, IoU TP / (TP + FP + FN), Dice
        2 TP / (2 TP + FP + FN), precision TP / (TP + FP), recall TP / (TP + FN). Where both masks
        are empty all are 1; where only one is, those whose divisor is 0 are 0.
    """
    table = contingency(truth != 0, prediction != 0)
    parts = table[1:, 1:], table[1:], table[:, 1:]
    hits, true, predicted = (np.array([part.sum()]) for part in parts)
    return _means(hits, true, predicted, truth.size)


def _means(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, pixels: int
) -> dict[str, float]:
    """Return the mean measures of pairs of masks: pixels in both, and in each, int64 (K,)."""
    union = true + predicted - hits
    parts = {
        "iou": (hits, union),
        "dice": (2 * hits, true + predicted),
        "precision": (hits, predicted),
        "recall": (hits, true),
    }
    ratios = {
        name: np.where(union, part / np.maximum(whole, 1), 1.0)
        for name, (part, whole) in parts.items()
    }
    measures = {"accuracy": 1 - (union - hits) / pixels, **ratios}
    return {name: float(values.mean()) for name, values in measures.items()}


@dataclass(frozen=True)
class Matched:
    """The true regions of an image, each with the predicted region it is matched to.

    Attributes
    ----------
    hits, true, predicted : ndarray of int64, shape (n,)
        For each true region the pixels that it shares with its match, its own, and the match's;
        0 without a match.
    pixels : int
        Pixels of the image.
    found : bool
        Whether any region is predicted.
    """

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    pixels: int
    found: bool

    @property
    def scores(self) -> dict[str, float]:
        """The measures of `pixel_scores`, averaged over the true regions.

        A true region without a match counts as met by an empty mask; a predicted region without a
        match costs nothing by itself. Where there is no true region, all are 1 if nothing is
        predicted either, else 0.
        """
        if not len(self.true):
            return dict.fromkeys(MEASURES, 0.0 if self.found else 1.0)
        return _means(self.hits, self.true, self.predicted, self.pixels)

    @property
    def ious(self) -> np.ndarray:
        """The IoU of every true region with its match, float64 (n,)."""
        return self.hits / (self.true + self.predicted - self.hits)

    @property
    def sizes(self) -> np.ndarray:
        """The class of every true region's size, an index into `SIZE_NAMES`, int (n,)."""
        return np.searchsorted(SIZES, self.true / self.pixels, side="right")


@dataclass(frozen=True)
class Overlaps:
    """The true and the predicted regions of an image.

    Attributes
    ----------
    true, predicted : ndarray of int64, shape (T,) and (P,)
        Their pixels, none of them 0.
    shared : ndarray of int64, shape (T, P)
        The pixels that each true region shares with each predicted one.
    """

    true: np.ndarray
    predicted: np.ndarray
    shared: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """The pixels of either region of each pair, int64 (T, P)."""
        return self.true[:, None] + self.predicted - self.shared


def overlaps(table: np.ndarray) -> Overlaps:
    """Return what a table of `compkit.metrics.rand.contingency` tells of regions."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    true, predicted = np.flatnonzero(rows[1:]) + 1, np.flatnonzero(columns[1:]) + 1
    return Overlaps(rows[true], columns[predicted], table[np.ix_(true, predicted)])


def match_regions(table: np.ndarray) -> Matched:
    """Match each true region to at most one predicted region, and each predicted one likewise.

    The sum of the pairs' IoU is maximal.

    Parameters
    ----------
    table : ndarray of int64, shape (R, C)
        From `compkit.metrics.rand.contingency`: row 0 and column 0 are background.
    """
    of = overlaps(table)
    pairs = linear_sum_assignment(of.shared / of.union, maximize=True)
    hits, sizes = np.zeros_like(of.true), np.zeros_like(of.true)
    hits[pairs[0]] = of.shared[pairs]
    sizes[pairs[0]] = of.predicted[pairs[1]]
    sizes[hits == 0] = 0  # paired only because nothing was left to share a pixel with
    return Matched(hits, of.true, sizes, int(table.sum()), len(of.predicted) > 0)
