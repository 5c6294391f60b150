"""Cross entropy after the best assignment of regions to slots."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from compkit_research.losses.regions import Regions


def set_cross_entropy(log_slots: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the cross entropy of regions matched to slots, the mean over the batch's regions.

    A small region counts as much as a large one, which the Rand losses hardly see.

    The assignment in each image is the cheapest (Hungarian method), where a pair costs the mean
    negative log probability of the slot over the region. Where there are more regions than slots,
    the K largest are matched one to one, and each of the others to its cheapest slot, which it
    shares at no cost.

    Sources: M. Asai (2018), "Set cross entropy", arXiv 1812.01217, who adds up the likelihoods of
    all pairings where this takes the best; H. W. Kuhn (1955), "The Hungarian method for the
    assignment problem".

    Parameters
    ----------
    log_slots : Tensor of float, shape (N, K, H, W)
        Log probability of each slot.
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
    costs = regions.means(-log_slots)
    known = (costs, regions.sizes, regions.image)
    slots = _assignment(*(values.detach().cpu().numpy() for values in known))
    chosen = costs.gather(1, torch.from_numpy(slots).to(costs.device)[:, None])
    return chosen.sum() / (regions.sizes > 0).sum().clamp_min(1)


def _assignment(costs: np.ndarray, sizes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the slot of each row of costs (R, K), of sizes (R,), matched within its image."""
    slots = costs.argmin(axis=1)
    for number in np.unique(image):
        own = np.flatnonzero((image == number) & (sizes > 0))
        largest = own[np.argsort(-sizes[own], kind="stable")[: costs.shape[1]]]
        region, slot = linear_sum_assignment(costs[largest])
        slots[largest[region]] = slot
    return slots
