"""A head: regions to dense maps, and maps back to regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cc3d
import numpy as np
import torch
from torch import Tensor

from compkit.config import PartitionConfig
from compkit.errors import CompkitError, nearest
from compkit.heads.foreground import Foreground
from compkit.heads.graph import graph_space, mutex_watershed, offsets_of
from compkit.heads.partition import Partition, Truth
from compkit.parameters import Param, Params, defaults_of
from compkit.regions import absorb_small, numbered, spread
from compkit.registry import HEADS
from compkit.resample import resized


class Head:
    """The foreground, and the partitions that part it into regions.

    Without any, regions are the 4-connected components of the foreground. Of several, the mean of
    what each says about pairs of pixels is cut by the mutex watershed. Decoding parameters are
    those of `Foreground`; those of the partition, or of the mutex watershed; ``fragment``, the area
    under which a part of the foreground goes to its nearest neighbour, as a share of the image; and
    ``fill``, which gives every pixel of the image to its nearest region.

    Parameters
    ----------
    foreground : Foreground
    partitions : sequence of Partition
    config : PartitionConfig
        Weight of the partitions' losses beside the foreground's, on top of their own; and the reach
        of pairs of pixels.
    side : int
        Side in pixels of the images that the network sees.
    shares : sequence of float, optional
        Weight of each of several partitions in their mean; equal ones by default.

    Attributes
    ----------
    name : str
        The name that configurations use.
    outputs, maps : tuple of str
        Names of the network's output channels, and of the channels that files hold.
    channels : dict of str to slice
        Where the maps of the foreground and of each partition lie among `maps`.
    space : mapping of str to Param
        The decoding's parameters.
    """

    def __init__(
        self,
        foreground: Foreground,
        partitions: Sequence[Partition],
        config: PartitionConfig,
        side: int,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.foreground, self.partitions = foreground, tuple(partitions)
        self._config, self._shares = config, shares
        self._offsets = offsets_of(config.reach, side)
        self.name = "+".join(part.name for part in partitions) or "foreground"
        self.outputs = foreground.outputs + tuple(
            f"{part.name}.{output}" for part in partitions for output in part.outputs
        )
        self.maps = foreground.maps + tuple(
            f"{part.name}.{channel}" for part in partitions for channel in part.maps
        )
        nothing = np.zeros((8, 8), int)
        self._outputs = _slices(2, [len(part.outputs) for part in partitions])
        self._targets = _slices(0, [len(part.targets(nothing)) for part in partitions])
        self._maps = _slices(1, [len(part.maps) for part in partitions])
        names = [part.name for part in partitions]
        self.channels = {"foreground": slice(0, 1), **dict(zip(names, self._maps, strict=True))}
        space: dict[str, Param] = dict(foreground.space)
        if partitions:
            own = partitions[0].space if len(partitions) == 1 else graph_space(config.reach)
            space |= {"fragment": Param((5e-4, 0.0, 2e-4, 1e-3, 2e-3), 0, 1), **own}
        self.space: Mapping[str, Param] = space | {"fill": Param((False, True))}

    @property
    def defaults(self) -> dict[str, Any]:
        """The decoding parameters before any tuning."""
        return defaults_of(self.space)

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return what training needs beside the labels (H, W), float32 (T, H, W)."""
        none = np.zeros((0, *labels.shape), np.float32)
        return np.concatenate([none, *(part.targets(labels) for part in self.partitions)])

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        """Return the maps of a perfect network, float32 (len(maps), H, W), of a label map."""
        foreground = (labels > 0)[None].astype(np.float32)
        return np.concatenate([foreground, *(part.ideal(labels) for part in self.partitions)])

    def loss(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the scalar loss of (N, len(outputs), H, W) logits."""
        logits = logits.float()
        loss = self.foreground.loss(logits[:, :2], truth.labels, truth.weights)
        if not self.partitions:
            return loss
        probability, losses = self.foreground.activate(logits[:, :2]), []
        for part, outputs, targets in zip(
            self.partitions, self._outputs, self._targets, strict=True
        ):
            own = Truth(truth.labels, truth.targets[:, targets], truth.weights)
            losses.append(part.weight * part.loss(logits[:, outputs], own, probability))
        return loss + self._config.weight * torch.stack(losses).sum()

    def activate(self, logits: Tensor) -> Tensor:
        """Return maps, float32 (N, len(maps), H, W) between 0 and 1, of logits."""
        logits = logits.float()
        maps = [self.foreground.activate(logits[:, :2])]
        for part, outputs in zip(self.partitions, self._outputs, strict=True):
            maps.append(part.activate(logits[:, outputs]))
        return torch.cat(maps, dim=1)

    def known(self, shape: tuple[int, int]) -> Tensor:
        """Return which of the maps' values have a meaning, bool (len(maps), H, W).

        Not the pairs of pixels of which one lies outside.
        """
        everywhere = torch.ones(1, *shape, dtype=torch.bool)
        return torch.cat([everywhere, *(part.known(shape) for part in self.partitions)])

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Return maps whose pixels were moved back from a view, with directed channels put right.

        `matrix`, int (2, 2), takes (row, column) offsets of the image to those of the view.
        """
        parts = [maps[:, :1]]
        for part, channels in zip(self.partitions, self._maps, strict=True):
            parts.append(part.reorient(maps[:, channels], matrix))
        return torch.cat(parts, dim=1)

    def decode(
        self, maps: np.ndarray, params: Params, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return the regions of an image, int32 (H, W) numbered 1…n over background 0.

        Parameters
        ----------
        maps : ndarray of float32, shape (len(maps), h, w)
        params : mapping
            A value for every parameter of `space`.
        shape : (int, int), optional
            Size (H, W) of the image, if the maps have another.

        Raises
        ------
        CompkitError
            If a channel is missing, or a parameter is missing, unknown or out of range.
        """
        if len(maps) != len(self.maps):
            raise CompkitError(
                f"the head {self.name} decodes {len(self.maps)} channels "
                f"({', '.join(self.maps)}), but the maps have {len(maps)}: "
                "predict them with a network of this head"
            )
        self.check_params(params)
        shape = shape or (maps.shape[1], maps.shape[2])
        mask = self.foreground.mask(_at(maps[0], shape), params)
        if not self.partitions:
            labels = cc3d.connected_components(mask, connectivity=4).astype(np.int32)
        else:
            coarse = _at(mask.astype(np.float32), maps.shape[1:]) > 0
            labels = self._parted(coarse, maps, params)
            labels = absorb_small(labels, params["fragment"] * labels.size)
            labels = spread(_nearest(labels, shape) * mask, mask)
        if params["fill"]:
            labels = spread(labels, np.ones(shape, bool))
        return numbered(labels)

    def _parted(self, mask: np.ndarray, maps: np.ndarray, params: Params) -> np.ndarray:
        """Return ids of the regions into which partitions part a mask, on the grid of the maps."""
        if len(self.partitions) > 1:
            parts = zip(self.partitions, self._maps, strict=True)
            said = [part.affinities(maps[channels], self._offsets) for part, channels in parts]
            mean = np.average(said, axis=0, weights=self._shares).astype(np.float32, copy=False)
            return mutex_watershed(mean, self._offsets, mask, params, self._config.reach)
        (part,) = self.partitions
        # A partition that was added may return anything.
        found = np.asarray(HEADS.ask(part.name, part, "decode", maps[0], mask, maps[1:], params))
        if found.dtype.kind not in "iu" or found.shape != mask.shape or found.min(initial=0) < 0:
            wanted = f"a map of region ids, whole numbers from 0 up, of shape {mask.shape}"
            HEADS.refuse(part.name, "decode", found, wanted)
        return found

    def check_params(self, params: Params) -> None:
        """Refuse decoding parameters that are unknown, missing or out of range."""
        for name in params:
            if name not in self.space:
                raise CompkitError(
                    f"the head {self.name} has no decoding parameter {name!r}"
                    f"{nearest(name, self.space)}: take {', '.join(self.space)}"
                )
        for name, param in self.space.items():
            if name not in params:
                raise CompkitError(f"the decoding's {name} is missing: tune the decoding again")
            param.refuse(name, params[name])


def _at(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 (H, W) values on another grid."""
    grid = (shape[0], shape[1])
    return resized(torch.from_numpy(np.ascontiguousarray(values))[None, None], grid)[0, 0].numpy()


def _nearest(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return label maps on another grid, each pixel the label at its centre."""
    if labels.shape == shape:
        return labels
    rows = ((np.arange(shape[0]) + 0.5) * labels.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * labels.shape[1] / shape[1]).astype(int)
    return labels[rows[:, None], columns]


def _slices(start: int, counts: Sequence[int]) -> list[slice]:
    ends = np.cumsum([start, *counts]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]
