"""The partition of segments on which several others agree best, by local search.

As in correlation clustering: from every input, and from segments joined greedily, segments move to
other clusters while that helps. First-order gains choose among moves, exact ones decide.

Sources: N. Bansal, A. Blum and S. Chawla (2004), "Correlation clustering"; M. Keuper et al. (2015),
"Efficient decomposition of image and mesh graphs by lifted multicuts", for the greedy joining.
"""

from __future__ import annotations

import numpy as np

from compkit.blend.agreement import Agreement, Tally

#: Gains below this are none.
_GAIN = 1e-8
#: Starts are followed until a round gains less than the first; the best few, than the second.
_COARSE, _FINE, _FINALISTS = 1e-5, 1e-6, 3
#: The greedy joining begins with so many of the largest segments.
_SEEDS = 300
#: New clusters that one round of moves may make; further segments can join them in the next.
_NEW = 32
#: Numbers in a matrix of gains: segments are taken in blocks.
_BLOCK = 1 << 22


def search(objective: Agreement, inputs: list[Tally]) -> Tally:
    """Return the best partition that is found from each of `inputs` and from the greedy joining."""
    start = max(inputs, key=lambda tally: tally.value)
    starts = [objective.tally(_joined_greedily(objective, start)), *inputs]
    ends = [_settled(objective, tally, _COARSE) for tally in starts]
    ends.sort(key=lambda tally: -tally.value)
    ends = [_settled(objective, tally, _FINE) for tally in ends[:_FINALISTS]]
    return max(ends, key=lambda tally: tally.value)


def _joined_greedily(objective: Agreement, start: Tally) -> np.ndarray:
    """Join the largest segments while any two attract, then give each of the others the best.

    To first order at `start`, clusters attract each other with the sum over their pairs of pixels;
    the pair that attracts most is joined first.
    """
    slopes = objective.slopes(start)
    seeds = np.sort(np.argsort(-objective.sizes, kind="stable")[:_SEEDS])
    clusters = np.full(len(objective.sizes), -1)
    clusters[seeds] = np.arange(len(seeds))
    apart = objective.potentials(objective.tally(clusters), slopes)
    attraction = objective.onehot[seeds] @ apart[:, -1 - len(seeds) : -1]
    clusters[seeds] = _joined(attraction * objective.sizes[seeds, None])
    tally = objective.tally(clusters)
    potentials = objective.potentials(tally, slopes)
    if len(seeds) < len(clusters):
        potentials[:, 0] = -np.inf  # those to be given
    clusters = (objective.onehot @ potentials).argmax(axis=1)
    clusters[seeds] = tally.clusters[seeds]
    return clusters


def _joined(attraction: np.ndarray) -> np.ndarray:
    """Return clusters, shape (N,), of things that attract or repel each other, shape (N, N)."""
    clusters = np.arange(len(attraction))
    np.fill_diagonal(attraction, -np.inf)
    while True:
        one, other = sorted(divmod(int(attraction.argmax()), len(attraction)))
        if attraction[one, other] <= 0:
            return clusters
        attraction[one] += attraction[other]
        attraction[:, one] = attraction[one]
        attraction[one, one] = attraction[other] = attraction[:, other] = -np.inf
        clusters[clusters == other] = one


def _settled(objective: Agreement, tally: Tally, least: float) -> Tally:
    """Move segments, many in a round, until a round gains less than `least`."""
    while (better := _round(objective, tally)) is not None:
        gain, tally = better.value - tally.value, better
        if gain < least:
            break
    return tally


def _round(objective: Agreement, tally: Tally) -> Tally | None:
    """Move all segments that gain by it; where they spoil it for each other, only the best."""
    segments, targets = _wanted(objective, tally)
    while len(segments):
        clusters = tally.clusters.copy()
        clusters[segments] = targets
        better = objective.tally(clusters)
        if better.value > tally.value + _GAIN:
            return better
        kept = max(1, len(segments) // 4) if len(segments) > 1 else 0
        segments, targets = segments[:kept], targets[:kept]
    return None


def _wanted(objective: Agreement, tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    """Return which segments gain by a move to which cluster, best first; K… are new clusters."""
    potentials = objective.potentials(tally, objective.slopes(tally))
    targets = np.empty_like(tally.clusters)
    step = 1 + _BLOCK // len(potentials[0])
    for start in range(0, len(targets), step):
        block = slice(start, start + step)
        gains = objective.onehot[block] @ potentials
        gains[np.arange(len(gains)), tally.clusters[block]] = -np.inf
        targets[block] = gains.argmax(axis=1)
    every = np.arange(len(targets))
    gains = objective.moved(tally, every, targets) - tally.value
    segments = np.flatnonzero(gains > _GAIN)
    segments = segments[np.argsort(-gains[segments], kind="stable")]
    targets = targets[segments]
    fresh = np.cumsum(targets == tally.count)
    kept = (targets < tally.count) | (fresh <= _NEW)
    return segments[kept], np.where(targets < tally.count, targets, tally.count + fresh)[kept]
