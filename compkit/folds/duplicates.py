"""What is alike among the training images of a store, and how far it can be kept together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compkit.data.store import Store
from compkit.folds.copies import copies
from compkit.folds.similarity import group_images, similarities


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Exact copies, each set of which counts as one image, and near-duplicates among the rest.

    Attributes
    ----------
    copy : ndarray of int64, shape (N,)
        Which distinct image each training image is.
    counted : ndarray of bool, shape (M,)
        Which distinct images are labelled.
    similarity : ndarray of float32, shape (M, M)
        How alike distinct images are.
    """

    copy: np.ndarray
    counted: np.ndarray
    similarity: np.ndarray

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

    def clean_k(self) -> int:
        """Return the largest number of folds that needs no cut; below 2 if there is none."""
        sizes = self._sizes(self.group)
        return min(int(np.count_nonzero(sizes)), int(sizes.sum() // sizes.max()))

    def _groups(self, most: int, piece: int) -> np.ndarray:
        return group_images(self.similarity, self.counted, most, piece)[self.copy]

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
    return Duplicates(copy, counted, similarities([store.images[index] for index in first]))
