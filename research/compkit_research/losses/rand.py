"""The soft Rand loss: Rand indices of one contingency table, with slots in place of regions.

With C_rk the sum, over the pixels of true region r, of the probabilities of slot k, and S = Σ C²,
A = Σ (row sums)², B = Σ (column sums)² and n = Σ C, the indices of `compkit.metrics.rand` are

- adjusted: (S − AB/n²) / ((A + B)/2 − AB/n²)
- plain: 1 + (2S − A − B) / n²

where each pixel is also paired with itself, which changes an index by O(1/n). No value depends on
how regions or slots are numbered.

Sources: L. Hubert and P. Arabie (1985), "Comparing partitions"; C. Fowlkes and C. Mallows (1983),
"A method for comparing two hierarchical clusterings", for the sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compkit_research.losses.regions import image_numbers, number_regions, pool

#: Added to denominators that are shares of pairs: an image of one region has none by chance.
_SMALL = 1e-5


def soft_rand_loss(
    slots: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    adjusted: bool = True,
    background: bool = False,
    window: int | None = None,
) -> Tensor:
    """Return 1 − the soft Rand index, the mean over the images that have pixels.

    Parameters
    ----------
    slots : Tensor of float, shape (N, K, H, W)
        Probability of each slot.
    labels : Tensor of int, shape (N, H, W)
        Region ids; 0 is background.
    weights : Tensor of float, shape (N, 1, H, W)
        How much each pixel counts.
    adjusted : bool
        For chance (see above).
    background : bool
        Whether the pixels of label 0 are a region; otherwise they do not count.
    window : int, optional
        Side in pixels of square tiles: only pairs within one count. The many easy pairs of distant
        regions, which may then share a slot, make way for those of touching and of small ones.
        The sums (and chance) of each tile are added up before the ratio, as a tile inside one
        region has no adjusted index of its own.

    Returns
    -------
    Tensor of float, shape ()
        From 0 to about 1. Without any pixel it is 0, with a gradient of 0.
    """
    counted = weights[:, 0] if background else weights[:, 0] * (labels > 0)
    images = len(labels)
    tiles, image = _tiles(labels, window)
    rows, tile = number_regions(labels, tiles)
    table = pool(slots * counted[:, None], rows, len(tile))
    columns = table.new_zeros(len(image), table.shape[1]).index_add(0, tile, table)

    def per_tile(values: Tensor) -> Tensor:
        return values.new_zeros(len(image)).index_add(0, tile, values)

    both, truth = per_tile((table**2).sum(1)), per_tile(table.sum(1) ** 2)
    found, size = (columns**2).sum(1), columns.sum(1) ** 2
    chance = truth * found / size.clamp_min(_SMALL)

    def per_image(values: Tensor) -> Tensor:
        return values.new_zeros(images).index_add(0, image, values)

    pairs = per_image(size)
    apart = per_image((truth + found) / 2 - both)
    most = per_image((truth + found) / 2 - chance) if adjusted else pairs / 2
    losses = apart / (most + _SMALL * pairs).clamp_min(_SMALL)
    return losses.sum() / (pairs > 0).sum().clamp_min(1)


def _tiles(labels: Tensor, window: int | None) -> tuple[Tensor, Tensor]:
    """Return each pixel's tile, (N, H, W), and each tile's image; a tile is an image without."""
    images, height, width = labels.shape
    side = window or max(height, width)
    down, right = -(-height // side), -(-width // side)
    rows = torch.arange(height, device=labels.device) // side
    columns = torch.arange(width, device=labels.device) // side
    grid = rows[:, None] * right + columns
    tiles = image_numbers(labels) * (down * right) + grid
    image = torch.arange(images, device=labels.device).repeat_interleave(down * right)
    return tiles, image
