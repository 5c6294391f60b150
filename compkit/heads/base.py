"""A head: regions to dense maps, and maps back to regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cc3d
import numpy as np
import torch
from torch import Tensor

from compkit.data.resample import resized
from compkit.errors import CompkitError, nearest
from compkit.heads.foreground import Foreground
from compkit.heads.partition import Partition, Truth
from compkit.parameters import Param, Params, defaults_of
from compkit.regions import absorb_small, numbered, spread


class Head:
    """The foreground, and what parts it into regions.

    Without a partition, regions are the 4-connected components of the foreground. Decoder
    parameters are those of `Foreground`, those of the partition, and ``fragment``, the area, as a
    share of the image, under which a part of the foreground goes to its nearest neighbour; and
    ``fill``, which gives every pixel of the image to its nearest region.

    Parameters
    ----------
    foreground : Foreground
    partition : Partition, optional
    weight : float
        Of the partition's loss beside the foreground's, on top of the partition's own.

    Attributes
    ----------
    name : str
        The name that configurations use.
    outputs, maps : tuple of str
        Names of the network's output channels, and of the channels that files hold.
    channels : dict of str to slice
        Where the maps of the foreground and of each partition lie among `maps`.
    space : mapping of str to Param
        The decoder's parameters.
    """

    def __init__(
        self, foreground: Foreground, partition: Partition | None = None, weight: float = 1.0
    ) -> None:
        self.foreground, self.partition, self.weight = foreground, partition, weight
        self.name = "foreground"
        self.outputs: tuple[str, ...] = foreground.outputs
        self.maps: tuple[str, ...] = foreground.maps
        self.channels = {"foreground": slice(0, 1)}
        space: dict[str, Param] = dict(foreground.space)
        if partition is not None:
            self.name = partition.name
            self.outputs += partition.outputs
            for part in partition.parts:
                self.channels[part.name] = slice(len(self.maps), len(self.maps) + len(part.maps))
                self.maps += tuple(f"{part.name}.{channel}" for channel in part.maps)
            space |= {"fragment": Param((5e-4, 0.0, 2e-4, 1e-3, 2e-3), 0, 1), **partition.space}
        self.space: Mapping[str, Param] = space | {"fill": Param((False, True))}

    @property
    def defaults(self) -> dict[str, Any]:
        """The decoder parameters before any tuning."""
        return defaults_of(self.space)

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return what training needs beside the labels (H, W), float32 (T, H, W)."""
        if self.partition is None:
            return np.zeros((0, *labels.shape), np.float32)
        return self.partition.targets(labels)

    def ideal(self, labels: np.ndarray) -> np.ndarray:
        """Return the maps of a perfect network, float32 (len(maps), H, W), of a label map."""
        foreground = (labels > 0)[None].astype(np.float32)
        if self.partition is None:
            return foreground
        return np.concatenate([foreground, self.partition.ideal(labels)])

    def loss(self, logits: Tensor, truth: Truth) -> Tensor:
        """Return the scalar loss of (N, len(outputs), H, W) logits."""
        logits = logits.float()
        two, others = logits[:, :2], logits[:, 2:]
        loss = self.foreground.loss(two, truth.labels, truth.weights)
        if self.partition is not None:
            probability = self.foreground.activate(two)
            weight = self.weight * self.partition.weight
            loss = loss + weight * self.partition.loss(others, truth, probability)
        return loss

    def activate(self, logits: Tensor) -> Tensor:
        """Return maps, float32 (N, len(maps), H, W) between 0 and 1, of logits."""
        logits = logits.float()
        foreground = self.foreground.activate(logits[:, :2])
        if self.partition is None:
            return foreground
        return torch.cat([foreground, self.partition.activate(logits[:, 2:])], dim=1)

    def known(self, shape: tuple[int, int]) -> Tensor:
        """Return which of the maps' values have a meaning, bool (len(maps), H, W).

        Not the pairs of pixels of which one lies outside.
        """
        known = torch.ones(len(self.maps), *shape, dtype=torch.bool)
        if self.partition is not None:
            known[1:] = self.partition.known(shape)
        return known

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Return maps whose pixels were moved back from a view, with directed channels put right.

        `matrix`, int (2, 2), takes (row, column) offsets of the image to those of the view.
        """
        if self.partition is None:
            return maps
        return torch.cat([maps[:, :1], self.partition.reorient(maps[:, 1:], matrix)], dim=1)

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
        self.check_maps(maps)
        self.check_params(params)
        shape = shape or (maps.shape[1], maps.shape[2])
        mask = self.foreground.mask(_at(maps[0], shape), params)
        if self.partition is None:
            labels = cc3d.connected_components(mask, connectivity=4).astype(np.int32)
        else:
            coarse = _at(mask.astype(np.float32), maps.shape[1:]) > 0
            labels = self.partition.decode(maps[0], coarse, maps[1:], params)
            self._refuse_regions(labels, coarse.shape)
            labels = absorb_small(labels, params["fragment"] * labels.size)
            labels = spread(_nearest(labels, shape) * mask, mask)
        if params["fill"]:
            labels = spread(labels, np.ones(shape, bool))
        return numbered(labels)

    def _refuse_regions(self, labels: Any, shape: tuple[int, ...]) -> None:
        """Refuse what a partition that was added must not return."""
        found = np.asarray(labels)
        if found.dtype.kind not in "iu" or found.shape != shape or found.min(initial=0) < 0:
            raise CompkitError(
                f"the head {self.name} decodes {found.dtype} of shape {found.shape}, but regions "
                f"are whole numbers from 0 up, of shape {shape}: correct its decode"
            )

    def check_maps(self, maps: np.ndarray) -> None:
        """Refuse maps (M, H, W) that are not this head's."""
        if len(maps) != len(self.maps):
            raise CompkitError(
                f"the head {self.name} decodes {len(self.maps)} channels "
                f"({', '.join(self.maps)}), but the maps have {len(maps)}: "
                "predict them with a network of this head"
            )

    def check_params(self, params: Params) -> None:
        """Refuse decoder parameters that are unknown, missing or out of range."""
        for name in params:
            if name not in self.space:
                raise CompkitError(
                    f"the head {self.name} has no decoder parameter {name!r}"
                    f"{nearest(name, self.space)}: take {', '.join(self.space)}"
                )
        for name, param in self.space.items():
            if name not in params:
                raise CompkitError(f"the decoder's {name} is missing: tune the decoder again")
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
