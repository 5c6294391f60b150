"""Sums and means over the regions of a batch, for the losses that compare regions."""

from __future__ import annotations

import torch
from torch import Tensor

#: Stands in for the size of a region without known pixels.
_EMPTY = 1e-6


class Regions:
    """The regions of a batch, and how much of each is known.

    Parameters
    ----------
    labels : Tensor of int, shape (N, H, W)
        Region ids; 0 is background, whose pixels do not count.
    weights : Tensor of float, shape (N, 1, H, W)
        How much each pixel counts.

    Attributes
    ----------
    rows : Tensor of int64, shape (N, H, W)
        Number of each pixel's region, from 0 to R − 1 over the batch.
    image : Tensor of int64, shape (R,)
        The image that each region lies in.
    sizes : Tensor of float, shape (R,)
        Summed weight of its pixels; 0 of each image's background.
    """

    def __init__(self, labels: Tensor, weights: Tensor) -> None:
        self._weights = weights * (labels > 0)[:, None]
        self.rows, self.image = number_regions(labels, image_numbers(labels))
        self.sizes = pool(self._weights, self.rows, len(self.image))[:, 0]

    def means(self, values: Tensor) -> Tensor:
        """Return the weighted mean of `values` (N, C, H, W) over each region, (R, C)."""
        sums = pool(values * self._weights, self.rows, len(self.image))
        return sums / self.sizes.clamp_min(_EMPTY)[:, None]


def number_regions(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Number each pair of a group and a label that occurs.

    Parameters
    ----------
    labels, groups : Tensor of int, shape (N, H, W)
        Region ids, and in which images or parts of them each pixel lies.

    Returns
    -------
    rows : Tensor of int64, shape (N, H, W)
        The pair's number, from 0, by increasing group and then label.
    group : Tensor of int64, shape (R,)
        Group of each pair.
    """
    height = int(labels.max()) + 1
    keys, rows = torch.unique(groups * height + labels.long(), return_inverse=True)
    return rows, keys // height


def pool(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the sum of `values` (N, C, H, W) over each row's pixels (N, H, W), (count, C)."""
    flat = values.movedim(1, -1).reshape(-1, values.shape[1])
    return flat.new_zeros(count, flat.shape[1]).index_add(0, rows.flatten(), flat)


def image_numbers(labels: Tensor) -> Tensor:
    """Return the number of the image for every pixel of labels (N, H, W)."""
    return torch.arange(len(labels), device=labels.device)[:, None, None].expand(labels.shape)
