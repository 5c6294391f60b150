"""Affinities straight from the network, near and far."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from compkit.config import PartitionConfig
from compkit.heads.pairwise import Pairwise, at_first_end, pairs
from compkit.heads.partition import Truth


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


def _mean(pixels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over images and pixels, averaged over channels."""
    sums = (pixels * weights).sum((0, 2, 3)) / weights.sum((0, 2, 3)).clamp_min(1)
    return sums.mean()
