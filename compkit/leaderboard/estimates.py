"""What public scores tell of local ones, and how much chance is in a ranking; arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from compkit.metrics.bootstrap import Groups, group_numbers

#: Scores nearer than the digits that a ledger keeps are equal.
_DIGITS, _EQUAL = 6, 1e-6
#: Below this p-value two spreads differ beyond noise.
_LEVEL = 0.05
#: How many sets of images are drawn.
_DRAWS = 2000


@dataclass(frozen=True)
class Gap:
    """Official minus local scores; NaN where there are too few rows to tell.

    Attributes
    ----------
    mean, sd : float
        Of the gap over submissions; `sd` needs two.
    rank : float
        Spearman's correlation of official and local scores; needs three, and neither constant.
    """

    mean: float
    sd: float
    rank: float


def gap(local: np.ndarray, official: np.ndarray) -> Gap:
    """Return how local scores differ from official ones.

    Parameters
    ----------
    local, official : ndarray of float, shape (R,)
        Of the same submissions, R ≥ 1.
    """
    one, other = pd.Series(local), pd.Series(official)
    ranks = one.round(_DIGITS).rank(), other.round(_DIGITS).rank()
    rank = ranks[0].corr(ranks[1], min_periods=3)  # Spearman's
    return Gap(float((other - one).mean()), float((other - one).std()), float(rank))


def explain(local: np.ndarray, public: np.ndarray) -> tuple[int, list[int]]:
    """Find the local metric that predicts the public scores best, up to a constant.

    Parameters
    ----------
    local : ndarray of float, shape (R, V)
        Scores of R submissions under V metrics, R ≥ 2.
    public : ndarray of float, shape (R,)

    Returns
    -------
    best : int
        The metric whose gap spreads least; among equal ones, the one of highest rank correlation.
    rivals : list of int
        What predicts as well within noise: other metrics, and V for no metric at all, that is a
        constant. Empty where `best` stands alone.

    Notes
    -----
    Two gaps over the same submissions are correlated, and often only a handful, too few to be
    resampled. Their variances are equal if and only if their sum and difference are uncorrelated,
    which Pearson's test decides exactly for normal gaps and any R ≥ 3: E. J. G. Pitman (1939), "A
    note on normal correlation"; W. A. Morgan (1939), "A test for the significance of the
    difference between the two variances in a sample from a normal bivariate population".
    """
    gaps = public[:, None] - np.column_stack([local, np.zeros(len(local))])
    spread = gaps.std(axis=0, ddof=1)
    ranks = np.nan_to_num([gap(column, public).rank for column in local.T], nan=-2)
    metrics = range(local.shape[1])
    best = min(metrics, key=lambda v: (round(spread[v] / _EQUAL), -ranks[v]))
    alike = [
        spread[v] <= spread[best] or _alike(gaps[:, best], one) for v, one in enumerate(gaps.T)
    ]
    return best, [v for v in np.flatnonzero(alike).tolist() if v != best]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether the variances of paired values, shape (R,), are equal within noise."""
    total, difference = one + other, one - other
    if len(one) < 3 or min(np.ptp(total), np.ptp(difference)) < _EQUAL:
        return True
    return bool(stats.pearsonr(total, difference).pvalue >= _LEVEL)


def selection_optimism(scores: np.ndarray, groups: Groups = None, resamples: int = _DRAWS) -> float:
    """Return how much the best of K local scores owes, on average, to being the best of K.

    Parameters
    ----------
    scores : ndarray of float, shape (K, N)
        Of K submissions on the same N images.
    groups : sequence of N, optional
        The group of each image, as of `compkit.metrics.bootstrap.interval`.

    Returns
    -------
    float
        In units of the score; 0 for one submission, and near 0 where one is far ahead. NaN for
        fewer than two groups.

    Notes
    -----
    The best on a bootstrap resample of the groups falls back on the groups left out of it, beyond
    what a submission picked beforehand (here the mean of all) does. The mean of a resample has
    twice the variance of the mean of N groups, since its weights sum to N but their squares to
    2N; so K equal submissions fall back √2 times as far as the local scores themselves would, and
    the result is divided by that. Where submissions differ truly, it errs upwards.

    The left-out images as a test: B. Efron and R. Tibshirani (1997), "Improvements on
    cross-validation: the .632+ bootstrap method".
    """
    of = group_numbers(groups, scores.shape[1])
    if not of.any():
        return np.nan
    counts = _drawn(of, len(of), resamples)
    left_out = (counts == 0).astype(float)
    usable = left_out.any(axis=1)
    counts, left_out = counts[usable], left_out[usable]
    inside = scores @ counts.T / counts.sum(axis=1)
    fall = inside - scores @ left_out.T / left_out.sum(axis=1)
    picked = np.take_along_axis(fall, inside.argmax(axis=0)[None], axis=0)[0]
    return float((picked - fall.mean(axis=0)).mean() / np.sqrt(2))


@dataclass(frozen=True)
class ShakeUp:
    """How a ranking by local scores changes on other images.

    Attributes
    ----------
    lost : float
        Share of draws in which the local best is not the best.
    swapped : float
        Share of draws in which two submissions or more stand in another order than locally.
    first : ndarray of float64, shape (K,)
        Share of draws in which each submission is the best; equals share a draw.
    """

    lost: float
    swapped: float
    first: np.ndarray


def shake_up(scores: np.ndarray, size: int, groups: Groups = None) -> ShakeUp:
    """Rank submissions on random sets of images.

    Parameters
    ----------
    scores, groups
        As of `selection_optimism`.
    size : int
        How many images a set has, drawn with replacement; the same for all submissions. Of groups,
        whole ones are drawn, as many as have about `size` images.
    """
    counts = _drawn(group_numbers(groups, scores.shape[1]), size, _DRAWS)
    means = scores @ counts.T / counts.sum(axis=1)
    order = np.argsort(-scores.mean(axis=1), kind="stable")
    best = means >= means.max(axis=0) - _EQUAL
    climbs = np.diff(means[order], axis=0) > _EQUAL
    return ShakeUp(
        lost=float(1 - best[order[0]].mean()),
        swapped=float(climbs.any(axis=0).mean()),
        first=(best / best.sum(axis=0)).mean(axis=1),
    )


def _drawn(of: np.ndarray, size: int, draws: int) -> np.ndarray:
    """Draw whole groups of some `size` images; return how often each image is in, (draws, N)."""
    groups = of.max() + 1
    count = max(1, round(size * groups / len(of)))
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(groups, 1 / groups), size=draws).astype(float)
    return drawn[:, of]
