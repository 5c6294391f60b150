"""The foreground: what every head has, and all that some have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cc3d
import cv2
import numpy as np
import torch
from torch import Tensor

from compkit.config import LossConfig
from compkit.losses import ClassLoss, class_overlap
from compkit.parameters import Param, Params
from compkit.regions import dusted


class Foreground:
    """Two exclusive classes, background and foreground, under any loss of the Dice family.

    Decoding parameters: ``threshold`` of the probability; ``opening``, the radius in pixels of the
    disk that opens the mask; ``holes`` and ``smallest``, the areas, as shares of the image, under
    which holes are filled and connected parts of the mask dropped.
    """

    outputs = ("background", "foreground")
    maps = ("foreground",)
    space: ClassVar[Mapping[str, Param]] = {
        "threshold": Param(
            (0.5, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8), 0, 1
        ),
        "opening": Param((0, 1, 2), 0, 50),
        "holes": Param((0.0, 2e-4, 1e-3), 0, 1),
        "smallest": Param((0.0, 1e-4, 5e-4, 2e-3), 0, 1),
    }

    def __init__(self, config: LossConfig) -> None:
        self._loss = ClassLoss(config, classes=2)
        self._overlap = torch.zeros(2, 2, dtype=torch.float64)

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of logits (N, 2, H, W) against label maps (N, H, W)."""
        foreground = (labels > 0)[:, None]
        targets = torch.cat([~foreground, foreground], dim=1).float()
        return self._loss(logits, targets, weights)

    def activate(self, logits: Tensor) -> Tensor:
        """Return the probability of the foreground, (N, 1, H, W)."""
        return logits.softmax(dim=1)[:, 1:]

    def mask(self, probability: np.ndarray, params: Params) -> np.ndarray:
        """Return the mask, bool (H, W), that decoding parameters make of a probability (H, W)."""
        mask = probability >= params["threshold"]
        if radius := int(params["opening"]):
            disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, disk) > 0
        if params["holes"]:
            mask = _fill_holes(mask, params["holes"] * mask.size)
        if params["smallest"]:
            mask = dusted(mask, params["smallest"] * mask.size, connectivity=4)
        return mask

    def observe(self, probability: Tensor, labels: Tensor) -> None:
        """Take in one validation batch: (N, 1, H, W) and label maps (N, H, W)."""
        predicted, wanted = probability >= 0.5, (labels > 0)[:, None]
        self._overlap += class_overlap(
            torch.cat([~predicted, predicted], dim=1), torch.cat([~wanted, wanted], dim=1)
        ).cpu()

    def end_validation(self) -> None:
        """Adapt κ to what was observed since the last call."""
        twice, sizes = self._overlap
        # A class that is neither there nor predicted is matched perfectly.
        self._loss.adapt(torch.where(sizes > 0, twice / sizes.clamp_min(1), torch.ones(2)))
        self._overlap = torch.zeros_like(self._overlap)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold besides weights."""
        return {"kappa": self._loss.kappa.cpu()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self._loss.kappa = state["kappa"]


def _fill_holes(mask: np.ndarray, area: float) -> np.ndarray:
    """Fill the holes of a mask that are smaller than `area` pixels and away from the border."""
    parts = cc3d.connected_components(~mask, connectivity=4)
    fill = np.bincount(parts.ravel()) < area
    fill[0] = False
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        fill[edge] = False
    return mask | fill[parts]
