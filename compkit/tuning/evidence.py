"""What is beyond chance in a search for settings; arrays in, numbers and sentences out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from compkit.metrics.bootstrap import Groups, group_numbers, standard_error

#: Below this p-value something is beyond chance.
LEVEL = 0.05
#: An effect of a parameter is not looked for among fewer trials.
ENOUGH = 12
#: Differences below this are rounding.
_EQUAL = 1e-9


def chance_of_best(scores: np.ndarray, best: int, groups: Groups = None) -> np.ndarray:
    """Return how well each trial's lag behind the best one fits with being no worse than it.

    Parameters
    ----------
    scores : ndarray of float, shape (K, N)
        Of K trials on the same N images.
    best : int
        The trial of the highest mean.
    groups : sequence of N, optional
        The group of each image, as of `compkit.metrics.bootstrap.interval`.

    Returns
    -------
    ndarray of float, shape (K,)
        Corrected p-values. The trials above 0.05 hold the truly best one in 95 % of studies. They
        are 1 where all images are of one group.

    Notes
    -----
    Which trial is compared with was picked by its score, so Holm's steps, made for a control that
    was fixed beforehand, do not hold. Whatever trial is truly best, it is excluded only if one of
    the K − 1 others beats it by chance: its one-sided paired t-tests, times K − 1, bound that, and
    hence the test against whichever came out first. This is the union bound in place of Dunnett's
    quantile in D. G. Edwards and J. C. Hsu (1983), "Multiple comparisons with the best treatment",
    which asks for independent trials; these share their images.

    The tests' standard error is robust to images of one group being alike, with G − 1 degrees of
    freedom for G groups: A. C. Cameron and D. L. Miller (2015), "A practitioner's guide to
    cluster-robust inference". Without groups it is the ordinary paired t-test.
    """
    count, images = scores.shape
    independent = len(np.unique(group_numbers(groups, images)))
    if independent < 2:
        return np.ones(count)
    lag = scores[best] - scores
    error = standard_error(lag, groups)
    certain = np.where(lag.mean(axis=1) > _EQUAL, np.inf, 0.0)
    t = np.divide(lag.mean(axis=1), error, out=certain, where=error > _EQUAL)
    return np.minimum(1, stats.t.sf(t, independent - 1) * (count - 1)) if count > 1 else np.ones(1)


@dataclass(frozen=True)
class Effect:
    """How scores depend on one parameter, over the trials that have it.

    Attributes
    ----------
    symbol : str
        What the parameter is called.
    trials : DataFrame
        Columns number, x (its value) and score.
    bins : DataFrame
        Equally many trials each, in ascending order: columns low, high and middle (of x), count,
        mean, error (the mean's standard error). Empty where trials are too few.
    rank : float
        Spearman's correlation of x and score, NaN where undefined.
    p_rank, p_bins : float
        Of no correlation, and of equal bins (Kruskal and Wallis); 1 where undefined.
    """

    symbol: str
    trials: pd.DataFrame
    bins: pd.DataFrame
    rank: float
    p_rank: float
    p_bins: float

    @property
    def visible(self) -> bool:
        """Whether one of the two tests sees it; each is held to half the level."""
        return min(self.p_rank, self.p_bins) < LEVEL / 2

    def verdict(self) -> str:
        """Say in short whether the parameter mattered."""
        count, name = len(self.trials), self.symbol
        if count < ENOUGH:
            return f"Too few trials to tell whether {name} mattered: {count}, of {ENOUGH} needed."
        if len(self.bins) < 2:
            return f"{name} hardly varied over its {count} trials, so nothing can be said of it."
        if np.isnan(self.rank):
            return f"{name} did not matter: all its {count} trials score the same."
        if not self.visible:
            return f"No effect of {name} beyond chance over {count} trials."
        best = self.bins.sort_values("mean").iloc[-1]
        return f"{name} mattered, over {count} trials: best at {_range(best)}."

    def sentence(self) -> str:
        """Say whether the parameter mattered, on what evidence."""
        if np.isnan(self.rank):
            return self.verdict()
        order = self.bins.sort_values("mean")
        worst, best = order.iloc[0], order.iloc[-1]
        unseen = 2 * np.hypot(best["error"], worst["error"])
        limit = "" if self.visible else f" Differences below about {unseen:.3f} would not show."
        return (
            f"{self.verdict()} Binned means go from {_mean(worst)} at {self.symbol} "
            f"{_range(worst)} to {_mean(best)} at {_range(best)} (equal means: p "
            f"{p_text(self.p_bins)}); Spearman's correlation is {self.rank:+.2f} (p "
            f"{p_text(self.p_rank)}).{limit}"
        )


def effect(symbol: str, trials: pd.DataFrame) -> Effect:
    """Look for an effect of x on score, rising, falling or with an optimum in between.

    Parameters
    ----------
    symbol : str
        What the parameter is called.
    trials : DataFrame
        Columns number, x and score.
    """
    x, score = trials["x"].to_numpy(float), trials["score"].to_numpy(float)
    bins = pd.DataFrame(columns=["low", "high", "middle", "count", "mean", "error"], dtype=float)
    rank, p_rank, p_bins = np.nan, 1.0, 1.0
    if len(trials) >= ENOUGH:
        groups = np.searchsorted(_edges(x), x, side="right")
        parts = [(x[groups == one], score[groups == one]) for one in np.unique(groups)]
        bins = pd.DataFrame([_summary(*part) for part in parts])
        if len(bins) > 1 and np.ptp(score) > _EQUAL:
            rank, p_rank = map(float, stats.spearmanr(x, score))
            p_bins = float(stats.kruskal(*(scores for _, scores in parts)).pvalue)
    return Effect(symbol, trials, bins, rank, p_rank, p_bins)


def _edges(x: np.ndarray) -> np.ndarray:
    """Return where bins of at least four trials begin, as even as equal values allow."""
    inner = np.linspace(0, 1, min(6, len(x) // 4) + 1)[1:-1]
    return np.unique(np.quantile(x, inner, method="higher"))


def _summary(x: np.ndarray, score: np.ndarray) -> dict[str, float]:
    several = len(score) > 1
    return {
        "low": x.min(),
        "high": x.max(),
        "middle": float(np.median(x)),
        "count": len(score),
        "mean": score.mean(),
        "error": score.std(ddof=1) / np.sqrt(len(score)) if several else np.nan,
    }


def _mean(one: pd.Series) -> str:
    return f"{one['mean']:.3f} ± {one['error']:.3f}"


def _range(one: pd.Series) -> str:
    low, high = f"{one['low']:.3g}", f"{one['high']:.3g}"
    return low if low == high else f"{low}–{high}"


def p_text(value: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
