"""Slots: exclusive classes without names, matched to regions by the loss alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from compkit.config import PartitionConfig
from compkit.heads.affinity import Pairwise
from compkit.heads.partition import Truth
from compkit_research.losses.rand import soft_rand_loss
from compkit_research.losses.set_cross_entropy import set_cross_entropy

#: What trained best, by name of the term.
WEIGHTS = {"soft_rand_foreground": 1.0, "set_cross_entropy": 0.3}


class Slots(Pairwise):
    """A distribution over K slots for each pixel; two pixels agree if they draw the same one.

    Parameters
    ----------
    slots : int
        K; regions of one image beyond it share them.
    temperature : float
        Divides the logits before the softmax.
    terms : mapping of str to float
        Weight of each of `TERMS`.
    window : float
        Side of the tiles of soft_rand_local, in pixels at a side of 128.
    """

    name = "slots"
    weight = 0.3

    def __init__(
        self,
        config: PartitionConfig,
        side: int,
        slots: int = 48,
        temperature: float = 0.5,
        terms: Mapping[str, float] = WEIGHTS,
        window: float = 32.0,
    ) -> None:
        super().__init__(config, side)
        self.outputs = tuple(f"slot{number}" for number in range(slots))
        self.temperature, self.terms = temperature, terms
        self.window = max(2, round(window * side / 128))

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        log_slots = log_softmax(logits / self.temperature, dim=1)
        total = logits.new_zeros(())
        for name, weight in self.terms.items():
            total = total + weight * TERMS[name](self, log_slots, truth, foreground)
        return total

    def activate(self, logits: Tensor) -> Tensor:
        slots = (logits / self.temperature).softmax(dim=1)
        inside = self.known((slots.shape[-2], slots.shape[-1])).to(slots.device)
        channels = [(slots * there).sum(1) for there in self.others(slots).unbind(-3)]
        return torch.stack(channels, dim=1) * inside


_Term = Callable[[Slots, Tensor, Truth, Tensor], Tensor]


def _joint(log_slots: Tensor, foreground: Tensor) -> Tensor:
    """Return the probabilities of the background and of each slot in the foreground."""
    return torch.cat([1 - foreground, foreground * log_slots.exp()], dim=1)


#: Loss terms by name. The first three are the soft forms of
#: the metrics adjusted_all, adjusted_foreground and plain_foreground.
TERMS: Mapping[str, _Term] = {
    "soft_rand_adjusted": lambda head, z, t, f: soft_rand_loss(
        _joint(z, f), t.labels, t.weights, background=True
    ),
    "soft_rand_foreground": lambda head, z, t, f: soft_rand_loss(z.exp(), t.labels, t.weights),
    "soft_rand_plain": lambda head, z, t, f: soft_rand_loss(
        z.exp(), t.labels, t.weights, adjusted=False
    ),
    "soft_rand_local": lambda head, z, t, f: soft_rand_loss(
        z.exp(), t.labels, t.weights, window=head.window
    ),
    "set_cross_entropy": lambda head, z, t, f: set_cross_entropy(z, t.labels, t.weights),
}
