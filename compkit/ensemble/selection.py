"""Weights of an ensemble's members, searched for on out-of-fold images.

A candidate is a tuple of weights, one a member. It is worth the mean over images of the metric that
ranks, of the regions that the head's default parameters decode from the weighted maps: no proxy,
and nothing that was tuned on the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache, partial

import numpy as np
from joblib import Parallel, delayed

from compkit.ensemble.members import Member
from compkit.ensemble.mixture import WeightedMean, on_grid
from compkit.metrics.rand import METRICS, rand_scores
from compkit.parallel import jobs_for

Weights = tuple[float, ...]

#: Returns the worth of each candidate.
Worth = Callable[[Sequence[Weights]], np.ndarray]

#: Returns the weights that it finds best.
Search = Callable[[Worth], Weights]

#: Digits to which weights are told apart.
_DIGITS = 6

#: Members that the greedy selection adds, and how many in a row may bring nothing.
_ROUNDS, _PATIENCE = 15, 3


class Candidates:
    """Scores of images under weighted members; no candidate is decoded twice.

    Parameters
    ----------
    members : sequence of Member
    temperatures : sequence of float
        One a member.
    images : sequence of str
        Labelled images of which every member has out-of-fold maps.

    Attributes
    ----------
    folds, groups : ndarray, shape (N,)
        The fold of each image, and its group, in the first member's run.
    """

    def __init__(
        self, members: Sequence[Member], temperatures: Sequence[float], images: Sequence[str]
    ) -> None:
        run, store = members[0].run, members[0].run.store
        indices = [store.train.index(image) for image in images]
        self.members, self.temperatures = tuple(members), tuple(temperatures)
        self.folds, self.groups = run.folds.fold[indices], run.folds.group[indices]
        self._column = METRICS.index(run.ranking)
        self._truths = [store.labels_of(index) for index in indices]
        self._maps = [[member.out_of_fold_maps(image) for member in members] for image in images]
        self._known: dict[tuple[Weights, Weights], np.ndarray] = {}
        pixels = sum(maps.size for maps in self._maps[0] if maps is not None) * len(images)
        self._pool = Parallel(n_jobs=jobs_for(pixels))

    def at(self, temperatures: Sequence[float]) -> Candidates:
        """Return the same under other temperatures; both know what either has decoded."""
        other = copy(self)
        other.temperatures = tuple(temperatures)
        return other

    def __call__(self, candidates: Sequence[Weights]) -> np.ndarray:
        """Return the score of each image under each candidate, float64 (len(candidates), N)."""
        keys = [(self.temperatures, normal(weights)) for weights in candidates]
        if new := [key for key in dict.fromkeys(keys) if key not in self._known]:
            means = [self._mean(weights) for _, weights in new]
            rows = self._pool(
                delayed(_scores)(maps, self.temperatures, truth, means, self._column)
                for maps, truth in zip(self._maps, self._truths, strict=True)
            )
            self._known |= dict(zip(new, np.array(rows).T, strict=True))
        return np.stack([self._known[key] for key in keys])

    def _mean(self, weights: Weights) -> tuple[WeightedMean, list[int]]:
        """Return the mean, and which members it is of."""
        taken = [i for i, weight in enumerate(weights) if weight > 0]
        mean = WeightedMean(
            [self.members[i].head for i in taken],
            [self.members[i].run.side for i in taken],
            [weights[i] for i in taken],
            [self.temperatures[i] for i in taken],
            self.members[0].run.config,
        )
        return mean, taken


def _scores(
    maps: Sequence[np.ndarray | None],
    temperatures: Sequence[float],
    truth: np.ndarray,
    means: Sequence[tuple[WeightedMean, list[int]]],
    column: int,
) -> list[float]:
    """Return one image's score under each mean."""
    found = []

    @cache
    def placed(member: int, side: int) -> np.ndarray | None:
        one = maps[member]
        return None if one is None else on_grid(one, side, temperatures[member])

    for mean, taken in means:
        blended = mean.of(placed(member, mean.side) for member in taken)
        regions = mean.head.decode(blended, mean.head.defaults, truth.shape)
        found.append(rand_scores(truth, regions)[METRICS[column]])
    return found


def normal(weights: Weights) -> Weights:
    """Return weights of sum 1, such that equal candidates are equal."""
    total = sum(weights)
    return tuple(round(weight / total, _DIGITS) for weight in weights)


def greedy(worth: Worth, count: int) -> Weights:
    """Add the member that helps most, again and again, and return the best bag on the way.

    Members may be added several times, which makes their weights.

    Source: R. Caruana et al. (2004), "Ensemble selection from libraries of models".
    """
    bag = np.zeros(count)
    best, most, idle = (1.0,) * count, -np.inf, 0
    for _ in range(_ROUNDS):
        tried = [tuple(bag + one) for one in np.eye(count)]
        values = worth(tried)
        bag = np.array(tried[int(values.argmax())])
        if values.max() > most:
            best, most, idle = normal(tuple(bag)), float(values.max()), 0
        else:
            idle += 1
            if idle == _PATIENCE:
                break
    return best


def draw(draws: Sequence[Weights], worth: Worth) -> Weights:
    """Return the best of some weights."""
    return draws[int(worth(draws).argmax())]


def random_weights(count: int, draws: int, seed: int = 0) -> list[Weights]:
    """Return equal weights and random ones, evenly over all that add up to 1."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(count), draws - 1)
    return [normal((1.0,) * count), *(normal(tuple(row)) for row in rows)]


def nested(
    candidates: Candidates,
    search: Search,
    found: Callable[[], None] = lambda: None,
    by_fold: Mapping[int, Candidates] | None = None,
) -> tuple[np.ndarray, Weights]:
    """Search weights on all images, and estimate honestly what they score.

    Parameters
    ----------
    search : callable
        Returns the best weights, given what the worth of candidates is.
    found : callable
        Told after each search, of which there is one a fold and one on all.
    by_fold : mapping of int to Candidates, optional
        For each fold the same candidates, under temperatures that its images had no part in.

    Returns
    -------
    honest : ndarray of float64, shape (N,)
        Each image's score under weights that were searched for on the other folds, and the
        temperatures of its fold.
    weights : tuple of float
        Those found on all images.
    """
    honest = np.empty(len(candidates.folds))
    for fold in np.unique(candidates.folds).tolist():
        inside = candidates.folds == fold
        own = by_fold[fold] if by_fold else candidates
        weights = search(partial(_worth, own, ~inside))
        honest[inside] = own([weights])[0, inside]
        found()
    weights = search(partial(_worth, candidates, candidates.folds >= 0))
    found()
    return honest, weights


def _worth(candidates: Candidates, images: np.ndarray, tried: Sequence[Weights]) -> np.ndarray:
    return candidates(tried)[:, images].mean(axis=1)
