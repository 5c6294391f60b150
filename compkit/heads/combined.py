"""Several partitions on one network, parted together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from compkit.config import PartitionConfig
from compkit.heads.graph import graph_space, mutex_watershed, offsets_of
from compkit.heads.partition import Partition, Truth
from compkit.parameters import Params


class Combined(Partition):
    """The mean of what each partition says about pairs of pixels, cut by the mutex watershed.

    Parameters
    ----------
    parts : sequence of Partition
    config : PartitionConfig
    side : int
        As for `Partition`.
    shares : sequence of float, optional
        Weight of each part in the mean; equal ones by default.
    """

    def __init__(
        self,
        parts: Sequence[Partition],
        config: PartitionConfig,
        side: int,
        shares: Sequence[float] | None = None,
    ) -> None:
        self._joined, self._shares, self._reach = tuple(parts), shares, config.reach
        self.offsets = offsets_of(config.reach, side)
        self.name = "+".join(part.name for part in parts)
        self.outputs = tuple(f"{p.name}.{output}" for p in parts for output in p.outputs)
        self.maps = tuple(f"{p.name}.{channel}" for p in parts for channel in p.maps)
        self.space = graph_space(config.reach)
        self._outputs = _slices([len(part.outputs) for part in parts])
        self._maps = _slices([len(part.maps) for part in parts])
        self._targets = _slices([len(part.targets(np.zeros((8, 8), int))) for part in parts])

    @property
    def parts(self) -> Sequence[Partition]:
        return self._joined

    def targets(self, labels: np.ndarray) -> np.ndarray:
        return np.concatenate([part.targets(labels) for part in self._joined])

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        return np.concatenate([part.ideal(labels) for part in self._joined])

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        losses = []
        for part, outputs, targets in zip(self._joined, self._outputs, self._targets, strict=True):
            own = Truth(truth.labels, truth.targets[:, targets], truth.weights)
            losses.append(part.weight * part.loss(logits[:, outputs], own, foreground))
        return torch.stack(losses).sum()

    def activate(self, logits: Tensor) -> Tensor:
        parts = zip(self._joined, self._outputs, strict=True)
        return torch.cat([part.activate(logits[:, outputs]) for part, outputs in parts], dim=1)

    def known(self, shape: tuple[int, int]) -> Tensor:
        return torch.cat([part.known(shape) for part in self._joined])

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        parts = zip(self._joined, self._maps, strict=True)
        return torch.cat([part.reorient(maps[:, chosen], matrix) for part, chosen in parts], dim=1)

    def decode(
        self, foreground: np.ndarray, mask: np.ndarray, maps: np.ndarray, params: Params
    ) -> np.ndarray:
        mean = self.affinities(maps, self.offsets)
        return mutex_watershed(mean, self.offsets, mask, params, self._reach)

    def affinities(self, maps: np.ndarray, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
        parts = zip(self._joined, self._maps, strict=True)
        found = [part.affinities(maps[chosen], offsets) for part, chosen in parts]
        return np.average(found, axis=0, weights=self._shares).astype(np.float32, copy=False)


def _slices(counts: Sequence[int]) -> list[slice]:
    ends = [0, *np.cumsum(counts).tolist()]
    return [slice(a, b) for a, b in pairwise(ends)]
