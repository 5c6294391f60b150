"""How well each true region is met by a predicted region of its own."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from compkit.metrics.pixels import MEASURES, overlap


def region_scores(table: np.ndarray) -> dict[str, float]:
    """Return the measures of `compkit.metrics.pixels`, averaged over the true regions.

    Each true region is matched to at most one predicted region, and each predicted one to at most
    one true one, so that the sum of the pairs' IoU is maximal. A true region without a match
    counts as met by an empty mask. A predicted region without a match costs nothing by itself.

    Parameters
    ----------
    table : ndarray of int64, shape (R, C)
        From `compkit.metrics.rand.contingency`: row 0 and column 0 are background.

    Returns
    -------
    dict of str to float
        Where there is no true region, all are 1 if nothing is predicted either, else 0.
    """
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    true, predicted = np.flatnonzero(rows[1:]) + 1, np.flatnonzero(columns[1:]) + 1
    if not len(true):
        return dict.fromkeys(MEASURES, 0.0 if len(predicted) else 1.0)
    shared = table[np.ix_(true, predicted)]
    iou = shared / (rows[true][:, None] + columns[predicted] - shared)
    pairs = linear_sum_assignment(iou, maximize=True)
    hits, sizes = np.zeros(len(true), np.int64), np.zeros(len(true), np.int64)
    hits[pairs[0]] = shared[pairs]
    sizes[pairs[0]] = columns[predicted][pairs[1]]
    sizes[hits == 0] = 0  # paired only because nothing was left to share a pixel with
    measures = overlap(hits, rows[true], sizes, int(rows.sum()))
    return {name: float(values.mean()) for name, values in measures.items()}
