"""Dice losses and the cosine similarity that they share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

#: What a class without a single target pixel in the batch does to the mean over classes:
#: it is left out of it (ignore), or counted with its overlap of zero (count).
Absent = Literal["ignore", "count"]

#: The axes over which a class is pooled: images, rows and columns.
PIXELS = (0, 2, 3)


def dice_loss(
    probabilities: Tensor,
    targets: Tensor,
    weights: Tensor,
    smooth: float = 1.0,
    absent: Absent = "ignore",
) -> Tensor:
    """Return the Dice loss with squared denominators, pooled over the batch.

    ``mean_c 1 - (2 Σ A_cn B_cn + γ) / (Σ A_cn² + Σ B_cn² + γ)`` (Milletari et al. 2016, V-Net),
    every pixel n counted with its weight.

    Parameters
    ----------
    probabilities, targets : Tensor, shape (N, C, H, W)
        Predicted probabilities A and one-hot targets B.
    weights : Tensor of float or bool, shape (N, 1, H, W)
        How much each pixel counts; 0 leaves it out.
    smooth : float
        γ.
    absent : {"ignore", "count"}
        See `Absent`.
    """
    dice = class_dice(probabilities, targets, weights, smooth)
    return class_mean(1 - dice, targets * weights, absent)


def normalised_dice_loss(
    probabilities: Tensor, targets: Tensor, weights: Tensor, absent: Absent = "ignore"
) -> Tensor:
    """Return ``mean_c 1 - cos θ_c`` (Kato & Hotta 2022, eq. 4); arguments as in `dice_loss`."""
    cosine = class_cosine(probabilities, targets, weights)
    return class_mean(1 - cosine, targets * weights, absent)


def class_dice(
    probabilities: Tensor, targets: Tensor, weights: Tensor, smooth: float = 1.0
) -> Tensor:
    """Return the Dice coefficients that `dice_loss` takes from 1, over batch and pixels, (C,)."""
    a, b = probabilities * weights, targets * weights
    overlap = 2 * (a * targets).sum(PIXELS) + smooth
    size = (a * probabilities).sum(PIXELS) + (b * targets).sum(PIXELS) + smooth
    return overlap / size


def class_cosine(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return cos θ_c, the cosine of probabilities and targets over batch and pixels, shape (C,).

    A class without target pixels, or without any probability, has cosine 0.
    """
    a, b = probabilities * weights, targets * weights
    norms = (a * probabilities).sum(PIXELS) * (b * targets).sum(PIXELS)
    return (a * targets).sum(PIXELS) / norms.clamp_min(1e-12).sqrt()


def class_mean(losses: Tensor, targets: Tensor, absent: Absent) -> Tensor:
    """Return the mean of per-class losses, shape (C,), under the rule for absent classes.

    A batch in which no class is present (every weight 0) gives zero, with a gradient of zero.
    """
    if absent == "count":
        return losses.mean()
    present = (targets.sum(PIXELS) > 0).to(losses.dtype)
    return (losses * present).sum() / present.sum().clamp_min(1)


def class_overlap(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return intersection and sizes of hard masks, shape (2, C): Dice is their ratio.

    The first row is ``2 |A_c ∩ B_c|``, the second ``|A_c| + |B_c|``; both add up over batches.
    """
    a, b = predicted.double(), targets.double()
    return torch.stack([2 * (a * b).sum(PIXELS), a.sum(PIXELS) + b.sum(PIXELS)])
