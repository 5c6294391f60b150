"""How well a partition of segments agrees with several others, and what moves would change.

A partition P of n pixels is scored against each input i as `compkit.metrics.rand` does, with input
i as the truth. With C_i the table of input i's labels by P's clusters, S_i = Σ C_i² and B_i = Σ
(column sums)²; A_i = Σ (row sums)² and n_i never change. So whatever moves from one cluster to
another changes each score through S_i and B_i alone, and to first order through the sum over inputs
of slope · change, which for all segments and all clusters is one product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Tally:
    """A partition into K clusters, counted.

    Attributes
    ----------
    clusters : ndarray of intp, shape (S,)
        The cluster of every segment, 0 to K − 1, none of them empty.
    table : ndarray of float64, shape (L + 1, K + 1)
        Pixels of every label of every input in each cluster. The last row (segments that an input
        does not judge) and the last column (a cluster yet to be made) are zero.
    sizes : ndarray of float64, shape (M, K + 1)
        Pixels that each input judges in each cluster.
    joined, spread : ndarray of float64, shape (M,)
        S_i − n_i and B_i − n_i: ordered pairs of pixels together in both, and in the partition.
    value : float
        The weighted mean score.
    """

    clusters: np.ndarray
    table: np.ndarray
    sizes: np.ndarray
    joined: np.ndarray
    spread: np.ndarray
    value: float

    @property
    def count(self) -> int:
        """K."""
        return self.table.shape[1] - 1


class Agreement:
    """The weighted mean over inputs of the score that a partition gets with that input as truth.

    Parameters
    ----------
    codes : ndarray of intp, shape (M, S)
        Label of every segment in each input, 0, 1, … without gaps; −1 where it does not judge.
    sizes : ndarray of int64, shape (S,)
        Pixels of the segments.
    weights : ndarray of float64, shape (M,)
        Positive, of sum 1.
    adjusted : bool
        Take the adjusted Rand index, else the plain one.

    Attributes
    ----------
    rows : ndarray of intp, shape (M, S)
        The row of `Tally.table` where each segment counts.
    judged : ndarray of bool, shape (M, S)
    input_of : ndarray of intp, shape (L,)
        To which input a row of the table belongs.
    onehot, owner : sparse array, shape (S, L + 1) and (M, L + 1)
        The rows of each segment, and of each input, for products.
    """

    def __init__(
        self, codes: np.ndarray, sizes: np.ndarray, weights: np.ndarray, adjusted: bool
    ) -> None:
        inputs, segments = codes.shape
        labels = codes.max(axis=1, initial=-1) + 1
        total = int(labels.sum())
        starts = np.cumsum(labels) - labels
        self.codes, self.weights, self.adjusted = codes, weights, adjusted
        self.sizes = sizes.astype(np.float64)
        self.judged = codes >= 0
        self.rows = np.where(self.judged, codes + starts[:, None], total)
        self.input_of = np.repeat(np.arange(inputs), labels)
        ends = np.arange(0, inputs * segments + 1, inputs)
        self.onehot = sparse.csr_array(
            (np.ones(inputs * segments), self.rows.T.ravel(), ends), shape=(segments, total + 1)
        )
        self.owner = sparse.csr_array(
            (np.ones(total), (self.input_of, np.arange(total))), shape=(inputs, total + 1)
        )
        whole = self._counted(np.zeros(segments, np.intp), 1)
        self.pixels = (self.owner @ whole)[:, 0]
        self._truth = (self.owner @ whole**2)[:, 0] - self.pixels  # A_i − n_i
        self._pairs = self.pixels * (self.pixels - 1)

    def tally(self, clusters: np.ndarray) -> Tally:
        """Count a partition, ids of any kind, shape (S,)."""
        ids, clusters = np.unique(clusters, return_inverse=True)
        table = self._counted(clusters, len(ids) + 1)
        sizes = self.owner @ table
        joined = (self.owner @ (table * table).sum(axis=1)) - self.pixels
        spread = (sizes * sizes).sum(axis=1) - self.pixels
        value = float(self.weights @ self.scores(joined, spread))
        return Tally(clusters, table, sizes, joined, spread, value)

    def scores(self, joined: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return every input's score of partitions of which only these counts matter.

        Parameters
        ----------
        joined, spread : ndarray of float64, shape (M, ...)
            As in `Tally`.
        """
        shape = (-1,) + (1,) * (joined.ndim - 1)
        truth, pairs = self._truth.reshape(shape), self._pairs.reshape(shape)
        apart = pairs - truth - spread + joined
        if self.adjusted:
            top = 2 * (joined * apart - (truth - joined) * (spread - joined))
            bottom = truth * (pairs - spread) + spread * (pairs - truth)
        else:
            top, bottom = joined + apart, np.broadcast_to(pairs, joined.shape)
        # 1 is what `compkit.metrics.rand` gives the degenerate.
        return np.divide(top, bottom, out=np.ones_like(joined), where=bottom > 0)

    def slopes(self, tally: Tally) -> tuple[np.ndarray, np.ndarray]:
        """Return how the value grows with `joined` and with `spread`, shape (M,) each."""
        truth, pairs = self._truth, self._pairs
        if self.adjusted:
            scores = self.scores(tally.joined, tally.spread)
            bottom = truth * (pairs - tally.spread) + tally.spread * (pairs - truth)
            tops = 2 * pairs, -2 * truth - scores * (pairs - 2 * truth)
        else:
            bottom, tops = pairs, (np.full_like(pairs, 2), np.full_like(pairs, -1))
        # A degenerate score jumps: it has no slope.
        scale = np.divide(self.weights, bottom, out=np.zeros_like(pairs), where=bottom > 0)
        return scale * tops[0], scale * tops[1]

    def potentials(self, tally: Tally, slopes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return what a pixel of each label gains in each cluster, to first order and halved.

        Shape (L + 1, K + 1): products with counts of pixels by label give the gain of pieces.
        """
        potentials = np.zeros_like(tally.table)
        a, b = slopes
        potentials[:-1] = a[self.input_of, None] * tally.table[:-1]
        potentials[:-1] += (b[:, None] * tally.sizes)[self.input_of]
        return potentials

    def moved(self, tally: Tally, segments: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the exact values if one segment alone moved, for each of several.

        Parameters
        ----------
        segments, targets : ndarray of intp, shape (N,)
            What moves, and the cluster to which; K is a new one.
        """
        sizes, rows = self.sizes[segments], self.rows[:, segments]
        sources = tally.clusters[segments]
        twice = 2 * sizes * self.judged[:, segments]
        joined = twice * (tally.table[rows, targets] - tally.table[rows, sources] + sizes)
        spread = twice * (tally.sizes[:, targets] - tally.sizes[:, sources] + sizes)
        return self.weights @ self.scores(
            tally.joined[:, None] + joined, tally.spread[:, None] + spread
        )

    def _counted(self, clusters: np.ndarray, width: int) -> np.ndarray:
        keys = (self.rows * width + clusters).ravel()
        height = len(self.input_of) + 1
        pixels = np.broadcast_to(self.sizes, self.rows.shape).ravel()
        table = np.bincount(keys, pixels, height * width).reshape(height, width)
        table[-1] = 0
        return table
