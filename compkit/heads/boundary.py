"""Regions parted by the border between them, grown from what lies inside."""

from __future__ import annotations

import cc3d
import cv2
import numpy as np
import torch
from skimage.morphology import skeletonize
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from compkit.config import PartitionConfig
from compkit.heads.graph import NEIGHBOURS, shifted
from compkit.heads.partition import Offsets, Partition, Truth
from compkit.losses import dice_loss
from compkit.parameters import Param, Params
from compkit.regions import dusted, numbered

_SQUARE = np.ones((3, 3), np.uint8)

#: Above every number of a region.
_NONE = np.uint16(65535)


class Boundary(Partition):
    """Interior, border and background, the first two told apart by one output.

    The classes are those of the 2018 Data Science Bowl's winners (A. Buslaev, V. Durnov and
    S. Seferbekov: a U-Net with a class of its own for borders, and a watershed). Pixels within
    ``config.border`` of another label, background included, are border on both sides; the
    foreground tells what is inside.

    Decoding parameters: ``seed``, the probability of the interior above which a pixel belongs to a
    seed; ``seed_size``, the area under which a seed is dropped, as a share of the image.
    """

    name = "boundary"
    outputs = maps = ("border",)

    def __init__(self, config: PartitionConfig, side: int) -> None:
        self.radius = max(1.0, config.border * side / 128)
        self._touching = config.touching
        self._disk = disk(self.radius)
        self.space = {
            "seed": Param((0.6, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9), 0, 1),
            "seed_size": Param((0.0, 1e-4, 2e-4, 5e-4), 0, 1),
        }

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return border and the touching part of it, float32 (2, H, W) of zeros and ones."""
        known = numbered(labels).astype(np.uint16)
        highest = cv2.dilate(known, self._disk)
        lowest = cv2.erode(known, self._disk)
        # Without the background, a pixel that sees two regions still has highest over lowest.
        region = cv2.erode(np.where(known > 0, known, _NONE), self._disk)
        border = (highest > lowest) & ~_bridges(known, highest == lowest)
        return np.stack([border, highest > region]).astype(np.float32)

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        return self.targets(labels)[:1]

    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        """Cross entropy, in which border and interior count as much in all, and soft Dice.

        Pixels count in the foreground and where the border leaves it; those where two regions
        touch count ``config.touching`` times.
        """
        border, touching = truth.targets[:, :1], truth.targets[:, 1:]
        known = (truth.labels[:, None] > 0) | (border > 0)
        weights = truth.weights * known * (1 + (self._touching - 1) * touching)
        pixels = binary_cross_entropy_with_logits(logits, border, reduction="none")
        halves = [
            (pixels * part).sum() / part.sum().clamp_min(1)
            for part in (weights * border, weights * (1 - border))
        ]
        return torch.stack(halves).mean() + dice_loss(logits.sigmoid(), border, weights)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def decode(
        self, foreground: np.ndarray, mask: np.ndarray, maps: np.ndarray, params: Params
    ) -> np.ndarray:
        interior = mask & (foreground * (1 - maps[0]) > params["seed"])
        interior = dusted(interior, params["seed_size"] * mask.size, connectivity=8)
        seeds = cc3d.connected_components(interior, connectivity=8).astype(np.int32)
        return watershed(maps[0], with_every_part(seeds, mask), mask=mask).astype(np.int32)

    def affinities(self, maps: np.ndarray, offsets: Offsets) -> np.ndarray:
        """Touching pixels that both lie in the border are apart, and far ones across a border.

        Far pixels are, as far as the border between them is higher than at both: an end that lies
        in the border itself may lie on either side of it.
        """
        border = maps[0]
        found = []
        for offset in offsets:
            other = shifted(border, offset)
            if offset in NEIGHBOURS:
                apart = np.minimum(border, other)
            else:
                between = highest_between(border, offset, self.radius)
                apart = np.maximum(between - np.maximum(border, other), 0)
            found.append(1 - apart)
        return np.stack(found)


def with_every_part(seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return seeds, int32 (H, W), in which each 4-connected part of the mask without one is one."""
    parts = cc3d.connected_components(mask, connectivity=4).astype(np.int32)
    seeded = np.zeros(int(parts.max()) + 1, bool)
    seeded[parts[seeds > 0]] = True
    return np.where(seeded[parts], seeds, parts * mask + int(seeds.max())).astype(np.int32) * mask


def highest_between(values: np.ndarray, offset: tuple[int, int], spacing: float) -> np.ndarray:
    """Return the largest of `values` (H, W) between each pixel and the one at `offset`.

    The segment's inside is sampled at least every `spacing` pixels.
    """
    count = max(2, int(np.ceil(np.hypot(*offset) / spacing)))
    steps = np.rint(np.arange(1, count)[:, None] * np.array(offset) / count).astype(int)
    reach = int(np.abs(steps).max())
    line = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    line[steps[:, 0] + reach, steps[:, 1] + reach] = 1
    return cv2.dilate(values, line)


def disk(radius: float) -> np.ndarray:
    reach = np.arange(-int(radius), int(radius) + 1)
    return (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.uint8)


def _bridges(labels: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """Return the lines, bool (H, W), that join the clear parts of a region through its waists.

    Where a region is so narrow that all of it is border, it would fall into several. Its skeleton
    leads through the waist.
    """
    bridges = np.zeros(labels.shape, bool)
    parts = cc3d.connected_components((labels > 0) & clear, connectivity=8)
    owner = np.zeros(int(parts.max()) + 1, int)
    owner[parts] = labels
    for region in np.flatnonzero(np.bincount(owner[1:]) > 1):
        rows, columns = (np.flatnonzero((labels == region).any(axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        here = labels[box] == region
        own = np.where(here, parts[box], 0).astype(np.uint16)
        lines = cc3d.connected_components(skeletonize(here) & (own == 0), connectivity=8)
        highest = cv2.dilate(own, _SQUARE)
        lowest = cv2.erode(np.where(own > 0, own, _NONE), _SQUARE)
        count = int(lines.max()) + 1
        most, least = np.zeros(count, np.uint16), np.full(count, _NONE)
        np.maximum.at(most, lines, highest)
        np.minimum.at(least, lines, lowest)
        joins = most > least
        joins[0] = False
        bridges[box] |= joins[lines]
    return bridges
