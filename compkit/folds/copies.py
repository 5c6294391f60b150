"""Exact copies: images that are equal pixel by pixel, which no split may take apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from compkit.data.store import Store, image_digest


def copies(images: Iterable[np.ndarray]) -> np.ndarray:
    """Number the distinct images, in order of first appearance.

    Parameters
    ----------
    images : iterable of ndarray
        All of one shape and type.

    Returns
    -------
    ndarray of int64, shape (N,)
        The number of each image, which exact copies share.
    """
    numbers: dict[str, int] = {}
    digests = map(image_digest, images)
    return np.array([numbers.setdefault(each, len(numbers)) for each in digests], np.int64)


def count_different(store: Store) -> int:
    """Return how many labelled images of `store` are different."""
    return int(copies(store.images[index] for index in store.labelled).max(initial=-1)) + 1


def several(kind: np.ndarray, fold: np.ndarray) -> int:
    """Count the kinds of which images lie in several folds; a fold of -1 is none.

    Parameters
    ----------
    kind : ndarray, shape (N,)
        The group of each image, or the number of the distinct image that it shows.
    fold : ndarray of int64, shape (N,)
    """
    _, of = np.unique(kind[fold >= 0], return_inverse=True)
    pairs = np.unique(np.stack([of, fold[fold >= 0]]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())
