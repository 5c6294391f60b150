"""How well each true region is met by a predicted region of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from compkit.metrics.pixels import MEASURES, overlap

#: Upper ends of the classes of region size, as shares of the image; the last class has none.
SIZES = (0.001, 0.003, 0.01, 0.03)

#: What the classes are called.
SIZE_NAMES = ("under 0.1 %", "0.1–0.3 %", "0.3–1 %", "1–3 %", "over 3 %")


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
        """The measures of `compkit.metrics.pixels`, averaged over the true regions.

        A true region without a match counts as met by an empty mask; a predicted region without a
        match costs nothing by itself. Where there is no true region, all are 1 if nothing is
        predicted either, else 0.
        """
        if not len(self.true):
            return dict.fromkeys(MEASURES, 0.0 if self.found else 1.0)
        measures = overlap(self.hits, self.true, self.predicted, self.pixels)
        return {name: float(values.mean()) for name, values in measures.items()}

    @property
    def ious(self) -> np.ndarray:
        """The IoU of every true region with its match, float64 (n,)."""
        return self.hits / (self.true + self.predicted - self.hits)

    @property
    def sizes(self) -> np.ndarray:
        """The class of every true region's size, an index into `SIZE_NAMES`, int (n,)."""
        return np.searchsorted(SIZES, self.true / self.pixels, side="right")


def match_regions(table: np.ndarray) -> Matched:
    """Match each true region to at most one predicted region, and each predicted one likewise.

    The sum of the pairs' IoU is maximal.

    Parameters
    ----------
    table : ndarray of int64, shape (R, C)
        From `compkit.metrics.rand.contingency`: row 0 and column 0 are background.
    """
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    true, predicted = np.flatnonzero(rows[1:]) + 1, np.flatnonzero(columns[1:]) + 1
    shared = table[np.ix_(true, predicted)]
    iou = shared / (rows[true][:, None] + columns[predicted] - shared)
    pairs = linear_sum_assignment(iou, maximize=True)
    hits, sizes = np.zeros(len(true), np.int64), np.zeros(len(true), np.int64)
    hits[pairs[0]] = shared[pairs]
    sizes[pairs[0]] = columns[predicted][pairs[1]]
    sizes[hits == 0] = 0  # paired only because nothing was left to share a pixel with
    return Matched(hits, rows[true], sizes, int(rows.sum()), len(predicted) > 0)
