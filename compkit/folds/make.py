"""Making folds that are alike, without training on near-duplicates of validation images."""

from __future__ import annotations

import numpy as np

from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.folds.table import Folds

_BINS = 4  # quantile bins of the number of regions, and of coverage
_EVENNESS = 2.0  # weight of equal numbers of images beside equal numbers in each bin


def make_folds(store: Store, k: int = 5, seed: int = 0, grouped: bool = True) -> Folds:
    """Split the labelled images into `k` folds, alike in size, number of regions and coverage.

    Parameters
    ----------
    store : Store
        The data; all training images are compared, labelled ones are split.
    k : int
        Number of folds, at least 2.
    seed : int
        Another seed gives another split.
    grouped : bool
        Keep near-duplicates in one fold. False overstates scores: it is there to show by how much.

    Raises
    ------
    CompkitError
        If there are fewer than `k` labelled images.
    """
    # here, because they are slow to import and reading a folds file needs neither
    from compkit.folds.similarity import THRESHOLD, group_images, similarities

    store.require_labels()
    count = len(store.labelled)
    if not 2 <= k <= count:
        raise CompkitError(
            f"{count} labelled images cannot make {k} folds: ask for 2 to {count} (k)"
        )
    labelled = np.zeros(len(store.train), bool)
    labelled[store.labelled] = True
    group, cut = np.arange(len(store.train)), 0
    if grouped:
        # a group as large as a fold still leaves room for balance; its pieces should leave more
        groups = group_images(
            similarities(store.images), labelled, most=count // k, piece=max(1, count // (2 * k))
        )
        group, cut = groups.group, groups.cut
    regions, coverage = np.zeros(len(labelled), np.int64), np.zeros(len(labelled))
    for index, labels in zip(store.labelled, store.labels, strict=True):
        regions[index] = np.count_nonzero(np.bincount(labels.ravel())[1:])
        coverage[index] = np.count_nonzero(labels) / labels.size
    fold = np.full(len(labelled), -1)
    strata = _strata(regions[labelled], coverage[labelled])
    fold[labelled] = _balanced(strata, group[labelled], k, np.random.default_rng(seed))
    made = {
        "k": k,
        "seed": seed,
        "grouped": str(grouped).lower(),
        "threshold": THRESHOLD if grouped else "none",
        "groups": len(np.unique(group)),
        "cut": cut,
        "data": store.content,
    }
    texts = {key: str(value) for key, value in made.items()}
    return Folds(store.train, fold, group, regions, coverage, texts)


def _strata(regions: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Return what a fold should have its share of: images, and images in each quantile bin."""
    columns = [np.full(len(regions), _EVENNESS)]
    for values in (regions, coverage):
        edges = np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])
        bins = np.searchsorted(edges, values, side="right")
        columns += list(np.eye(_BINS)[bins].T)
    return np.stack(columns, axis=1)


def _balanced(
    strata: np.ndarray, group: np.ndarray, k: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the fold of each image such that all folds have nearly equal sums of `strata`.

    Large groups are placed first, each where it fits best; then groups move to another fold or
    change places while that lowers the sum of squared differences from an equal share.
    """
    names, of = np.unique(group, return_inverse=True)
    size = np.zeros((len(names), strata.shape[1]))
    np.add.at(size, of, strata)
    square = (size**2).sum(axis=1)
    sums = np.zeros((k, strata.shape[1]))
    fold = np.zeros(len(names), np.int64)
    order = rng.permutation(len(names))
    for item in order[np.argsort(-size[order, 0], kind="stable")]:
        fold[item] = np.argmin(sums @ size[item])
        sums[fold[item]] += size[item]
    improved = True
    while improved:
        improved = False
        for item in rng.permutation(len(names)):
            here = fold[item]
            # halves of the change in the sum of squares, for each other fold and each other group
            move = (sums - sums[here]) @ size[item] + square[item]
            difference = size - size[item]
            swap = (difference * (sums[here] - sums[fold])).sum(axis=1) + (difference**2).sum(
                axis=1
            )
            move[here], swap[fold == here] = 0, 0
            if min(move.min(), swap.min()) > -1e-9:
                continue
            if move.min() <= swap.min():
                _place(item, int(np.argmin(move)), fold, sums, size)
            else:
                other = int(np.argmin(swap))
                there = fold[other]
                _place(item, there, fold, sums, size)
                _place(other, here, fold, sums, size)
            improved = True
    return fold[of]


def _place(item: int, to: int, fold: np.ndarray, sums: np.ndarray, size: np.ndarray) -> None:
    sums[fold[item]] -= size[item]
    sums[to] += size[item]
    fold[item] = to
