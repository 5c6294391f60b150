"""The folds file: a CSV with one row a training image, below comments that say how it was made.

It is part of an experiment: keep it under version control.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.files import refuse_other, replacing

#: Stands in for a fold: a network trained on every labelled image, which validates on none.
ALL = -1

#: What the first line of a file begins with, before how it was made.
TITLE = "# compkit folds:"


@dataclass(frozen=True, eq=False)
class Folds:
    """Which training images are validated on in which fold.

    Attributes
    ----------
    images : tuple of str, length N
        All training images, unlabelled ones too.
    fold : ndarray of int64, shape (N,)
        0 to k - 1; -1 for an unlabelled image, which is never in a validation fold.
    group : ndarray of str, shape (N,)
        Near-duplicates, or images of one patient, share a group. It lies in one fold, but for
        those that `made` counts as cut. Empty where it is not known, which only unlabelled images
        are.
    regions : ndarray of int64, shape (N,)
        Number of labelled regions; 0 where unlabelled.
    coverage : ndarray of float64, shape (N,)
        Labelled share of the pixels, 0 to 1; 0 where unlabelled.
    made : dict
        How the folds were made: k, seed, grouped (true; given: by the user; false: whatever is
        alike), threshold, groups, cut (groups of near-duplicates that lie in several folds),
        clean_k (the largest k without a cut; below 2 if there is none), copies (images of which
        exact copies lie in several folds; absent if there are none), data.
    """

    images: tuple[str, ...]
    fold: np.ndarray
    group: np.ndarray
    regions: np.ndarray
    coverage: np.ndarray
    made: dict[str, str]

    @property
    def k(self) -> int:
        """Number of folds."""
        return int(self.made["k"])

    @property
    def digest(self) -> str:
        """Tells whether a file's folds and groups are still those that its first line is about."""
        what = repr((self.images, self.fold.tolist(), self.group.tolist()))
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    def train_indices(self, fold: int) -> np.ndarray:
        """Return the labelled images to train on, as ascending indices into `images`.

        Of `ALL` they are all labelled images.
        """
        if fold != ALL:
            self._check_number(fold)
        return np.flatnonzero((self.fold >= 0) & (self.fold != fold))

    def valid_indices(self, fold: int) -> np.ndarray:
        """Return the images of validation fold `fold`, as ascending indices into `images`."""
        self._check_number(fold)
        return np.flatnonzero(self.fold == fold)

    def summary(self) -> list[dict[str, float]]:
        """Return for each fold its number, images, groups, mean regions and mean coverage."""
        columns = ("fold", "group", "regions", "coverage")
        table = pd.DataFrame({name: getattr(self, name) for name in columns})[self.fold >= 0]
        means = table.groupby("fold")[["regions", "coverage"]].mean()
        groups = table.groupby("fold")["group"].agg(images="size", groups="nunique")
        rows: Any = groups.join(means).reset_index().to_dict("records")
        return rows

    def doubts(self) -> list[str]:
        """Return sentences that say why scores on these folds are too high; none of clean ones."""
        cut, copies = (int(self.made.get(key, 0)) for key in ("cut", "copies"))
        doubts = []
        if cut:
            doubts.append(
                f"{_count(cut, 'group')} of near-duplicate images {'is' if cut == 1 else 'are'} "
                f"cut in these {self.k} folds: networks are validated on images like those that "
                f"they learn from, so out-of-fold scores are too high; {self._way_out()}"
            )
        if copies:
            doubts.append(
                f"exact copies of {_count(copies, 'image')} lie in several folds: networks are "
                "validated on images that they learn from, so out-of-fold scores are too high; "
                "give copies one fold, as compkit folds does"
            )
        return doubts

    def _way_out(self) -> str:
        most = int(self.made.get("clean_k", 0))
        if most < 2:
            return "no number of folds avoids it, since one group holds most labelled images"
        if self.k <= most:
            return f"compkit folds --k {self.k} cuts none"
        return f"the largest k (number of folds) that needs no cut is {most}"

    def write(self, path: Path | str, overwrite: bool = True) -> None:
        """Write the folds file, whole or not at all; `overwrite` is as for `replacing`."""
        with (
            replacing(path, overwrite) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            made = {**self.made, "split": self.digest}
            file.write(" ".join([TITLE, *(f"{k}={v}" for k, v in made.items())]) + "\n")
            apart = "some groups are" if int(self.made.get("cut", 0)) else "no group is"
            file.write(f"# fold is empty for unlabelled images; {apart} in several folds\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", "labelled", "fold", "group", "regions", "coverage"])
            for index, image in enumerate(self.images):
                fold, group = self.fold[index], self.group[index]
                if fold < 0:
                    writer.writerow([image, 0, "", group, "", ""])
                else:
                    regions, coverage = self.regions[index], f"{self.coverage[index]:.6f}"
                    writer.writerow([image, 1, fold, group, regions, coverage])

    def _check_number(self, fold: int) -> None:
        if not 0 <= fold < self.k:
            raise CompkitError(f"there is no fold {fold}: the folds are 0 to {self.k - 1}")


def doubts_about(splits: Iterable[Folds]) -> list[str]:
    """Return the doubts of several splits, each once."""
    return sorted({doubt for folds in splits for doubt in folds.doubts()})


def claim_folds(path: Path, overwrite: bool, groups: Path | None = None) -> None:
    """Raise a CompkitError if no folds file can be written to `path`.

    Parameters
    ----------
    overwrite : bool
        Whatever file is there may be replaced, unless it is `groups`, which the folds are made of.
    """
    if not os.path.lexists(path):
        return
    if not path.is_file() or (groups is not None and groups.exists() and path.samefile(groups)):
        what = "is the file of groups" if path.is_file() else "is no file"
        raise CompkitError(f"{path} {what}: give --out another name")
    refuse_other(path, overwrite, TITLE)


def measure_extent(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Return each training image's regions, int64, and coverage, float64, as `Folds` has them."""
    regions, coverage = np.zeros(len(store.train), np.int64), np.zeros(len(store.train))
    for index in store.labelled.tolist():
        labels = store.labels_of(index)
        regions[index] = np.count_nonzero(np.bincount(labels.ravel())[1:])
        coverage[index] = np.count_nonzero(labels) / labels.size
    return regions, coverage


def as_texts(made: Mapping[str, object]) -> dict[str, str]:
    """Return what a file says of how it was made, as `Folds.made` has it."""
    return {key: str(value) for key, value in made.items()}


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
