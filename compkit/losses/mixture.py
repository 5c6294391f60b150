"""The weighted sum of class losses that a configuration names, and the κ that it adapts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compkit.config import LossConfig
from compkit.errors import CompkitError
from compkit.registry import LOSSES


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
        if not any(weight > 0 for weight in config.terms.values()):
            raise CompkitError("loss.terms has no loss with a positive weight: give at least one")
        self.config = config
        self.kappa = torch.zeros(classes)
        self._terms: dict[str, Callable[..., Tensor]] = {n: LOSSES.get(n) for n in config.terms}

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of raw outputs against one-hot targets, in 32-bit floats."""
        logits, weights = logits.float(), weights.float()
        kappas = {
            "tvmf_dice": self.config.kappa,
            "adaptive_tvmf_dice": self.kappa.to(logits.device),
        }
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
