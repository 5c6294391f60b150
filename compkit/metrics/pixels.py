"""How well a mask is met, pixel by pixel."""

from __future__ import annotations

import numpy as np

#: The measures of a mask; the same names are used for regions.
MEASURES = ("accuracy", "iou", "dice", "precision", "recall")


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
    if truth.shape != prediction.shape:
        raise ValueError(f"shapes differ: {truth.shape} and {prediction.shape}")
    t, p = truth != 0, prediction != 0
    hits, true, predicted = (np.array([np.count_nonzero(mask)]) for mask in (t & p, t, p))
    return {
        name: float(values[0]) for name, values in overlap(hits, true, predicted, t.size).items()
    }


def overlap(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, pixels: int
) -> dict[str, np.ndarray]:
    """Return the measures of several pairs of masks, by the conventions of `pixel_scores`.

    Parameters
    ----------
    hits, true, predicted : integer ndarray, shape (K,)
        Pixels in both masks, in the true one, and in the predicted one.
    pixels : int
        Pixels of the image.

    Returns
    -------
    dict of str to ndarray of float64, shape (K,)
    """
    union = true + predicted - hits
    both_empty = union == 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(both_empty, 1.0, part / np.maximum(whole, 1))

    return {
        "accuracy": 1 - (union - hits) / pixels,
        "iou": ratio(hits, union),
        "dice": ratio(2 * hits, true + predicted),
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, true),
    }
