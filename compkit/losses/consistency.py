"""How far a network's maps are from its teacher's."""

from __future__ import annotations

import torch
from torch import Tensor


def consistency_loss(
    maps: Tensor, teacher: Tensor, weights: Tensor, known: Tensor, confidence: float
) -> Tensor:
    """Return the binary cross entropy between two networks' maps, where the teacher is sure.

    A pixel of which it is unsure counts nothing, but still divides the sum, so that the loss begins
    small and grows with what the teacher knows (FixMatch, Sohn et al. 2020, eq. 4; the targets are
    soft here, since maps that part regions need not be near 0 or 1).

    Parameters
    ----------
    maps, teacher : Tensor of float32, shape (N, M, H, W)
        Between 0 and 1; the first channel is the foreground, which tells how sure the teacher is.
    weights : Tensor, shape (N, 1, H, W)
        How much each pixel counts.
    known : Tensor of bool, shape (M, H, W)
        Which values have a meaning.
    confidence : float
        Least probability that the teacher must give to foreground or background.
    """
    least = torch.finfo(torch.float32).eps
    maps = maps.float().clamp(least, 1 - least)
    entropy = -(teacher * maps.log() + (1 - teacher) * (1 - maps).log())
    sure = torch.maximum(teacher[:, :1], 1 - teacher[:, :1]) >= confidence
    counting = weights * known
    return (entropy * sure * counting).sum() / counting.sum().clamp_min(1)
