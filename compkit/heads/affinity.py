"""Partitions whose maps are affinities: the only form in which pairs of pixels can be averaged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad

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
        inside = torch.ones(shape, dtype=torch.bool)
        ends = [at_first_end(pairs(inside, o)[0], o, shape) for o in self.offsets]
        return torch.stack(ends)

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
        same, weights = [], []
        for offset in self.offsets:
            here, there = pairs(truth.labels, offset)
            first, second = pairs(truth.weights[:, 0], offset)
            known = (here > 0) | (there > 0)
            shape = truth.labels.shape[-2:]
            same.append(at_first_end((here == there) & known, offset, shape))
            weights.append(at_first_end((first * second).sqrt() * known, offset, shape))
        return torch.stack(same, dim=1), torch.stack(weights, dim=1)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def pairs(values: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return both ends of every pair of pixels at `offset`, two views (..., H', W') of `values`.

    An offset beyond the image has no pairs: the views are empty.
    """
    height, width = values.shape[-2:]
    (top, bottom), (left, right) = _span(offset[0], height), _span(offset[1], width)
    here = values[..., top:bottom, left:right]
    down, across = offset
    return here, values[..., top + down : bottom + down, left + across : right + across]


def at_first_end(values: Tensor, offset: tuple[int, int], shape: Sequence[int]) -> Tensor:
    """Return values of `pairs`, (..., H', W'), at their first pixels, and 0 elsewhere."""
    (top, bottom), (left, right) = _span(offset[0], shape[0]), _span(offset[1], shape[1])
    return pad(values, (left, shape[1] - right, top, shape[0] - bottom))


def _span(step: int, length: int) -> tuple[int, int]:
    """Return the range of places from which `step` leads to another place under `length`."""
    first = min(max(0, -step), length)
    return first, max(first, length - max(0, step))


def _mean(pixels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over images and pixels, averaged over channels."""
    sums = (pixels * weights).sum((0, 2, 3)) / weights.sum((0, 2, 3)).clamp_min(1)
    return sums.mean()
