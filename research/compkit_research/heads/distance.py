"""Regions as the basins of flows towards their centres, with the distance to their borders."""

from __future__ import annotations

import cc3d
import cv2
import numpy as np
import torch
from skimage.segmentation import watershed
from torch import Tensor

from compkit.config import PartitionConfig
from compkit.heads.boundary import disk, with_every_part
from compkit.heads.graph import NEIGHBOURS, shifted
from compkit.heads.partition import Offsets, Partition, Truth
from compkit.parameters import Param, Params
from compkit_research.heads.flow import centre_flow

#: Weight of the flows beside the distance in the loss, as in Cellpose.
_FLOW_WEIGHT = 5.0

#: Sides from which heat is solved for on cells of 2×2 pixels: flows there vary slowly.
_COARSE_SIDE = 256

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]


class Distance(Partition):
    """Distance to the border and flow to the centre, of each connected part of each region.

    The distance is normalised by its largest value in the region; the flow is the direction in
    which heat from the centre grows (Stringer et al. 2021, "Cellpose"), spread by one implicit
    step (Crane, Weischedel & Wardetzky 2013, "Geodesics in heat"). Flow components f in −1…1 are
    stored as (f + 1) / 2.

    Decoding parameters: ``follow``: regions are where flows end, else a watershed of the distance;
    ``gather``, pixels at a side of 128 over which ends of one region may scatter; ``ends``, the
    fewest ends in a cluster, as a share of the image; ``seed``, the distance above which a pixel
    belongs to a seed of the watershed.
    """

    name = "distance"
    weight = 0.1
    outputs = maps = ("distance", "flow_down", "flow_right")

    def __init__(self, config: PartitionConfig, side: int) -> None:
        self._scale = side / 128
        self._cell = 2 if side >= _COARSE_SIDE else 1
        self.space = {
            "follow": Param((True, False)),
            "gather": Param((0.5, 1.0, 2.0, 3.0, 4.0), 0, 16),
            "ends": Param((0.0, 1e-4, 2e-4, 5e-4), 0, 1),
            "seed": Param((0.6, 0.3, 0.4, 0.5, 0.7, 0.8), 0, 1),
        }

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return the distance and the flow (−1…1), float32 (3, H, W)."""
        parts = cc3d.connected_components(np.array(labels), connectivity=4).astype(np.int32)
        return np.concatenate([_distance(parts)[None], centre_flow(parts, self._cell)])

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        maps = self.targets(labels)
        maps[1:] = (maps[1:] + 1) / 2
        return maps

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        """Squared error of the flow, `_FLOW_WEIGHT` times, and of the distance, in regions."""
        weights = truth.weights * (truth.labels > 0)[:, None]
        total = weights.sum().clamp_min(1)
        distance = (logits[:, :1].sigmoid() - truth.targets[:, :1]) ** 2
        flow = (logits[:, 1:].tanh() - truth.targets[:, 1:]) ** 2
        return (weights * (distance + _FLOW_WEIGHT * flow.sum(dim=1, keepdim=True))).sum() / total

    def activate(self, logits: Tensor) -> Tensor:
        return torch.cat([logits[:, :1].sigmoid(), (logits[:, 1:].tanh() + 1) / 2], dim=1)

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Turn the flow back: what points right in a mirrored view points left in the image."""
        back = torch.as_tensor(matrix.T.copy(), dtype=maps.dtype, device=maps.device)
        flow = torch.einsum("ij,njhw->nihw", back, 2 * maps[:, 1:] - 1)
        return torch.cat([maps[:, :1], (flow + 1) / 2], dim=1)

    def decode(
        self, foreground: np.ndarray, mask: np.ndarray, maps: np.ndarray, params: Params
    ) -> np.ndarray:
        if not params["follow"]:
            inside = mask & (maps[0] > params["seed"])
            seeds = cc3d.connected_components(inside, connectivity=4).astype(np.int32)
            return watershed(-maps[0], with_every_part(seeds, mask), mask=mask).astype(np.int32)
        labels = np.zeros(mask.shape, np.int32)
        labels[mask] = _clusters(
            _ends(2 * maps[1:] - 1, mask),
            mask.shape,
            params["gather"] * self._scale,
            params["ends"] * mask.size,
        )
        return with_every_part(labels, mask)

    def affinities(self, maps: np.ndarray, offsets: Offsets) -> np.ndarray:
        """Flows that leave each other part a pair.

        Touching pixels are apart as soon as the flow diverges by 1 between them, a far pair only
        when both ends point away from each other, since flows also bend within a region.
        """
        flow = 2 * maps[1:] - 1
        found = []
        for offset in offsets:
            away = np.tensordot(np.array(offset), shifted(flow, offset) - flow, 1)
            most = 1 if offset in NEIGHBOURS else 2
            found.append(1 - np.clip(away / (most * np.hypot(*offset)), 0, 1))
        return np.stack(found).astype(np.float32)


def _distance(parts: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest pixel of another part over its largest, 0 outside."""
    known = parts.astype(np.float32)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.dilate(known, cross) == cv2.erode(known, cross)
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5) + 1
    largest = np.zeros(int(parts.max()) + 1, np.float32)
    np.maximum.at(largest, parts.ravel(), depth.ravel())
    return np.where(parts > 0, depth / largest[parts], 0).astype(np.float32)


def _ends(flow: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns where the pixels of the mask end when they follow the flow.

    A step goes to the one of eight neighbours in the mask that lies best in the flow: unlike steps
    to places between pixels, it neither leaves a narrow region nor jumps a corner between two.
    Each round doubles the steps: it leads to where the pixel ends that was reached so far.
    """
    width = mask.shape[1] + 2
    inside = np.pad(mask, 1).ravel()
    pixels = np.flatnonzero(inside)
    down, right = flow[:, mask]
    best, target = np.zeros(len(pixels), np.float32), pixels.copy()
    for row, column in _AROUND:
        along = (row * down + column * right) / np.float32(np.hypot(row, column))
        reached = pixels + row * width + column
        beside = inside[pixels + row * width] | inside[pixels + column]
        better = (along > best) & inside[reached] & beside
        best[better], target[better] = along[better], reached[better]
    number = np.zeros(inside.size, np.int32)
    number[pixels] = np.arange(len(pixels))
    end = number[target]
    for _ in range(len(pixels).bit_length()):
        end = end[end]
    return pixels[end] // width - 1, pixels[end] % width - 1


def _clusters(
    ends: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...], radius: float, fewest: float
) -> np.ndarray:
    """Return the cluster, from 1, of each of n ends; 0 where fewer than `fewest` are around."""
    counts = np.zeros(shape, np.float32)
    np.add.at(counts, ends, 1)
    around = disk(radius)
    dense = cv2.filter2D(counts, -1, around.astype(np.float32), borderType=cv2.BORDER_CONSTANT)
    peaks = (counts > 0) & (dense >= fewest)
    grown = cv2.dilate(peaks.astype(np.uint8), around)
    return (cc3d.connected_components(grown, connectivity=8) * peaks)[ends]
