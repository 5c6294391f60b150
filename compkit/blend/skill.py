"""Weights of a consensus' inputs by how well each does on labelled images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compkit.blend.consensus import find_consensus
from compkit.metrics.bootstrap import standard_error
from compkit.metrics.rand import rand_scores
from compkit.parallel import each_image

#: An input that scores this much less than another weighs 1/e of it; smaller is sharper.
TEMPERATURES = (0.1, 0.03, 0.01)

#: Parts of the images; each is scored with weights that come from the other parts.
FOLDS = 5


@dataclass(frozen=True)
class Skill:
    """What the labelled images say of M inputs.

    Attributes
    ----------
    weights : ndarray of float64, shape (M,)
        Of sum 1.
    temperature : float or None
        What made the weights; None where they are uniform.
    inputs : ndarray of float64, shape (N, M)
        Every input's score on each image.
    uniform, weighted : ndarray of float64, shape (N,)
        The score of the consensus on each image, with uniform weights; and with weights and
        temperature chosen without that image.
    """

    weights: np.ndarray
    temperature: float | None
    inputs: np.ndarray
    uniform: np.ndarray
    weighted: np.ndarray

    @property
    def consensus(self) -> np.ndarray:
        """The cross-validated score, on each image, of the consensus as it was chosen."""
        return self.uniform if self.temperature is None else self.weighted


def weigh(
    truths: Sequence[np.ndarray], inputs: Sequence[Sequence[np.ndarray]], metric: str
) -> Skill:
    """Choose weights for the inputs, uniform unless others are better beyond chance.

    A temperature replaces the uniform weights only for a gain beyond its standard error over
    images, whose groups nobody knows here. The scores that choose one come from weights made
    without the image scored, and where a part of the images is scored with the choice, from the
    other parts alone.

    Parameters
    ----------
    truths : sequence of N integer ndarray, shape (H, W)
        At least `FOLDS` of them.
    inputs : sequence of M sequences of N integer ndarray, shape (H, W)
        The inputs' label maps of those images, made without them.
    metric : str
        One of `compkit.metrics.rand.METRICS`.
    """
    count, pixels = len(truths), sum(truth.size for truth in truths) * len(inputs)
    jobs = ((truth, maps, metric) for truth, maps in _pairs(truths, inputs))
    scores = np.array(list(each_image(_input_scores, jobs, "scoring the inputs", count, pixels)))
    parts = np.random.default_rng(0).permutation(count) % FOLDS
    tried = [
        [np.ones(len(inputs))] + [_weights(scores[parts != part], t) for t in TEMPERATURES]
        for part in range(FOLDS)
    ]
    work = (
        (*pair, tried[part], metric)
        for pair, part in zip(_pairs(truths, inputs), parts, strict=True)
    )
    found = np.array(list(each_image(_blend_scores, work, "weighing the inputs", count, pixels)))
    weighted = np.empty(count)
    for part in range(FOLDS):
        weighted[parts == part] = found[parts == part, _choice(found[parts != part])]
    chosen = _choice(found)
    temperature = TEMPERATURES[chosen - 1] if chosen else None
    weights = np.ones(len(inputs)) if temperature is None else _weights(scores, temperature)
    return Skill(weights / math.fsum(weights), temperature, scores, found[:, 0], weighted)


def _pairs(
    truths: Sequence[np.ndarray], inputs: Sequence[Sequence[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the truth of each image and its label maps, shape (M, H, W)."""
    for truth, *maps in zip(truths, *inputs, strict=True):
        yield truth, np.stack(maps)


def _weights(scores: np.ndarray, temperature: float) -> np.ndarray:
    means = scores.mean(axis=0)
    # An input of next to no weight still needs a positive one.
    return np.maximum(np.exp((means - means.max()) / temperature), 1e-6)


def _choice(found: np.ndarray) -> int:
    """Return the column of the best weights, 0 (uniform) unless another gains beyond chance."""
    best = int(found.mean(axis=0).argmax())
    gain = found[:, best] - found[:, 0]
    return best if gain.mean() > standard_error(gain) else 0


def _input_scores(truth: np.ndarray, maps: np.ndarray, metric: str) -> list[float]:
    return [rand_scores(truth, labels)[metric] for labels in maps]


def _blend_scores(
    truth: np.ndarray, maps: np.ndarray, tried: Sequence[np.ndarray], metric: str
) -> list[float]:
    blends = (find_consensus(maps, weights, metric).labels for weights in tried)
    return [rand_scores(truth, labels)[metric] for labels in blends]
