"""The weighted sum of class losses that a configuration names, and the κ that it adapts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from compkit.config import LossConfig
from compkit.errors import CompkitError, nearest
from compkit.losses.dice import dice_loss, normalised_dice_loss
from compkit.losses.dice_variants import (
    focal_dice_loss,
    focal_tversky_loss,
    generalised_dice_loss,
    noise_robust_dice_loss,
)
from compkit.losses.tvmf import tvmf_dice_loss


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


def check_terms(setting: str, terms: Mapping[str, float], known: Iterable[str]) -> None:
    """Refuse unknown loss terms, and a sum without any.

    Raises
    ------
    CompkitError
        Naming the setting and the term.
    """
    known = list(known)
    for name in terms:
        if name not in known:
            raise CompkitError(
                f"{setting} has an unknown loss {name!r}{nearest(name, known)}: "
                f"take some of {', '.join(known)}"
            )
    if not any(weight > 0 for weight in terms.values()):
        raise CompkitError(f"{setting} has no loss with a positive weight: give at least one")


class ClassLoss:
    """A weighted sum of losses over exclusive classes, and its adaptive concentration.

    Parameters
    ----------
    config : LossConfig
        Terms with their weights, κ and λ.
    classes : int
        Number of classes C.

    Attributes
    ----------
    kappa : Tensor, shape (C,)
        κ of the adaptive term: 0 until `adapt` is called for the first time. It is state: training
        saves it with the checkpoint and restores it.
    """

    def __init__(self, config: LossConfig, classes: int) -> None:
        check_terms("loss.terms", config.terms, TERMS)
        self.config = config
        self.kappa = torch.zeros(classes)

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of raw outputs against one-hot targets, in 32-bit floats."""
        logits, weights = logits.float(), weights.float()
        probabilities = logits.softmax(dim=1)
        total = logits.new_zeros(())
        for name, weight in self.config.terms.items():
            total = total + weight * TERMS[name](self, logits, probabilities, targets, weights)
        return total

    def adapt(self, dice: Tensor) -> None:
        """Set κ_c = λ · Dice_c from the last validation's Dice, shape (C,) (Kato & Hotta, §3.2)."""
        self.kappa = self.config.adaptive_lambda * dice.float().cpu()


_Term = Callable[[ClassLoss, Tensor, Tensor, Tensor, Tensor], Tensor]

#: Loss terms by the name that a configuration gives them.
TERMS: Mapping[str, _Term] = {
    "dice": lambda loss, z, p, t, v: dice_loss(p, t, v),
    "normalised_dice": lambda loss, z, p, t, v: normalised_dice_loss(p, t, v),
    "generalised_dice": lambda loss, z, p, t, v: generalised_dice_loss(p, t, v),
    "focal_dice": lambda loss, z, p, t, v: focal_dice_loss(p, t, v),
    "focal_tversky": lambda loss, z, p, t, v: focal_tversky_loss(p, t, v),
    "noise_robust_dice": lambda loss, z, p, t, v: noise_robust_dice_loss(p, t, v),
    "tvmf_dice": lambda loss, z, p, t, v: tvmf_dice_loss(p, t, v, loss.config.kappa),
    "adaptive_tvmf_dice": lambda loss, z, p, t, v: tvmf_dice_loss(p, t, v, loss.kappa.to(p.device)),
    "cross_entropy": lambda loss, z, p, t, v: cross_entropy(z, t, v),
}
