"""The partition of segments on which several others agree best, by local search.

As in correlation clustering: from every input, and from all segments together, segments move to
other clusters while that helps. First-order gains choose among moves, exact ones decide.

Source: N. Bansal, A. Blum and S. Chawla (2004), "Correlation clustering".
"""

from __future__ import annotations

import numpy as np

from compkit.blend.agreement import Agreement, Tally

#: Gains of a move below the first are none; below the second, those of a round end the search.
_GAIN, _LEAST = 1e-8, 1e-6
#: New clusters that one round of moves may make; further segments can join them in the next.
_NEW = 32
#: Numbers in a matrix of gains: segments are taken in blocks.
_BLOCK = 1 << 22


def search(objective: Agreement, inputs: list[Tally]) -> Tally:
    """Return the best partition that is found from each of `inputs`, and from a single cluster."""
    starts = [objective.tally(np.zeros_like(inputs[0].clusters)), *inputs]
    return max((_settled(objective, one) for one in starts), key=lambda tally: tally.value)


def _settled(objective: Agreement, tally: Tally) -> Tally:
    """Move segments, many in a round, until a round gains next to nothing."""
    while (better := _round(objective, tally)) is not None:
        gain, tally = better.value - tally.value, better
        if gain < _LEAST:
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
