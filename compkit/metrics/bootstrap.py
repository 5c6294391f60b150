"""How far a mean over images may be trusted."""

from __future__ import annotations

import numpy as np
from scipy import stats


def interval(
    values: np.ndarray, seed: int = 0, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        One score an image, N ≥ 1.
    seed : int
        Of the resampling; equal seeds resample the same images.
    confidence : float
        Between 0 and 1.
    resamples : int
        How many sets of N images are drawn, with replacement.

    Returns
    -------
    low, high : float
        A single value is both ends: one image says nothing about the spread.

    Notes
    -----
    B. Efron (1979), "Bootstrap methods: another look at the jackknife". The bias-corrected variant
    is undefined where all values are equal, so the plain percentiles are taken.
    """
    if len(values) == 1:
        return float(values[0]), float(values[0])
    ends = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(ends.low), float(ends.high)
