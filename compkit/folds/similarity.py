"""Near-duplicate slices: which images show neighbouring slices of one patient.

Nothing says which patient a slice is from. Neighbours are found by the correlation of their
details: images are brought to 64×64, blurred just enough to forgive noise and the shift between
slices, and freed of their coarse shape, in which all abdomens agree. They are not cropped or
aligned: neighbours share one field of view, and differences in it tell patients apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components

#: Two images at least this similar are neighbours. Between slices of a real CT, medians are 0.85
#: for adjacent ones, 0.54 three apart and 0.24 eight apart. Between different patients the most
#: alike of 1.6 million pairs reached 0.39 (that CT, warped) and of 2 million 0.51 (phantoms).
THRESHOLD = 0.5

_SIDE = 64
_FINE, _COARSE = 0.5, 1.5  # standard deviations of the band-pass, in pixels of 64
_SHARPNESS = 4  # power that makes near neighbours outweigh many distant ones when cutting


def similarities(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return how alike any two images are.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W), length N

    Returns
    -------
    ndarray of float32, shape (N, N)
        Correlation of the band-passed images, -1 to 1; 0 for an image without any detail.
    """
    details = np.empty((len(images), _SIDE * _SIDE), np.float32)
    for row, image in zip(details, images, strict=True):
        small = cv2.resize(np.asarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        small = small.astype(np.float32)
        band = cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE)
        band -= band.mean()
        row[:] = band.ravel() / max(float(np.linalg.norm(band)), 1e-6)
    return details @ details.T


def group_images(similarity: np.ndarray, counted: np.ndarray, most: int, piece: int) -> np.ndarray:
    """Put images that are linked by similarity, directly or through others, into one group.

    A group that holds too much is cut where it is least similar. So the slices of a single
    volume, which form one chain, become blocks of successive slices.

    Parameters
    ----------
    similarity : ndarray of float32, shape (N, N)
        From `similarities`.
    counted : ndarray of bool, shape (N,)
        The images that count for the size of a group.
    most : int
        A group with more counted images than this is cut.
    piece : int
        The most counted images in a piece of a cut group.

    Returns
    -------
    ndarray of int64, shape (N,)
        The group of each image, numbered in order of first appearance.
    """
    _, linked = connected_components(similarity >= THRESHOLD, directed=False)
    group = np.empty(len(similarity), np.int64)
    groups = 0
    for component in range(linked.max(initial=-1) + 1):
        members = np.flatnonzero(linked == component)
        pieces = [members]
        if counted[members].sum() > most:
            pieces = _pieces(similarity, members, counted, piece)
        for part in pieces:
            group[part] = groups
            groups += 1
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _pieces(
    similarity: np.ndarray, members: np.ndarray, counted: np.ndarray, piece: int
) -> list[np.ndarray]:
    """Halve `members` at the weakest place near the middle until all pieces are small enough."""
    if counted[members].sum() <= piece:
        return [members]
    weights = np.clip(similarity[np.ix_(members, members)], 0, 1).astype(np.float64) ** _SHARPNESS
    order = _in_line(weights)
    members, weights = members[order], weights[np.ix_(order, order)]
    # at i: how much the first i + 1 images have to do with the others
    inside = weights.cumsum(axis=0).cumsum(axis=1).diagonal()
    crossing = weights.sum(axis=1).cumsum() - inside
    share = counted[members].cumsum() / counted[members].sum()
    middle = (share >= 1 / 3) & (share <= 2 / 3)
    place = int(np.argmin(np.where(middle, crossing, np.inf))) + 1
    halves = members[:place], members[place:]
    return [part for half in halves for part in _pieces(similarity, half, counted, piece)]


def _in_line(weights: np.ndarray) -> np.ndarray:
    """Return an order in which neighbours are near each other: that of the Fiedler vector.

    It is the relaxed normalised cut of Shi & Malik (2000).
    """
    scale = 1 / np.sqrt(weights.sum(axis=1) + 1e-12)
    laplacian = np.eye(len(weights)) - scale[:, None] * weights * scale
    _, vectors = eigh(laplacian, subset_by_index=[1, 1])
    return np.argsort(scale * vectors[:, 0])
