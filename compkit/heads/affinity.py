"""Partitions whose maps are affinities: the only form in which pairs of pixels can be averaged."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from compkit.config import PartitionConfig
from compkit.heads.graph import graph_space, mutex_watershed, offsets_of, shifted
from compkit.heads.partition import Offsets, Partition, Truth
from compkit.parameters import Params


class Pairwise(Partition):
    """Maps say of each pixel and its neighbours, near and far, whether they are of one region.

    Whatever the network's outputs are (affinities, slots, embeddings), that statement alone keeps
    its meaning from one view and one network to another.
    """

    def __init__(self, config: PartitionConfig, side: int) -> None:
        self.config = config
        self.offsets = offsets_of(config.reach, side)
        self.maps = tuple(f"same{down:+d}{right:+d}" for down, right in self.offsets)
        self.space = graph_space(config.reach)

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        same = [(labels > 0) & (labels == shifted(labels, offset)) for offset in self.offsets]
        return np.stack(same).astype(np.float32)

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Return the probability that the pixel at each offset is of the same region."""

    def known(self, shape: tuple[int, int]) -> Tensor:
        """Pairs whose other pixel lies outside have none."""
        inside = []
        for offset in self.offsets:
            ends = [torch.arange(n) + step for n, step in zip(shape, offset, strict=True)]
            rows, columns = ((end >= 0) & (end < n) for end, n in zip(ends, shape, strict=True))
            inside.append(rows[:, None] & columns)
        return torch.stack(inside)

    def others(self, values: Tensor) -> Tensor:
        """Return `values` (..., H, W) of the pixels at each offset, (..., O, H, W).

        Of a pixel outside it is that of another one.
        """
        return torch.stack([values.roll((-d, -r), (-2, -1)) for d, r in self.offsets], dim=-3)

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Take each offset's map from the channel that held it in the view."""
        channels = []
        for offset in self.offsets:
            seen = tuple(int(v) for v in matrix @ np.array(offset))
            if seen in self.offsets:
                channels.append(maps[:, self.offsets.index(seen)])
            else:
                # The view had the pair from its other end: it stands at that end's place.
                opposite = maps[:, self.offsets.index((-seen[0], -seen[1]))]
                channels.append(shifted(opposite, offset))
        return torch.stack(channels, dim=1)

    def decode(
        self, foreground: np.ndarray, mask: np.ndarray, maps: np.ndarray, params: Params
    ) -> np.ndarray:
        return mutex_watershed(maps, self.offsets, mask, params, self.config.reach)

    def affinities(self, maps: np.ndarray, offsets: Offsets) -> np.ndarray:
        return maps[[self.offsets.index(offset) for offset in offsets]]


class Affinity(Pairwise):
    """One output an offset (Wolf et al. 2018; Bailoni et al. 2019 for the choice of offsets)."""

    name = "affinity"

    def __init__(self, config: PartitionConfig, side: int) -> None:
        super().__init__(config, side)
        self.outputs = self.maps

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        """Cross entropy, in which pairs of one region and of two count as much in all.

        Pairs with an end outside the image, or without an end in a region, do not count.
        """
        same, weights = self._pairs(truth)
        pixels = binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        return torch.stack([_mean(pixels, weights * same), _mean(pixels, weights * ~same)]).mean()

    def _pairs(self, truth: Truth) -> tuple[Tensor, Tensor]:
        """Return whether pairs are of one region, and how much they count, (N, O, H, W) each."""
        here, there = truth.labels[:, None], self.others(truth.labels)
        inside = self.known((here.shape[-2], here.shape[-1])).to(here.device)
        known = ((here > 0) | (there > 0)) & inside
        weights = truth.weights * self.others(truth.weights[:, 0])
        return (here == there) & known, weights.sqrt() * known

    def activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def _mean(pixels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over images and pixels, averaged over channels."""
    sums = (pixels * weights).sum((0, 2, 3)) / weights.sum((0, 2, 3)).clamp_min(1)
    return sums.mean()
