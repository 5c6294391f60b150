"""Metrics of partitions by the information that they share, from one contingency table."""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from compkit.metrics.rand import OfTable


@OfTable
def variation_of_information(table: np.ndarray) -> float:
    """Return 1 − VI / log n of two partitions of all n pixels, so that 1 is best and 0 worst.

    VI is H(truth | prediction) + H(prediction | truth), of which log n is the highest possible: in
    bits it is log2(n) times what this lacks to 1. The background is a region like others.

    Source: M. Meilă (2007), "Comparing clusterings: an information based distance".
    """
    joint, true, predicted = _entropies(table)
    pixels = table.sum()
    return _share(np.log(max(1, pixels)) - (2 * joint - true - predicted), np.log(max(1, pixels)))


@OfTable
def v_info(table: np.ndarray) -> float:
    """Return V_Info: 2 I(truth; prediction) / (H(truth) + H(prediction)), where the truth is not 0.

    1 where both are a single region, or there is none.

    Source: I. Arganda-Carreras et al. (2015), "Crowdsourcing the creation of image segmentation
    algorithms for connectomics", with α = 1/2.
    """
    joint, true, predicted = _entropies(table[1:])
    return _share(2 * (true + predicted - joint), true + predicted)


def _share(part: float, whole: float) -> float:
    """Return a part, of a whole that may be nothing, despite errors of rounding."""
    return float(np.clip(part / whole, 0, 1)) if whole > 0 else 1.0


def _entropies(table: np.ndarray) -> tuple[float, float, float]:
    """Return the entropies of both labelings together, of the truth's and the prediction's."""
    pixels = max(1, table.sum())
    counts = (table.ravel(), table.sum(axis=1), table.sum(axis=0))
    joint, true, predicted = (-xlogy(p, p).sum() for p in (c / pixels for c in counts))
    return float(joint), float(true), float(predicted)
