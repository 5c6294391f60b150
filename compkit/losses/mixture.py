"""The weighted sum of class losses that a configuration names, and the κ that it adapts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compkit.config import LossConfig
from compkit.errors import CompkitError
from compkit.registry import Registry

#: Each a function of logits and one-hot targets, float32 (N, C, H, W), and pixel weights, float32
#: (N, 1, H, W), that returns a scalar, which is 0 where all weights are.
LOSSES = Registry(
    "compkit.losses",
    "loss",
    {
        name: f"compkit.losses.terms:{name}"
        for name in (
            "dice", "normalised_dice", "tvmf_dice", "adaptive_tvmf_dice", "cross_entropy",
        )
    },
)  # fmt: skip


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
        adapted = self.kappa.to(logits.device)
        kappas = {"tvmf_dice": self.config.kappa, "adaptive_tvmf_dice": adapted}
        total = logits.new_zeros(())
        for name, term in self._terms.items():
            own: dict[str, Any] = {"kappa": kappas[name]} if name in kappas else {}
            value = term(logits, targets, weights, **own)
            if not isinstance(value, Tensor) or value.ndim:
                raise CompkitError(f"the loss {name!r} returns no scalar tensor: correct it")
            total = total + self.config.terms[name] * value
        return total

    def adapt(self, dice: Tensor) -> None:
        """Set κ_c = λ · Dice_c from the last validation's Dice, shape (C,) (Kato & Hotta, §3.2)."""
        self.kappa = self.config.adaptive_lambda * dice.float().cpu()
