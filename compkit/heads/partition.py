"""A partition: one way of telling regions apart inside the foreground."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compkit.config import PartitionConfig
from compkit.parameters import Param, Params

#: (row, column) offsets, pixels.
Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Truth:
    """What a batch of networks' outputs is compared with.

    Attributes
    ----------
    labels : Tensor of int32, shape (N, H, W)
        Region ids; 0 is background.
    targets : Tensor of float32, shape (N, T, H, W)
        Stacked results of `Partition.targets`.
    weights : Tensor of float32, shape (N, 1, H, W)
        How much each pixel counts; 0 where nothing is known.
    """

    labels: Tensor
    targets: Tensor
    weights: Tensor


class Partition(ABC):
    """Everything about one representation of which pixels belong together.

    `compkit.heads.HEADS` knows each by its name.

    Parameters
    ----------
    config : PartitionConfig
        Its settings.
    side : int
        Side in pixels of the images that the network sees (of which a crop is a part).

    Attributes
    ----------
    name : str
        The name that configurations use, and under which it is registered.
    outputs : tuple of str
        Names of the network's output channels (logits).
    maps : tuple of str
        Names of the channels between 0 and 1 that `activate` makes of them and that files hold.
        Their mean over views and networks must mean something: a slot's number does not.
    space : mapping of str to Param
        The decoding's parameters.
    weight : float
        What its loss is multiplied by to stand beside the foreground's. One that outweighs it
        crowds it out of the common, clipped gradient.
    """

    name: str
    weight: float = 1.0
    outputs: tuple[str, ...]
    maps: tuple[str, ...]
    space: Mapping[str, Param]

    @abstractmethod
    def __init__(self, config: PartitionConfig, side: int) -> None: ...

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Return what training needs beside the labels (H, W), float32 (T, H, W)."""
        return np.zeros((0, *labels.shape), np.float32)

    @abstractmethod
    def ideal(self, labels: np.ndarray) -> np.ndarray:
        """Return the maps of a perfect network, float32 (len(maps), H, W), of a label map."""

    @abstractmethod
    def loss(self, logits: Tensor, truth: Truth, foreground: Tensor) -> Tensor:
        """Return the scalar loss of logits, float32 (N, len(outputs), H, W).

        `foreground`, (N, 1, H, W), is the probability that the network gives the foreground.
        """

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Return maps, float32 (N, len(maps), H, W) between 0 and 1, of float32 logits."""

    def known(self, shape: tuple[int, int]) -> Tensor:
        """Return which values have a meaning in maps of this shape, bool (len(maps), H, W)."""
        return torch.ones(len(self.maps), *shape, dtype=torch.bool)

    def reorient(self, maps: Tensor, matrix: np.ndarray) -> Tensor:
        """Return maps whose pixels were just moved back from a view, with channels put right.

        A channel that holds a direction or an offset means another one after a flip or a turn:
        `matrix`, int (2, 2), takes (row, column) offsets of the image to those of the view.
        Channels without a direction need nothing.
        """
        del matrix
        return maps

    @abstractmethod
    def decode(
        self, foreground: np.ndarray, mask: np.ndarray, maps: np.ndarray, params: Params
    ) -> np.ndarray:
        """Return ids, int32 (H, W), of the regions into which the mask falls.

        Parameters
        ----------
        foreground : ndarray of float32, shape (H, W)
            Probability of the foreground.
        mask : ndarray of bool, shape (H, W)
            The pixels to part. One that is left 0 goes to the nearest region.
        maps : ndarray of float32, shape (len(maps), H, W)
        params : mapping
            A value for every parameter of `space`.
        """

    @abstractmethod
    def affinities(self, maps: np.ndarray, offsets: Offsets) -> np.ndarray:
        """Return how probably each pixel and the one at each offset from it are of one region.

        Float32 (len(offsets), H, W), for combining partitions of different kinds. Where the other
        pixel lies outside, the value has no meaning.
        """
