"""A head: one way of turning regions into dense maps, and maps back into regions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

#: One setting of a decoder, by parameter name.
Params = Mapping[str, Any]


class Head(ABC):
    """Everything about one representation of regions without names.

    A head is made from a run's `LossConfig` and registered in `compkit.heads.HEADS`.

    Attributes
    ----------
    name : str
        The name that configurations use.
    outputs : tuple of str
        Names of the network's output channels (logits).
    maps : tuple of str
        Names of the probability channels that `activate` makes of them and that files hold.
    space : mapping of str to sequence
        The values among which each decoder parameter is tuned; the first is its default.
    """

    name: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    maps: ClassVar[tuple[str, ...]]
    space: ClassVar[Mapping[str, Sequence[Any]]]

    @abstractmethod
    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return training targets, float32 (T, H, W), of a label map (H, W)."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss of (N, len(outputs), H, W) logits.

        `targets` are stacked results of `targets`; `valid`, bool (N, 1, H, W), is False where
        nothing is known.
        """

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Return probabilities, float32 (N, len(maps), H, W), of logits."""

    @abstractmethod
    def decode(self, maps: np.ndarray, params: Params) -> np.ndarray:
        """Return regions, int32 (H, W) numbered 1…n over background 0, of maps (M, H, W)."""

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Return maps whose pixels were just moved back from a view, with channels put right.

        A channel that holds a direction or an offset means another one after a flip or a turn:
        `matrix`, int (2, 2), takes (row, column) offsets of the image to those of the view.
        Channels without a direction need nothing.
        """
        del matrix
        return maps

    def observe(self, maps: Tensor, labels: Tensor) -> None:
        """Take in one validation batch: maps (N, M, H, W) and label maps (N, H, W)."""

    def end_validation(self) -> None:
        """Adapt the loss to what was observed since the last call."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold besides weights (plain values and tensors)."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""

    @property
    def defaults(self) -> dict[str, Any]:
        """The decoder parameters before any tuning."""
        return {name: values[0] for name, values in self.space.items()}
