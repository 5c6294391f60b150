"""All structures in one mask; regions are its connected components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cc3d
import cv2
import numpy as np
import torch
from torch import Tensor

from compkit.config import LossConfig
from compkit.heads.base import Head, Params
from compkit.losses.dice import class_overlap
from compkit.losses.mixture import ClassLoss


class Foreground(Head):
    """Two classes, background and foreground; 4-connected components of the foreground.

    Decoder parameters: ``threshold`` of the probability; ``opening``, the radius in pixels of the
    disk that opens the mask; ``holes`` and ``smallest``, the area under which holes are filled and
    regions dropped, as shares of the image.
    """

    name = "foreground"
    outputs = ("background", "foreground")
    maps = ("foreground",)
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "threshold": (0.5, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        "opening": (0, 1, 2),
        "holes": (0.0, 2e-4, 1e-3),
        "smallest": (0.0, 1e-4, 5e-4, 2e-3),
    }

    def __init__(self, config: LossConfig) -> None:
        self._loss = ClassLoss(config, classes=2)
        self._overlap = torch.zeros(2, 2, dtype=torch.float64)

    def targets(self, labels: np.ndarray) -> np.ndarray:
        foreground = labels > 0
        return np.stack([~foreground, foreground]).astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        return self._loss(logits, targets, valid)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1)[:, 1:]

    def decode(self, maps: np.ndarray, params: Params) -> np.ndarray:
        mask = maps[0] >= params["threshold"]
        if radius := params["opening"]:
            mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, _disk(radius)) > 0
        if params["holes"]:
            mask = _fill(mask, params["holes"] * mask.size)
        labels = cc3d.connected_components(mask, connectivity=4)
        return _drop_small(labels.astype(np.int32), params["smallest"] * mask.size)

    def observe(self, maps: Tensor, labels: Tensor) -> None:
        predicted, wanted = maps >= 0.5, (labels > 0)[:, None]
        self._overlap += class_overlap(
            torch.cat([~predicted, predicted], dim=1), torch.cat([~wanted, wanted], dim=1)
        ).cpu()

    def end_validation(self) -> None:
        twice, sizes = self._overlap
        # A class that is neither there nor predicted is matched perfectly.
        self._loss.adapt(torch.where(sizes > 0, twice / sizes.clamp_min(1), torch.ones(2)))
        self._overlap = torch.zeros_like(self._overlap)

    def state(self) -> dict[str, Any]:
        return {"kappa": self._loss.kappa}

    def load_state(self, state: dict[str, Any]) -> None:
        self._loss.kappa = state["kappa"]


def _disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _fill(mask: np.ndarray, area: float) -> np.ndarray:
    """Fill the holes of a mask that are smaller than `area` pixels and away from the border."""
    parts = cc3d.connected_components(~mask, connectivity=4)
    fill = np.bincount(parts.ravel()) < area
    fill[0] = False
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        fill[edge] = False
    return mask | fill[parts]


def _drop_small(labels: np.ndarray, area: float) -> np.ndarray:
    """Drop regions smaller than `area` pixels and number the others 1…n."""
    keep = np.bincount(labels.ravel()) >= area
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
