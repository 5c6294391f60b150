"""The losses of the foreground: cross entropy, the Dice family, and the sum that is configured.

Dice losses, but for V-Net's, are of Kato & Hotta 2022 (arXiv 2207.07842). They take predicted
probabilities A and one-hot targets B, (N, C, H, W), and how much each pixel counts, float or bool
(N, 1, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from compkit.config import LossConfig
from compkit.errors import CompkitError
from compkit.registry import LOSSES

#: The axes over which a class is pooled: images, rows and columns.
PIXELS = (0, 2, 3)


def dice_loss(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the Dice loss with squared denominators, pooled over the batch.

    ``mean_c 1 - (2 Σ A_cn B_cn + γ) / (Σ A_cn² + Σ B_cn² + γ)`` (Milletari et al. 2016, V-Net),
    every pixel n counted with its weight; γ = 1.
    """
    return class_mean(1 - class_dice(probabilities, targets, weights), targets * weights)


def normalised_dice_loss(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return ``mean_c 1 - cos θ_c`` (eq. 4)."""
    return class_mean(1 - class_cosine(probabilities, targets, weights), targets * weights)


def tvmf_dice_loss(
    probabilities: Tensor, targets: Tensor, weights: Tensor, kappa: Tensor | float
) -> Tensor:
    """Return ``mean_c (1 − φ(cos θ_c; κ_c))²`` (eq. 6), with one κ ≥ 0 or one a class, (C,)."""
    similarity = tvmf_similarity(class_cosine(probabilities, targets, weights), kappa)
    return class_mean((1 - similarity) ** 2, targets * weights)


def tvmf_similarity(cosine: Tensor, kappa: Tensor | float) -> Tensor:
    """Return φ(cos θ; κ) = (1 + cos θ) / (1 + κ (1 − cos θ)) − 1 (eq. 5).

    κ = 0 gives cos θ; a larger κ demands a closer match for the same similarity.
    """
    return (1 + cosine) / (1 + kappa * (1 - cosine)) - 1


def class_dice(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the Dice coefficients that `dice_loss` takes from 1, over batch and pixels, (C,)."""
    a, b = probabilities * weights, targets * weights
    overlap = 2 * (a * targets).sum(PIXELS) + 1
    size = (a * probabilities).sum(PIXELS) + (b * targets).sum(PIXELS) + 1
    return overlap / size


def class_cosine(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return cos θ_c, the cosine of probabilities and targets over batch and pixels, shape (C,).

    A class without target pixels, or without any probability, has cosine 0.
    """
    a, b = probabilities * weights, targets * weights
    norms = (a * probabilities).sum(PIXELS) * (b * targets).sum(PIXELS)
    return (a * targets).sum(PIXELS) / norms.clamp_min(1e-12).sqrt()


def class_mean(losses: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of per-class losses, shape (C,), over classes with a target pixel.

    A batch in which no class is present (every weight 0) gives zero, with a gradient of zero.
    """
    present = (targets.sum(PIXELS) > 0).to(losses.dtype)
    return (losses * present).sum() / present.sum().clamp_min(1)


def class_overlap(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return intersection and sizes of hard masks, shape (2, C): Dice is their ratio.

    The first row is ``2 |A_c ∩ B_c|``, the second ``|A_c| + |B_c|``; both add up over batches.
    """
    a, b = predicted.double(), targets.double()
    return torch.stack([2 * (a * b).sum(PIXELS), a.sum(PIXELS) + b.sum(PIXELS)])


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross entropy over pixels; zero where every weight is 0."""
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


class ClassLoss:
    """A weighted sum of losses over exclusive classes, and its adaptive concentration.

    Parameters
    ----------
    config : LossConfig
    classes : int
        How many, C.

    Attributes
    ----------
    kappa : Tensor, shape (C,)
        κ of the adaptive term, 0 until `adapt` is called; training keeps it in checkpoints.
    """

    def __init__(self, config: LossConfig, classes: int) -> None:
        if not any(weight > 0 for weight in config.terms.values()):
            raise CompkitError("loss.terms has no loss with a positive weight: give at least one")
        self.config = config
        self.kappa = torch.zeros(classes)
        self._terms: dict[str, Callable[..., Tensor]] = {n: LOSSES.get(n) for n in config.terms}

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of raw outputs against one-hot targets, in 32-bit floats."""
        logits, weights = logits.float(), weights.float()
        # It stays there: to send it with every step would be to wait for the GPU.
        self.kappa = self.kappa.to(logits.device)
        kappas = {"tvmf_dice": self.config.kappa, "adaptive_tvmf_dice": self.kappa}
        total = logits.new_zeros(())
        for name, term in self._terms.items():
            own: dict[str, Any] = {"kappa": kappas[name]} if name in kappas else {}
            with LOSSES.blaming(name, "cannot be computed"):
                value = term(logits, targets, weights, **own)
            if not isinstance(value, Tensor) or value.ndim:
                raise CompkitError(f"the loss {name!r} returns no scalar tensor: correct it")
            total = total + self.config.terms[name] * value
        return total

    def adapt(self, dice: Tensor) -> None:
        """Set κ_c = λ · Dice_c from the last validation's Dice, shape (C,) (Kato & Hotta, §3.2)."""
        self.kappa = self.config.adaptive_lambda * dice.float().cpu()
