"""What is alike among the training images of a store: exact copies, and near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from compkit.data.store import Store, image_digest
from compkit.folds.similarity import THRESHOLD, group_images, similarities


def copies(images: Iterable[np.ndarray]) -> np.ndarray:
    """Number the distinct images, int64 (N,), in order of first appearance; copies share one."""
    return pd.factorize(np.array([image_digest(image) for image in images]))[0]


def several(kind: np.ndarray, fold: np.ndarray) -> int:
    """Count the kinds of which images lie in several folds; a fold of -1 is none.

    Parameters
    ----------
    kind : ndarray, shape (N,)
        The group of each image, or the number of the distinct image that it shows.
    fold : ndarray of int64, shape (N,)
    """
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

    def told(self, grouped: bool) -> dict[str, object]:
        """Return what a folds file says of them; its groups may be `grouped` by likeness."""
        sizes = self._sizes(self.group)
        clean_k = min(np.count_nonzero(sizes), sizes.sum() // sizes.max())
        return {"grouped": str(grouped).lower(), "threshold": THRESHOLD, "clean_k": clean_k}

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
