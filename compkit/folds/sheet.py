"""CSV files about training images, as people and spreadsheets save them.

They may begin with a byte order mark, separate cells by commas, semicolons or tabs, quote them,
and hold blank lines and empty columns at the end. Lines that begin with # are comments.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from compkit.errors import CompkitError, brief
from compkit.inputs import read_text

_SEPARATORS = ",;\t"
_LONGEST = 200  # characters of a group's name


@dataclass(frozen=True)
class Sheet:
    """A table of text with one row an image.

    Attributes
    ----------
    path : Path
    comments : tuple of str
        First cell of each comment, in order.
    rows : DataFrame of str
        By their line in the file, without spaces around cells; names of columns in lower case.
    """

    path: Path
    comments: tuple[str, ...]
    rows: pd.DataFrame

    def refuse(self, wrong: np.ndarray | pd.Series, say: str, **more: object) -> None:
        """Raise a CompkitError about the first row that is `wrong`; `say` names cells by column."""
        for number, row in self.rows[np.asarray(wrong, bool)].iterrows():
            cells = {str(name): _Cell(cell) for name, cell in row.items()}
            raise CompkitError(f"{self.path}, row {number}: {say.format_map(cells | more)}")

    def places(self, images: Sequence[str]) -> np.ndarray:
        """Return each row's place in `images`, int (R,); refuse a row of another image."""
        places = pd.Index(images).get_indexer(pd.Index(self.rows["image"]))
        say = "there is no training image {image!r} (the first is {first!r})"
        self.refuse(places < 0, say, first=images[0])
        return places

    def groups(self, column: str) -> pd.Series:
        """Return each row's name of a group; refuse one that is too long."""
        names = self.rows[column]
        for number, name in names[names.str.len() > _LONGEST].items():
            raise CompkitError(
                f"{self.path}, row {number}: the name of a group has {len(name)} characters: take "
                f"{_LONGEST}"
            )
        return names


class _Cell(str):
    """Text that a sentence quotes in brief."""

    def __repr__(self) -> str:
        return brief(str(self))


def read_sheet(path: Path, what: str, needed: Collection[str]) -> Sheet:
    """Read a CSV.

    Parameters
    ----------
    what : str
        What the file is, for sentences: ``"folds file"``.
    needed : collection of str
        Columns that it must have.

    Raises
    ------
    CompkitError
        If it is no readable CSV with these columns, or has a column twice; naming the row if it is
        one.
    """
    text = read_text(path, what, "give a CSV")
    # comments of a file with semicolons may hold commas, and the other way round
    header = next((line for line in text.splitlines() if line.strip(' "')[:1] not in ("", "#")), "")
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    comments, columns, rows = list[str](), list[str](), dict[int, list[str]]()
    try:
        for line in reader:
            cells = [cell.strip() for cell in line]
            while cells and not cells[-1]:
                cells.pop()
            # below the header, a first cell with # may also be the name of a group
            if cells and cells[0].startswith("#") and columns[:1] in ([], ["image"]):
                comments.append(cells[0])
            elif cells and not columns:
                columns = [cell.lower() for cell in cells]
                _check_columns(path, what, columns, needed)
            elif cells and len(cells) <= len(columns) <= len(line):
                rows[reader.line_num] = cells + [""] * (len(columns) - len(cells))
            elif cells:
                raise CompkitError(
                    f"{path}, row {reader.line_num}: {len(line)} cells where there are "
                    f"{len(columns)} columns: give every row as many cells as the header"
                )
    except csv.Error as error:
        raise CompkitError(
            f"{path}, row {max(reader.line_num, 1)} is no row of a CSV ({error}): correct it there"
        ) from None
    if not columns:
        _check_columns(path, what, columns, needed)
    return Sheet(path, tuple(comments), pd.DataFrame.from_dict(rows, "index", str, columns))


def _check_columns(path: Path, what: str, columns: list[str], needed: Collection[str]) -> None:
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise CompkitError(f"{path} has several columns {brief(twice[0])}: keep one of them")
    if missing := [name for name in needed if name not in columns]:
        raise CompkitError(
            f"{path} has no column {brief(missing[0])}: a {what} has one header, and in it "
            f"{' and '.join(needed)}"
        )
