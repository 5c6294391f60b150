"""Metrics of instances: which regions are found, and how well, from one contingency table.

Where neither truth nor prediction has a region each of them is 1, and where only one has none, 0.
"""

from __future__ import annotations

import numpy as np

from compkit.metrics.rand import OfTable
from compkit.metrics.regions import Overlaps, overlaps

#: The thresholds of `average_precision`, 0.5, 0.55 … 0.95, in twentieths, so that they are exact.
_TWENTIETHS = np.arange(10, 20)


@OfTable
def average_precision(table: np.ndarray) -> float:
    """Return the mean of TP / (TP + FP + FN) over the thresholds 0.5, 0.55 … 0.95 of IoU.

    A true region is found by a predicted one if their IoU is greater than the threshold.

    Source: Kaggle, "2018 Data Science Bowl", evaluation.
    """
    of = overlaps(table)
    if not of.shared.size:
        return float(of.shared.shape == (0, 0))
    shared, union = _matched(of)
    found = (20 * shared > _TWENTIETHS[:, None] * union).sum(axis=1)
    return float((found / (sum(of.shared.shape) - found)).mean())


@OfTable
def panoptic_quality(table: np.ndarray) -> float:
    """Return the panoptic quality of one image whose regions are all of one class.

    The sum of the IoU of the pairs of more than 0.5, over TP + FP / 2 + FN / 2.

    Source: A. Kirillov et al. (2019), "Panoptic segmentation", arXiv 1801.00868; there pairs are
    counted over all images of a class, here in each image.
    """
    of = overlaps(table)
    if not of.shared.size:
        return float(of.shared.shape == (0, 0))
    shared, union = _matched(of)
    return float((shared / union).sum() / (sum(of.shared.shape) / 2))


@OfTable
def aggregated_jaccard(table: np.ndarray) -> float:
    """Return the aggregated Jaccard index.

    Every true region goes with the predicted one of the highest IoU, which several may share. The
    pixels that pairs have in common, over those of their unions and of all predicted regions that
    no true one goes with.

    Source: N. Kumar et al. (2017), "A dataset and a technique for generalized nuclear segmentation
    for computational pathology", algorithm 1.
    """
    of = overlaps(table)
    if not of.shared.size:
        return float(of.shared.shape == (0, 0))
    best = (of.shared / of.union).argmax(axis=1)
    rows = np.arange(len(best))
    shared = of.shared[rows, best]
    left_over = np.ones(len(of.predicted), bool)
    left_over[best[shared > 0]] = False
    union = np.where(shared, of.union[rows, best], of.true)
    return float(shared.sum() / (union.sum() + of.predicted[left_over].sum()))


def _matched(of: Overlaps) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that pairs of an IoU over 0.5 share, and those of their union.

    No region is in two such pairs.
    """
    pairs = 2 * of.shared > of.union
    return of.shared[pairs], of.union[pairs]
