"""Reading a folds file, one of ``compkit folds`` or made by hand, and groups that a user knows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from compkit.competition.base import GroupTable
from compkit.data.store import Store
from compkit.errors import CompkitError, brief
from compkit.folds.duplicates import copies, find_duplicates, several
from compkit.folds.sheet import Sheet, read_sheet
from compkit.folds.table import TITLE, Folds, as_texts, measure_extent

_WHOLE = r"[0-9]{1,9}(?:\.0{1,9})?"  # programs that know no empty integer write 1.0


def read_folds(path: Path | str, store: Store) -> Folds:
    """Read a folds file and check that it is a sound split of the images in `store`.

    Only the columns image and fold are needed. What else `Folds` holds is taken from the store if
    the file has no column of it; groups are then found by similarity, and may lie in two folds.

    Raises
    ------
    CompkitError
        Naming the file, the row and what is wrong there.
    """
    sheet = read_sheet(Path(path), "folds file", ("image", "fold"))
    made = _first_line(sheet, store)
    split, cut = made.pop("split", None), int(made.get("cut", 0))
    folds = _of_rows(sheet, store, made)
    _check_numbers(sheet.path, folds)
    may_be_cut = made.get("grouped") == "false" or (made.get("grouped") == "true" and cut > 0)
    if _known(folds) and not may_be_cut:
        _check_groups(sheet.path, folds)
    if split != folds.digest or cut != several(folds.group, folds.fold):
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


def _of_rows(sheet: Sheet, store: Store, made: dict[str, str]) -> Folds:
    """Return what the rows say, each checked by itself."""
    rows, places = sheet.rows, sheet.places(store.train)
    group = np.full(len(store.train), "", object)
    group[places] = sheet.groups("group") if "group" in rows else ""
    labelled = np.isin(places, store.labelled)
    _check_rows(sheet, labelled)
    for index in np.setdiff1d(store.labelled, places):
        raise CompkitError(
            f"{sheet.path} has no row for {store.train[index]}, which is labelled: add one with "
            "its fold"
        )
    kept, places = replace(sheet, rows=rows[labelled]), places[labelled]
    fold = np.full(len(store.train), -1)
    fold[places] = _whole(kept, "fold")
    if "k" in made:
        kept.refuse(
            fold[places] >= int(made["k"]),
            "fold is {fold}, but k={k} in the line {title!r} and folds count from 0: correct one "
            "of them",
            k=made["k"],
            title=TITLE,
        )
    if {"regions", "coverage"} <= {*rows}:
        regions, coverage = np.zeros(len(fold), np.int64), np.zeros(len(fold))
        regions[places], coverage[places] = _whole(kept, "regions"), _shares(kept, "coverage")
    else:
        regions, coverage = measure_extent(store)
    made = {"k": str(fold.max() + 1), **made}
    return Folds(store.train, fold, group.astype(str), regions, coverage, made)


def _check_rows(sheet: Sheet, labelled: np.ndarray) -> None:
    """Refuse rows that contradict others, or the labels that there are."""
    rows, has_fold = sheet.rows, sheet.rows["fold"] != ""
    sheet.refuse(rows["image"].duplicated(), "{image} has a row already: leave one out")
    if "labelled" in rows:
        say = "labelled is {labelled!r} but {image} is "
        sheet.refuse(labelled & (rows["labelled"] != "1"), say + "labelled")
        sheet.refuse(~labelled & (rows["labelled"] != "0"), say + "unlabelled")
    say = "{image} is unlabelled but has fold {fold!r}: leave that empty"
    sheet.refuse(~labelled & has_fold, say)
    sheet.refuse(labelled & ~has_fold, "{image} is labelled but has no fold: give it one")
    if "group" in rows and (rows["group"] != "").any():
        sheet.refuse(labelled & (rows["group"] == ""), "{image} has no group: give it one")


def _whole(sheet: Sheet, column: str) -> pd.Series:
    cells = sheet.rows[column]
    say = f"{column} is {{{column}!r}}, not a whole number from 0 up"
    sheet.refuse(~cells.str.fullmatch(_WHOLE).astype(bool), say)
    return cells.astype(float).astype(int)


def _shares(sheet: Sheet, column: str) -> pd.Series:
    share = pd.to_numeric(sheet.rows[column].str.replace(",", "."), errors="coerce")
    say = f"{column} is {{{column}!r}}, not a number from 0 to 1"
    sheet.refuse(~share.between(0, 1), say)
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


def _judged(folds: Folds, store: Store) -> Folds:
    """Find out what is alike, since the file is not, or no longer, what ``compkit folds`` wrote."""
    grouped = folds.made.get("grouped")
    if _known(folds) and grouped not in ("true", "false"):
        group, cut = folds.group, 0
        told: dict[str, object] = {"grouped": "given", "threshold": "none"}
    else:
        found = find_duplicates(store)
        cut = several(found.group, folds.fold)
        kept = _known(folds) and grouped == "true"
        # where near-duplicates are parted, a column of groups may hold pieces of whole ones
        group = folds.group if kept and not cut else found.group.astype(str)
        told = found.told(kept)
    made = folds.made | as_texts({**told, "groups": len(np.unique(group)), "cut": cut})
    return replace(folds, group=group, made=made)


def _check_groups(path: Path, folds: Folds) -> None:
    inside = np.flatnonzero(folds.fold >= 0)
    _, first, of = np.unique(folds.group[inside], return_index=True, return_inverse=True)
    for one, other in zip(inside[first][of], inside, strict=True):
        if folds.fold[one] != folds.fold[other]:
            raise CompkitError(
                f"{path}: group {folds.group[one]} is in two folds ({folds.images[one]} in "
                f"{folds.fold[one]}, {folds.images[other]} in {folds.fold[other]}): put it into "
                "one, or leave the column 'group' out if it may be parted"
            )


def read_groups(path: Path | str | GroupTable, store: Store) -> np.ndarray:
    """Read the group of each training image from a CSV with the columns image and group.

    Parameters
    ----------
    path : Path, str or GroupTable
        The second column may be called patient, too, or both as a table says; other columns do not
        count. An image may have several rows, of one group.

    Returns
    -------
    ndarray of str, shape (N,)
        Names of any text; empty for an unlabelled image that has none.

    Raises
    ------
    CompkitError
        Naming the file, and the row or image; for instance if a labelled image has no group.
    """
    at = path if isinstance(path, GroupTable) else GroupTable(Path(path))
    image, ways = at.image.lower(), [at.group.lower()] if at.group else ["group", "patient"]
    sheet = read_sheet(at.path, "file of groups", (image,))
    column = next((name for name in ways if name in sheet.rows), None)
    if column is None or column == image:
        told = " (or ".join(map(repr, ways)) + ")" * (len(ways) - 1)
        raise CompkitError(f"{path} must have one column {told} beside {image!r}")
    rows = pd.DataFrame({"image": sheet.rows[image], "group": sheet.rows[column]})
    sheet = replace(sheet, rows=rows)
    sheet.places(store.train)
    known = sheet.groups("group").groupby(rows["image"]).first()
    sheet = replace(sheet, rows=rows.assign(known=rows["image"].map(known)))
    sheet.refuse(
        rows["group"] != sheet.rows["known"],
        "{image} is in group {group!r}, but above in {known!r}",
    )
    names = np.array(known.reindex(store.train, fill_value="").tolist())
    for index in store.labelled[names[store.labelled] == ""]:
        raise CompkitError(
            f"{path} gives no group to {store.train[index]}, which is labelled: every labelled "
            "image needs a row with its group"
        )
    return names
