"""How far a mean over images may be trusted, where images of one group say much the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from compkit.errors import CompkitError

#: The group of each image, numbers or words; without them, each image is a group of its own.
Groups: TypeAlias = np.ndarray | Sequence[object] | None

#: Groups drawn at a time, so that memory does not grow with their number.
_DRAWN = 1_000_000


def mean(values: np.ndarray, axis: int | None = None) -> Any:
    """Return means of scores over images; NaN says nothing of an image, and is left out.

    Raises
    ------
    CompkitError
        If nothing is left of one.
    """
    if np.isnan(values).all(axis=axis).any():
        raise CompkitError(
            "the metric says nothing of any of the images that are scored together: take another "
            "to rank by, or larger folds"
        )
    return np.nanmean(values, axis=axis)


def interval(
    values: np.ndarray,
    groups: Groups = None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`, resampling groups.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        One score an image, N ≥ 1; NaN is left out.
    groups : sequence of N, optional
        The group of each image, as near-duplicates or slices of one patient. Whole groups are
        drawn, and the statistic stays the mean over the images that were drawn.
    seed : int
        Of the resampling; equal seeds resample the same groups.
    confidence : float
        Between 0 and 1.
    resamples : int
        How many sets of as many groups as there are are drawn, with replacement.

    Returns
    -------
    low, high : float
        NaN for fewer than two groups: a single one says nothing about the spread.

    Notes
    -----
    B. Efron (1979), "Bootstrap methods: another look at the jackknife"; of whole groups: C. A.
    Field and A. H. Welsh (2007), "Bootstrapping clustered data". The bias-corrected variant is
    undefined where all values are equal, so the plain percentiles are taken.
    """
    said = ~np.isnan(values)
    of = group_numbers(group_numbers(groups, len(values))[said], int(said.sum()))
    values = values[said]
    sums, counts = _sums(values, of), np.bincount(of)
    if len(counts) < 2:
        return np.nan, np.nan
    ends = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        n_resamples=resamples,
        batch=max(1, _DRAWN // len(counts)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(ends.low), float(ends.high)


def standard_error(values: np.ndarray, groups: Groups = None) -> np.ndarray:
    """Return the standard error of means over images, robust to images of one group being alike.

    Parameters
    ----------
    values : ndarray of float, shape (..., N)
        One score an image; NaN is left out.
    groups : sequence of N, optional
        As of `interval`.

    Returns
    -------
    ndarray of float, shape (...)
        NaN for fewer than two groups. Without groups, the usual one: sd / √N, of N − 1.

    Notes
    -----
    K.-Y. Liang and S. L. Zeger (1986), "Longitudinal data analysis using generalized linear
    models", of a mean: the root of the summed squares of each group's residuals, with G / (G − 1)
    for G groups.
    """
    of, said = group_numbers(groups, values.shape[-1]), ~np.isnan(values)
    residuals = np.where(said, values - np.nanmean(values, axis=-1, keepdims=True), 0)
    count = (_sums(said, of) > 0).sum(axis=-1)
    spread = (_sums(residuals, of) ** 2).sum(axis=-1)
    unbiased = np.where(count > 1, count / np.maximum(count - 1, 1), np.nan)
    return np.sqrt(unbiased * spread) / said.sum(axis=-1)


def group_numbers(groups: Groups, images: int) -> np.ndarray:
    """Return the group of each image as a number, int64 (N,): 0, 1, … by first appearance."""
    if groups is None:
        return np.arange(images)
    return pd.factorize(np.asarray(groups))[0]


def _sums(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the sums over the images of each group, (..., G)."""
    return np.apply_along_axis(lambda row: np.bincount(of, row), -1, values)
