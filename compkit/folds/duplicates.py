"""What is alike among the training images of a store: exact copies, and near-duplicates.

Nothing says which patient a slice is from. Neighbours are found by the correlation of their
details: images are brought to 64×64, blurred just enough to forgive noise and the shift between
slices, and freed of their coarse shape, in which all abdomens agree. They are not cropped or
aligned: neighbours share one field of view, and differences in it tell patients apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import pandas as pd
from scipy.linalg import eigh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compkit.data.store import Store, image_digest
from compkit.pixels import as_grey

#: Two images at least this similar are neighbours. Between slices of a real CT, medians are 0.85
#: for adjacent ones, 0.54 three apart and 0.24 eight apart. Between different patients the most
#: alike of 1.6 million pairs reached 0.39 (that CT, warped) and of 2 million 0.51 (phantoms).
THRESHOLD = 0.5

_SIDE = 64
_FINE, _COARSE = 0.5, 1.5  # standard deviations of the band-pass, in pixels of 64
_SHARPNESS = 4  # power that makes near neighbours outweigh many distant ones when cutting
_PAIRS = 1 << 23  # compared at a time: memory must not grow with the square of the images
_LINE = 4096  # most images whose similarities are held at once when a group is cut


def copies(images: Iterable[np.ndarray]) -> np.ndarray:
    """Number the distinct images, int64 (N,), in order of first appearance; copies share one."""
    return pd.factorize(np.array([image_digest(image) for image in images]))[0]


def several(kind: np.ndarray, fold: np.ndarray) -> int:
    """Count the groups or distinct images, `kind`, in several folds; a fold of -1 is none."""
    folds_of = pd.Series(fold[fold >= 0]).groupby(kind[fold >= 0]).nunique()
    return int((folds_of > 1).sum())


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Exact copies, each set of which counts as one image, and near-duplicates among the rest.

    Attributes
    ----------
    copy : ndarray of int64, shape (N,)
        Which distinct image each training image is.
    counted : ndarray of bool, shape (M,)
        Which distinct images are labelled.
    details : ndarray of float32, shape (M, P)
        Of the distinct images, as of `details_of`.
    """

    copy: np.ndarray
    counted: np.ndarray
    details: np.ndarray

    @cached_property
    def linked(self) -> np.ndarray:
        """Number of each distinct image, int, shape (M,), that linked ones share.

        Images are linked by similarity, directly or through others.
        """
        count = len(self.details)
        number, rows = np.arange(count), max(1, _PAIRS // max(1, count))
        for start in range(0, count, rows):
            alike = self.details[start : start + rows] @ self.details[start:].T >= THRESHOLD
            # Links within what is linked already tell nothing, and there may be very many.
            ends = [number[start + place] for place in np.nonzero(alike)]
            one, other = (end[ends[0] != ends[1]] for end in ends)
            links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
            number = connected_components(links, directed=False)[1][number]
        return number

    @cached_property
    def group(self) -> np.ndarray:
        """The group of each training image, int64, shape (N,); no group is cut."""
        return self._groups(most=len(self.counted), piece=len(self.counted))

    def cut(self, k: int) -> np.ndarray:
        """Return groups as above, those cut that are too large for one of `k` folds.

        At least `k` of them hold labelled images, if as many distinct images are labelled.
        """
        count = int(self.counted.sum())
        # a group as large as a fold still leaves room for balance; its pieces should leave more
        most, piece = count // k, max(1, count // (2 * k))
        while np.count_nonzero(self._sizes(group := self._groups(most, piece))) < k and most > 1:
            most, piece = most // 2, max(1, piece // 2)
        return group

    def told(self, grouped: bool) -> dict[str, object]:
        """Return what a folds file says of them; its groups may be `grouped` by likeness."""
        sizes = self._sizes(self.group)
        clean_k = min(np.count_nonzero(sizes), sizes.sum() // sizes.max())
        return {"grouped": str(grouped).lower(), "threshold": THRESHOLD, "clean_k": clean_k}

    def _groups(self, most: int, piece: int) -> np.ndarray:
        """Put linked images into one group; cut one of more than `most` counted images.

        It is cut where it is least similar, to at most `piece` counted images each. So the slices
        of a single volume, which form one chain, become blocks of successive slices. Groups are
        numbered in order of first appearance.
        """
        group = self.linked.copy()
        for large in np.flatnonzero(np.bincount(self.linked[self.counted]) > most):
            members = np.flatnonzero(self.linked == large)
            for part in _pieces(self.details, members, self.counted, piece):
                group[part] = group.max() + 1
        return pd.factorize(group)[0][self.copy]

    def _sizes(self, group: np.ndarray) -> np.ndarray:
        """Count the distinct labelled images of each group."""
        first = np.unique(self.copy, return_index=True)[1]
        return np.bincount(group[first][self.counted])


def find_duplicates(store: Store) -> Duplicates:
    """Compare all training images of `store`, of which at least one is labelled."""
    copy = copies(store.images)
    first = np.unique(copy, return_index=True)[1]
    counted = np.zeros(len(first), bool)
    counted[copy[store.labelled]] = True
    return Duplicates(copy, counted, details_of([store.images[index] for index in first]))


def details_of(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return what tells how alike images are: the product of two rows, -1 to 1.

    Parameters
    ----------
    images : sequence of ndarray of uint8 or uint16, shape (H, W) or (H, W, 3), length N
        Looked at one by one, in grey.

    Returns
    -------
    ndarray of float32, shape (N, 4096)
        Band-passed images of mean 0 and length 1, so that a product is a correlation; zeros for
        an image without any detail.
    """
    details = np.empty((len(images), _SIDE * _SIDE), np.float32)
    for row, image in zip(details, images, strict=True):
        small = cv2.resize(as_grey(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        small = small.astype(np.float32)
        band = cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE)
        band -= band.mean()
        row[:] = band.ravel() / max(float(np.linalg.norm(band)), 1e-6)
    return details


def _pieces(
    details: np.ndarray, members: np.ndarray, counted: np.ndarray, piece: int
) -> list[np.ndarray]:
    """Halve `members` at the weakest place near the middle until all pieces are small enough.

    Of very many, some stand for the rest: each of those goes where the most alike of them goes.
    """
    if counted[members].sum() <= piece:
        return [members]
    step = -(-len(members) // _LINE)
    own = details[members[::step]]
    weights = np.clip(own @ own.T, 0, 1).astype(np.float64) ** _SHARPNESS
    order = _in_line(weights)
    weights = weights[np.ix_(order, order)]
    position = np.empty(len(members), np.intp)
    for start in range(0, len(members) if step > 1 else 0, _LINE):
        alike = details[members[start : start + _LINE]] @ own[order].T
        position[start : start + _LINE] = alike.argmax(axis=1)
    position[::step] = np.argsort(order)
    # at i: how much the first i + 1 images have to do with the others
    inside = weights.cumsum(axis=0).cumsum(axis=1).diagonal()
    crossing = weights.sum(axis=1).cumsum() - inside
    share = np.bincount(position, counted[members]).cumsum() / counted[members].sum()
    middle = (share >= 1 / 3) & (share <= 2 / 3)
    place = int(np.argmin(np.where(middle, crossing, np.inf))) + 1
    ranks = np.argsort(position, kind="stable")
    first = np.count_nonzero(position < place)
    halves = members[ranks[:first]], members[ranks[first:]]
    return [part for half in halves for part in _pieces(details, half, counted, piece)]


def _in_line(weights: np.ndarray) -> np.ndarray:
    """Return an order in which neighbours are near each other: that of the Fiedler vector.

    It is the relaxed normalised cut of Shi & Malik (2000).
    """
    scale = 1 / np.sqrt(weights.sum(axis=1) + 1e-12)
    laplacian = np.eye(len(weights)) - scale[:, None] * weights * scale
    _, vectors = eigh(laplacian, subset_by_index=[1, 1])
    return np.argsort(scale * vectors[:, 0])
