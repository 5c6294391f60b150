"""Making folds that are alike, without training on near-duplicates of validation images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compkit.competition.base import GroupTable
from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.folds.duplicates import copies, find_duplicates, several
from compkit.folds.reading import read_groups
from compkit.folds.table import Folds, as_texts, measure_extent

_BINS = 4  # quantile bins of the number of regions, and of coverage
_EVENNESS = 2.0  # weight of equal numbers of images beside equal numbers in each bin


def make_folds(
    store: Store,
    k: int = 5,
    seed: int = 0,
    grouped: bool = True,
    groups: Path | str | None = None,
    similar: bool = False,
) -> Folds:
    """Split the labelled images into `k` folds, alike in size, number of regions and coverage.

    Exact copies of an image are never in two folds.

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
    groups : Path or str, optional
        A CSV of the groups to keep in one fold instead, by default the competition's own: see
        `compkit.folds.reading.read_groups`.
    similar : bool
        Keep groups with near-duplicates of one another in one fold, too.

    Raises
    ------
    CompkitError
        If there are too few labelled images for `k` folds, or too few that may be parted.
    """
    store.require_labels()
    count = len(store.labelled)
    if count == 1:
        raise CompkitError(
            f"only {store.train[store.labelled[0]]} is labelled, and a single image cannot be "
            "split into folds: label at least two"
        )
    if not 2 <= k <= count:
        raise CompkitError(
            f"{count} labelled images cannot make {k} folds: k can be "
            + ("2" if count == 2 else f"2 to {count}")
        )
    if seed < 0:
        raise CompkitError(f"the seed of a split is {seed}: take a number from 0 up")
    given = store.groups if groups is None else groups
    if given is None:
        if similar:
            raise CompkitError("similar joins groups, and none are given: leave it out")
        unit, group, told = _alike(store, k, grouped)
    else:
        unit, group, told = _given(store, k, given, similar)
    regions, coverage = measure_extent(store)
    fold = np.full(len(store.train), -1)
    chosen = store.labelled
    strata = _strata(regions[chosen], coverage[chosen])
    fold[chosen] = _balanced(strata, unit[chosen], k, np.random.default_rng(seed))
    made = {
        "k": k,
        "seed": seed,
        **told,
        "groups": len(np.unique(group)),
        "cut": several(group, fold),
        "data": store.content,
    }
    return Folds(store.train, fold, group.astype(str), regions, coverage, as_texts(made))


#: What a split may not take apart: the unit of each image, which shares a fold; its group, as
#: `Folds` has it, which is several units where it is cut; and what the file says of it.
_Parted = tuple[np.ndarray, np.ndarray, dict[str, object]]


def _alike(store: Store, k: int, grouped: bool) -> _Parted:
    found = find_duplicates(store)
    what = "different labelled images (exact copies count as one)"
    _require(k, found.copy[store.labelled], what, "label others")
    return found.cut(k) if grouped else found.copy, found.group, found.told(grouped)


def _given(store: Store, k: int, path: Path | str | GroupTable, similar: bool) -> _Parted:
    alike = find_duplicates(store).group if similar else copies(store.images)
    names = _joined(read_groups(path, store), alike)
    _, unit = np.unique(names, return_inverse=True)
    shared = "near-duplicates" if similar else "an exact copy"
    what = f"groups of labelled images in {path} (those that share {shared} count as one)"
    _require(k, unit[store.labelled], what, "correct the groups")
    return unit, names, {"grouped": "given", "threshold": "none"}


def _joined(names: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """Return the group of each image; the names of those that share a copy have a + between.

    An image of no group is of that which its copies are of.
    """
    known = names != ""
    groups, of = np.unique(names[known], return_inverse=True)
    count = len(groups) + int(copy.max()) + 1  # groups first, then distinct images
    links = coo_array((np.ones(len(of)), (of, len(groups) + copy[known])), shape=(count, count))
    _, component = connected_components(links, directed=False)
    together = pd.Series(groups).groupby(component[: len(groups)]).agg("+".join)
    return np.array(together.reindex(component[len(groups) + copy], fill_value="").tolist())


def _require(k: int, units: np.ndarray, what: str, remedy: str) -> None:
    count = len(np.unique(units))
    if count < k:
        most = f"the largest k is {count}" if count > 1 else f"at least 2 are needed: {remedy}"
        raise CompkitError(f"{count} {what} cannot make {k} folds: {most}")


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

    def place(item: int, to: int) -> None:
        sums[fold[item]] -= size[item]
        sums[to] += size[item]
        fold[item] = to

    improved = True
    while improved:
        improved = False
        for item in rng.permutation(len(names)):
            here = fold[item]
            # halves of the change in the sum of squares, for each other fold and each other group
            move = (sums - sums[here]) @ size[item] + square[item]
            other_less = size - size[item]
            swap = (other_less * (sums[here] - sums[fold] + other_less)).sum(axis=1)
            move[here], swap[fold == here] = 0, 0
            if min(move.min(), swap.min()) > -1e-9:
                continue
            improved = True
            if move.min() <= swap.min():
                place(item, int(np.argmin(move)))
            else:
                other = int(np.argmin(swap))
                to = fold[other]
                place(other, here)
                place(item, to)
    return fold[of]
