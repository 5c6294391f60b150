"""The folds file: a CSV with one row a training image, below comments that say how it was made.

It is part of an experiment: keep it under version control.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.files import replacing

COLUMNS = ("image", "labelled", "fold", "group", "regions", "coverage")

#: Stands in for a fold: a network trained on every labelled image, which validates on none.
ALL = -1

_TITLE = "# compkit folds:"


@dataclass(frozen=True, eq=False)
class Folds:
    """Which training images are validated on in which fold.

    Attributes
    ----------
    images : tuple of str, length N
        All training images, unlabelled ones too.
    fold : ndarray of int64, shape (N,)
        0 to k - 1; -1 for an unlabelled image, which is never in a validation fold.
    group : ndarray of int64, shape (N,)
        Images of one group are near-duplicates and in one fold.
    regions : ndarray of int64, shape (N,)
        Number of labelled regions; 0 where unlabelled.
    coverage : ndarray of float64, shape (N,)
        Labelled share of the pixels, 0 to 1; 0 where unlabelled.
    made : dict
        How the folds were made: k, seed, grouped, threshold, groups, cut, data.
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
        rows = []
        for fold in range(self.k):
            chosen = self.valid_indices(fold)
            row = {
                "fold": fold,
                "images": len(chosen),
                "groups": len(np.unique(self.group[chosen])),
                "regions": float(self.regions[chosen].mean()),
                "coverage": float(self.coverage[chosen].mean()),
            }
            rows.append(row)
        return rows

    def write(self, path: Path | str) -> None:
        """Write the folds file, whole or not at all."""
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            file.write(" ".join([_TITLE, *(f"{k}={v}" for k, v in self.made.items())]) + "\n")
            file.write("# fold is empty for unlabelled images; no group is in two folds\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
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


def read_folds(path: Path | str, store: Store) -> Folds:
    """Read a folds file and check that it is a sound split of the images in `store`.

    Raises
    ------
    CompkitError
        Naming the file, the row and what is wrong there.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CompkitError(
            f"the folds file {path} cannot be read ({reason}): make one with compkit folds"
        ) from None
    made = _header(path, lines, store)
    folds = _Rows(path, store, int(made["k"])).read(lines, made)
    _check_groups(path, folds)
    for fold in range(folds.k):
        if not len(folds.valid_indices(fold)):
            raise CompkitError(f"{path}: no image is in fold {fold}: make the folds anew")
    return folds


def _header(path: Path, lines: list[str], store: Store) -> dict[str, str]:
    first = lines[0] if lines else ""
    made = dict(word.split("=", 1) for word in first[len(_TITLE) :].split() if "=" in word)
    if not first.startswith(_TITLE) or not {"k", "data"} <= made.keys():
        raise CompkitError(
            f"{path}, row 1: a folds file begins with '{_TITLE} k=… data=…': "
            "make one with compkit folds"
        )
    if not made["k"].isdecimal() or int(made["k"]) < 2:
        raise CompkitError(f"{path}, row 1: k is {made['k']!r}: it must be a number from 2 up")
    if made["data"] != store.content:
        raise CompkitError(
            f"{path} was made for other data ({made['data'][:12]}…, these are "
            f"{store.content[:12]}…): make it anew for these with compkit folds"
        )
    return made


class _Rows:
    """Reads the rows below the header, checking each by itself."""

    def __init__(self, path: Path, store: Store, k: int) -> None:
        self.path, self.k = path, k
        self.index = {image: index for index, image in enumerate(store.train)}
        self.labelled = set(store.labelled.tolist())

    def read(self, lines: list[str], made: dict[str, str]) -> Folds:
        rows = [
            (number, next(csv.reader([line])))
            for number, line in enumerate(lines, start=1)
            if line and not line.startswith("#")
        ]
        columns = rows[0][1] if rows else []
        missing = [column for column in COLUMNS if column not in columns]
        if missing:
            raise CompkitError(
                f"{self.path} has no column {missing[0]!r}: make it anew with compkit folds"
            )
        count = len(self.index)
        fold, group, regions = (np.full(count, value) for value in (-1, 0, 0))
        coverage, seen = np.zeros(count), np.zeros(count, bool)
        for number, fields in rows[1:]:
            if len(fields) != len(columns):
                self._refuse(number, f"{len(fields)} fields where there are {len(columns)} columns")
            row = dict(zip(columns, fields, strict=True))
            at = self._image(number, row, seen)
            seen[at] = True
            group[at] = self._number(number, row, "group")
            if at in self.labelled:
                fold[at] = self._fold(number, row)
                regions[at] = self._number(number, row, "regions")
                coverage[at] = self._share(number, row)
        if not seen.all():
            image = list(self.index)[int(np.argmin(seen))]
            raise CompkitError(f"{self.path} has no row for {image}: make it anew")
        return Folds(tuple(self.index), fold, group, regions, coverage, made)

    def _image(self, number: int, row: dict[str, str], seen: np.ndarray) -> int:
        image = row["image"]
        if image not in self.index:
            self._refuse(number, f"there is no training image {image!r}")
        at = self.index[image]
        if seen[at]:
            self._refuse(number, f"{image} has a row already")
        if row["labelled"] != str(int(at in self.labelled)):
            word = "labelled" if at in self.labelled else "unlabelled"
            self._refuse(number, f"labelled is {row['labelled']!r} but {image} is {word}")
        if at not in self.labelled and row["fold"]:
            self._refuse(number, f"{image} is unlabelled but has fold {row['fold']!r}")
        return at

    def _fold(self, number: int, row: dict[str, str]) -> int:
        if not row["fold"]:
            self._refuse(number, f"{row['image']} is labelled but has no fold")
        fold = self._number(number, row, "fold")
        if fold >= self.k:
            self._refuse(number, f"fold is {fold} but the folds are 0 to {self.k - 1}")
        return fold

    def _number(self, number: int, row: dict[str, str], column: str) -> int:
        text = row[column]
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            self._refuse(number, f"{column} is {text!r}, not a whole number from 0 up")
        return int(text)

    def _share(self, number: int, row: dict[str, str]) -> float:
        try:
            share = float(row["coverage"])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self._refuse(number, f"coverage is {row['coverage']!r}, not a number from 0 to 1")
        return share

    def _refuse(self, number: int, what: str) -> NoReturn:
        raise CompkitError(f"{self.path}, row {number}: {what}: make the folds anew")


def _check_groups(path: Path, folds: Folds) -> None:
    owner: dict[int, int] = {}
    for index in np.flatnonzero(folds.fold >= 0).tolist():
        group = int(folds.group[index])
        first = owner.setdefault(group, index)
        if folds.fold[first] != folds.fold[index]:
            raise CompkitError(
                f"{path}: group {group} is in two folds ({folds.images[first]} in "
                f"{folds.fold[first]}, {folds.images[index]} in {folds.fold[index]}): "
                "put near-duplicates in one fold"
            )
