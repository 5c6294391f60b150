"""Reading a folds file: one of ``compkit folds``, or one made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from compkit.data.store import Store
from compkit.errors import CompkitError, brief
from compkit.folds.copies import copies, several
from compkit.folds.groups import group_name
from compkit.folds.sheet import Sheet, read_sheet
from compkit.folds.table import TITLE, Folds, measure_extent

_WHOLE = re.compile(r"([0-9]{1,9})(\.0+)?")  # programs that know no empty integer write 1.0


def read_folds(path: Path | str, store: Store) -> Folds:
    """Read a folds file and check that it is a sound split of the images in `store`.

    Only the columns image and fold are needed. What else `Folds` holds is taken from the store if
    the file has no column of it; groups are then found by similarity, and may lie in two folds.

    Raises
    ------
    CompkitError
        Naming the file, the row and what is wrong there.
    """
    path = Path(path)
    sheet = read_sheet(path, "folds file", ("image", "fold"))
    made = _first_line(sheet, store)
    split = made.pop("split", None)
    folds = _Rows(sheet, store, made).read()
    _check_numbers(path, folds)
    if _known(folds) and not _may_be_cut(made):
        _check_groups(path, folds)
    if split != folds.digest or int(made.get("cut", 0)) != several(folds.group, folds.fold):
        folds = _judged(folds, store)
    image = copies(store.images[index] for index in store.labelled)
    if parted := several(image, folds.fold[store.labelled]):
        folds.made["copies"] = str(parted)
    return folds


def _first_line(sheet: Sheet, store: Store) -> dict[str, str]:
    """Return what the file says of how it was made; nothing if it does not."""
    title = next((text for text in sheet.comments if text.startswith(TITLE)), "")
    made = dict(word.split("=", 1) for word in title[len(TITLE) :].split() if "=" in word)
    made.pop("copies", None)  # it is counted anew
    for key in {"k", "cut", "clean_k"} & made.keys():
        if not re.fullmatch("[0-9]{1,9}", made[key]):
            raise CompkitError(
                f"{sheet.path}: {key} is {brief(made[key])} in the line {TITLE!r}: "
                "correct the number, or leave the line out"
            )
    if not store.is_of(made.setdefault("data", store.content)):
        raise CompkitError(
            f"{sheet.path} was made for other data ({brief(made['data'][:12])}, these are "
            f"{store.content[:12]!r}): make it anew for these with compkit folds"
        )
    made["data"] = store.content
    return made


class _Rows:
    """Reads the rows, checking each by itself."""

    def __init__(self, sheet: Sheet, store: Store, made: dict[str, str]) -> None:
        self.sheet, self.store, self.made = sheet, store, made
        self.index = {image: index for index, image in enumerate(store.train)}
        self.labelled = set(store.labelled.tolist())

    def read(self) -> Folds:
        columns, count = set(self.sheet.columns), len(self.index)
        fold, seen = np.full(count, -1), np.zeros(count, bool)
        measured = {"regions", "coverage"} <= columns
        regions, coverage = (
            (np.zeros(count, np.int64), np.zeros(count)) if measured else measure_extent(self.store)
        )
        group, grouped = [""] * count, any(row.get("group") for _, row in self.sheet.rows)
        for number, row in self.sheet.rows:
            at = self._image(number, row, seen)
            seen[at] = True
            group[at] = group_name(self.sheet, number, row.get("group", ""))
            if at in self.labelled:
                if grouped and not group[at]:
                    self.sheet.refuse(number, f"{row['image']} has no group: give it one")
                fold[at] = self._fold(number, row)
                if measured:
                    regions[at] = self._number(number, row, "regions")
                    coverage[at] = self._share(number, row)
        for index in self.store.labelled:
            if not seen[index]:
                raise CompkitError(
                    f"{self.sheet.path} has no row for {self.store.train[index]}, which is "
                    "labelled: add one with its fold"
                )
        made = {"k": str(fold.max() + 1), **self.made}
        return Folds(self.store.train, fold, np.array(group), regions, coverage, made)

    def _image(self, number: int, row: dict[str, str], seen: np.ndarray) -> int:
        image = row["image"]
        if image not in self.index:
            example = self.store.train[0]
            self.sheet.refuse(
                number, f"there is no training image {brief(image)} (the first is {example!r})"
            )
        at = self.index[image]
        if seen[at]:
            self.sheet.refuse(number, f"{image} has a row already: leave one out")
        word = "labelled" if at in self.labelled else "unlabelled"
        if row.get("labelled", str(int(at in self.labelled))) != str(int(at in self.labelled)):
            self.sheet.refuse(number, f"labelled is {brief(row['labelled'])} but {image} is {word}")
        if at not in self.labelled and row["fold"]:
            self.sheet.refuse(
                number,
                f"{image} is unlabelled but has fold {brief(row['fold'])}: leave that empty",
            )
        return at

    def _fold(self, number: int, row: dict[str, str]) -> int:
        if not row["fold"]:
            self.sheet.refuse(number, f"{row['image']} is labelled but has no fold: give it one")
        fold = self._number(number, row, "fold")
        if "k" in self.made and fold >= int(self.made["k"]):
            self.sheet.refuse(
                number,
                f"fold is {fold}, but k={self.made['k']} in the line {TITLE!r} and folds count "
                "from 0: correct one of them",
            )
        return fold

    def _number(self, number: int, row: dict[str, str], column: str) -> int:
        if not (found := _WHOLE.fullmatch(row[column])):
            self.sheet.refuse(
                number, f"{column} is {brief(row[column])}, not a whole number from 0 up"
            )
        return int(found[1])

    def _share(self, number: int, row: dict[str, str]) -> float:
        try:
            share = float(row["coverage"].replace(",", "."))
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.sheet.refuse(
                number, f"coverage is {brief(row['coverage'])}, not a number from 0 to 1"
            )
        return share


def _check_numbers(path: Path, folds: Folds) -> None:
    used = np.unique(folds.fold[folds.fold >= 0])
    if len(used) == 1:
        raise CompkitError(
            f"{path}: all labelled images are in fold {used[0]}: spread them over at least 2 folds"
        )
    most, gaps = int(used[-1]), np.setdiff1d(np.arange(len(used)), used)
    if len(gaps):
        raise CompkitError(
            f"{path}: no labelled image is in fold {gaps[0]}, but some are in fold {most}: number "
            "the folds from 0 on, without gaps"
        )
    if most + 1 < folds.k:
        raise CompkitError(
            f"{path}: k={folds.k} in the line {TITLE!r}, but no labelled image is in fold "
            f"{most + 1}: write k={most + 1} there, or put images into that fold"
        )


def _known(folds: Folds) -> bool:
    """Whether the file tells groups."""
    return bool(folds.group[folds.fold >= 0][0] != "")


def _may_be_cut(made: dict[str, str]) -> bool:
    """Whether the file says that groups may lie in several folds."""
    grouped = made.get("grouped")
    return grouped == "false" or (grouped == "true" and int(made.get("cut", 0)) > 0)


def _judged(folds: Folds, store: Store) -> Folds:
    """Find out what is alike, since the file is not, or no longer, what ``compkit folds`` wrote."""
    grouped = folds.made.get("grouped")
    if _known(folds) and grouped not in ("true", "false"):
        count = len(np.unique(folds.group))
        made = {"grouped": "given", "threshold": "none", "groups": count, "cut": 0}
        return _remade(folds, folds.group, made)
    # here, because it is slow to import and seldom needed
    from compkit.folds.duplicates import find_duplicates
    from compkit.folds.similarity import THRESHOLD

    found = find_duplicates(store)
    cut = several(found.group, folds.fold)
    kept = _known(folds) and grouped == "true"
    # where near-duplicates are parted, a column of groups may hold pieces of whole ones
    group = folds.group if kept and not cut else found.group.astype(str)
    made = {
        "grouped": str(kept).lower(),
        "threshold": THRESHOLD,
        "clean_k": found.clean_k(),
        "groups": len(np.unique(group)),
        "cut": cut,
    }
    return _remade(folds, group, made)


def _remade(folds: Folds, group: np.ndarray, made: dict[str, object]) -> Folds:
    texts = {key: str(value) for key, value in made.items()}
    return replace(folds, group=group, made={**folds.made, **texts})


def _check_groups(path: Path, folds: Folds) -> None:
    owner: dict[str, int] = {}
    for index in np.flatnonzero(folds.fold >= 0).tolist():
        group = str(folds.group[index])
        first = owner.setdefault(group, index)
        if folds.fold[first] != folds.fold[index]:
            raise CompkitError(
                f"{path}: group {group} is in two folds ({folds.images[first]} in "
                f"{folds.fold[first]}, {folds.images[index]} in {folds.fold[index]}): put it into "
                "one, or leave the column 'group' out if it may be parted"
            )
