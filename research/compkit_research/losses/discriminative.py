"""The discriminative loss of De Brabandere et al. 2017 (arXiv 1708.02551)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from compkit_research.losses.regions import Regions

#: A pixel within `PULL` of its region's mean is not pulled; means 2 · `PUSH` apart not pushed.
PULL, PUSH = 0.5, 1.5

#: Weight of the means' distances to the origin.
_TO_ORIGIN = 1e-3


def discriminative_loss(embeddings: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the pull to each region's mean, the push between means, and their size (eqs. 1–4).

    Each term is a mean over the regions of an image (over pairs of them for the push), so that a
    small region counts as much as a large one, and then over the images that have regions.

    Parameters
    ----------
    embeddings : Tensor of float, shape (N, D, H, W)
    labels : Tensor of int, shape (N, H, W)
        Region ids; the background, 0, does not count.
    weights : Tensor of float, shape (N, 1, H, W)
        How much each pixel counts.

    Returns
    -------
    Tensor of float, shape ()
        Without any pixel it is 0, with a gradient of 0.
    """
    regions = Regions(labels, weights)
    means = regions.means(embeddings)
    own_mean = means[regions.rows].movedim(-1, 1)
    distance = vector_norm(embeddings - own_mean, dim=1, keepdim=True)
    pull = regions.means((distance - PULL).relu() ** 2)[:, 0]
    there = regions.sizes > 0
    images = torch.arange(len(labels), device=labels.device)
    own = (regions.image[there, None] == images).to(means.dtype)
    each = (pull + _TO_ORIGIN * vector_norm(means, dim=1))[there]
    return _image_mean(each, own) + _push(means[there], own)


def _push(means: Tensor, own: Tensor) -> Tensor:
    """Return the mean push between the means (R, D) that lie in one image, by `own` (R, N)."""
    # The matrix product that cdist may take loses the small distances, which matter most.
    distance = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = (own @ own.T).fill_diagonal_(0)
    others = pairs.sum(1).clamp_min(1)
    return _image_mean(((2 * PUSH - distance).relu() ** 2 * pairs).sum(1) / others, own)


def _image_mean(values: Tensor, own: Tensor) -> Tensor:
    """Return the mean over images of the mean of their regions' values (R,), by `own` (R, N)."""
    counts = own.sum(0)
    return (values @ own / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)
