"""Affinities straight from the network, near and far."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from compkit.config import PartitionConfig
from compkit.heads.pairwise import Pairwise, inside, shift
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
        losses = []
        for channel, offset in enumerate(self.offsets):
            same, weights = _pairs(truth, offset)
            pixels = binary_cross_entropy_with_logits(
                logits[:, channel], same.to(logits.dtype), reduction="none"
            )
            losses += [_mean(pixels, weights * same), _mean(pixels, weights * ~same)]
        return torch.stack(losses).mean()

    def activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def _pairs(truth: Truth, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return whether each pair is of one region, and how much it counts, (N, H, W) each."""
    here, there = truth.labels, shift(truth.labels, offset)
    weights = truth.weights[:, 0]
    both = (weights * shift(weights, offset)).sqrt()
    known = inside(here.shape[-2:], offset, here.device) & ((here > 0) | (there > 0))
    return (here == there) & (here > 0), both * known


def _mean(pixels: Tensor, weights: Tensor) -> Tensor:
    return (pixels * weights).sum() / weights.sum().clamp_min(1)
