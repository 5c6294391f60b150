"""The label map on which several label maps of one image agree best, whatever their ids.

The wanted partition maximises the weighted mean over inputs of the metric with that input as the
truth; it is searched for.

Source: A. Gionis, H. Mannila and P. Tsaparas (2007), "Clustering aggregation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from compkit.blend.agreement import Agreement
from compkit.blend.search import search
from compkit.regions import numbered


@dataclass(frozen=True)
class Segments:
    """The joint segments of M label maps, on which none of them changes, by their first pixel.

    Attributes
    ----------
    index : ndarray of intp, shape (H, W)
        The segment of every pixel. A segment need not hang together.
    labels : integer ndarray, shape (M, S)
        Every segment's label in each map.
    sizes : ndarray of int64, shape (S,)
        Pixels.
    """

    index: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Consensus:
    """What M label maps of one image agree on.

    Attributes
    ----------
    labels : ndarray of int32, shape (H, W)
        Regions numbered 1… by first pixel; 0 is background.
    agreement : ndarray of float64, shape (M,)
        The score of the consensus if each input were the truth.
    mutual : ndarray of float64, shape (M, M)
        The score of each input (column) if another were the truth (row).
    """

    labels: np.ndarray
    agreement: np.ndarray
    mutual: np.ndarray


def find_consensus(labels: np.ndarray, weights: np.ndarray, metric: str) -> Consensus:
    """Return the label map of the highest weighted mean score with each input as the truth.

    The order of the inputs and their numbering of regions do not matter, and no input does better.
    The background is the cluster that holds most of the inputs' background; pixels that every input
    calls background count nowhere under the foreground metrics, and stay background.

    Parameters
    ----------
    labels : integer ndarray, shape (M, H, W)
        The inputs' label maps, of at least one pixel; 0 is background.
    weights : ndarray of float, shape (M,)
        Positive.
    metric : str
        One of `compkit.metrics.rand.METRICS`.
    """
    segments = joint_segments(labels)
    objective, place, seen = objective_of(segments, weights, metric)
    inputs = [objective.tally(row) for row in objective.codes]
    best = search(objective, inputs) if len(inputs) > 1 else inputs[0]
    clusters = np.full(len(seen), best.count)
    clusters[seen] = best.clusters
    scores = [objective.scores(tally.joined, tally.spread)[place] for tally in (best, *inputs)]
    return Consensus(
        numbered(_with_background(clusters, segments, weights)[segments.index]),
        scores[0],
        np.stack(scores[1:], axis=1)[:, place],
    )


def joint_segments(labels: np.ndarray) -> Segments:
    """Return the segments of pixels that have the same label in every map, (M, H, W)."""
    pixels = pd.DataFrame(labels.reshape(len(labels), -1).T)
    numbers = pixels.groupby(list(pixels), sort=False).ngroup().to_numpy()
    distinct = pixels.drop_duplicates().to_numpy().T
    return Segments(numbers.reshape(labels.shape[1:]), distinct, np.bincount(numbers))


def objective_of(
    segments: Segments, weights: np.ndarray, metric: str
) -> tuple[Agreement, np.ndarray, np.ndarray]:
    """Return what is to be maximised, and what stands for what in it.

    Inputs that agree count as one. They are sorted by content, so that their order breaks no tie.

    Returns
    -------
    objective : Agreement
        Of the distinct inputs and the segments that any of them judges.
    place : ndarray of intp, shape (M,)
        Which of the distinct inputs each one is.
    seen : ndarray of bool, shape (S,)
        The segments that any input judges.
    """
    labels = segments.labels
    if metric != "adjusted_all":
        labels = np.where(labels == 0, np.nan, labels)  # becomes −1
    codes = np.array([pd.factorize(row)[0] for row in labels])
    seen: np.ndarray = np.any(codes >= 0, axis=0)
    codes, place = np.unique(codes[:, seen], axis=0, return_inverse=True)
    place = place.ravel()
    shares = np.array([math.fsum(weights[place == k]) for k in range(len(codes))])
    shares /= math.fsum(weights)
    adjusted = metric != "plain_foreground"
    return Agreement(codes, segments.sizes[seen], shares, adjusted), place, seen


def _with_background(clusters: np.ndarray, segments: Segments, weights: np.ndarray) -> np.ndarray:
    """Return the clusters of segments numbered from 1, and 0 for that of most background."""
    clusters = pd.factorize(clusters)[0]
    pixels = (segments.labels == 0) * segments.sizes
    votes = np.array([np.bincount(clusters, row) for row in pixels]) * weights[:, None]
    if not votes.any():
        return clusters + 1
    totals = [math.fsum(column) for column in votes.T]  # exact: whatever the order of the inputs
    return np.where(clusters == int(np.argmax(totals)), 0, clusters + 1)
