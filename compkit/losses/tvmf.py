"""The t-vMF Dice loss of Kato & Hotta 2022 (arXiv 2207.07842)."""

from __future__ import annotations

from torch import Tensor

from compkit.losses.dice import Absent, class_cosine, class_mean


def tvmf_similarity(cosine: Tensor, kappa: Tensor | float) -> Tensor:
    """Return φ(cos θ; κ) = (1 + cos θ) / (1 + κ (1 − cos θ)) − 1 (eq. 5).

    κ = 0 gives cos θ; a larger κ demands a closer match for the same similarity.
    """
    return (1 + cosine) / (1 + kappa * (1 - cosine)) - 1


def tvmf_dice_loss(
    probabilities: Tensor,
    targets: Tensor,
    weights: Tensor,
    kappa: Tensor | float,
    absent: Absent = "ignore",
) -> Tensor:
    """Return ``mean_c (1 − φ(cos θ_c; κ_c))²`` (eq. 6).

    Parameters
    ----------
    probabilities, targets : Tensor, shape (N, C, H, W)
        Predicted probabilities and one-hot targets.
    weights : Tensor of float or bool, shape (N, 1, H, W)
        How much each pixel counts; 0 leaves it out.
    kappa : Tensor of shape (C,) or float
        Concentration, at least 0.
    absent : {"ignore", "count"}
        See `compkit.losses.dice.Absent`.
    """
    similarity = tvmf_similarity(class_cosine(probabilities, targets, weights), kappa)
    return class_mean((1 - similarity) ** 2, targets * weights, absent)
