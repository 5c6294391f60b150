"""Embeddings: pixels of one region lie near each other, regions far apart."""

from __future__ import annotations

import torch
from torch import Tensor

from compkit.heads.affinity import Pairwise
from compkit.heads.partition import Truth
from compkit_research.losses.discriminative import PUSH, discriminative_loss

#: Change of distance over which affinities fall from 1/2 to 1/(1 + e): pairs of one region, at
#: most 1 apart where the loss is 0, get over 0.9; pairs of two, at least 2 apart, under 0.1.
_FALL = 0.2


class Embedding(Pairwise):
    """A vector for each pixel, compared by its distance to others (De Brabandere et al. 2017)."""

    name = "embedding"
    weight = 0.1

    outputs = tuple(f"dim{number}" for number in range(8))

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        return discriminative_loss(logits, truth.labels, truth.weights)

    def activate(self, logits: Tensor) -> Tensor:
        """Return a sigmoid of the distance, 1/2 in the middle between one region and two."""
        others = self.others(logits).unbind(-3)
        distances = [torch.linalg.vector_norm(logits - there, dim=1) for there in others]
        inside = self.known((logits.shape[-2], logits.shape[-1])).to(logits.device)
        return ((PUSH - torch.stack(distances, dim=1)) / _FALL).sigmoid() * inside
