"""The built-in losses of the foreground, of logits, one-hot targets and pixel weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import log_softmax

from compkit.losses.dice import dice_loss, normalised_dice_loss, tvmf_dice_loss


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross entropy over pixels; zero where every weight is 0.

    Parameters
    ----------
    logits, targets : Tensor, shape (N, C, H, W)
        Raw outputs and one-hot (or soft) targets.
    weights : Tensor of float or bool, shape (N, 1, H, W)
        How much each pixel counts; 0 leaves it out.
    """
    pixels = -(targets * log_softmax(logits, dim=1)).sum(dim=1, keepdim=True)
    return (pixels * weights).sum() / weights.sum().clamp_min(1)


def of_logits(
    loss: Callable[..., Tensor], logits: Tensor, targets: Tensor, weights: Tensor, **own: Any
) -> Tensor:
    """Return a loss of probabilities, as of the logits from which they come."""
    return loss(logits.softmax(dim=1), targets, weights, **own)


dice = partial(of_logits, dice_loss)
normalised_dice = partial(of_logits, normalised_dice_loss)
tvmf_dice = adaptive_tvmf_dice = partial(of_logits, tvmf_dice_loss)
