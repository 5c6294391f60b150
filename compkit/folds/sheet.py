"""CSV files about training images, as people and spreadsheets save them.

They may begin with a byte order mark, separate cells by commas, semicolons or tabs, quote them,
and hold blank lines and empty columns at the end. Lines that begin with # are comments.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from compkit.errors import CompkitError, brief
from compkit.inputs import read_text

_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Sheet:
    """A table of text with one row an image.

    Attributes
    ----------
    path : Path
    comments : tuple of str
        First cell of each comment, in order.
    columns : tuple of str
        Names in the header, in lower case.
    rows : list of (int, dict)
        Each row's line in the file, and its cells by column, without spaces around them.
    """

    path: Path
    comments: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]

    def refuse(self, number: int, what: str) -> NoReturn:
        """Raise a CompkitError that says what is wrong in row `number`."""
        raise CompkitError(f"{self.path}, row {number}: {what}")


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
    comments, columns, rows = [], None, []
    for number, cells in _lines(path, text):
        # below the header, a first cell with # may also be the name of a group
        if cells[0].startswith("#") and (columns is None or columns[0] == "image"):
            comments.append(cells[0])
        elif columns is None:
            columns = _columns(path, what, cells, needed)
        else:
            while len(cells) > len(columns) and not cells[-1]:
                cells.pop()
            if len(cells) != len(columns):
                raise CompkitError(
                    f"{path}, row {number}: {len(cells)} cells where there are {len(columns)} "
                    "columns: give every row as many cells as the header"
                )
            rows.append((number, dict(zip(columns, cells, strict=True))))
    return Sheet(path, tuple(comments), columns or _columns(path, what, [], needed), rows)


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that is not blank."""
    # comments of a file with semicolons may hold commas, and the other way round
    header = next((line for line in text.splitlines() if line.strip(' "')[:1] not in ("", "#")), "")
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise CompkitError(
            f"{path}, row {max(reader.line_num, 1)} is no row of a CSV ({error}): correct it there"
        ) from None
    return lines


def _columns(path: Path, what: str, cells: list[str], needed: Collection[str]) -> tuple[str, ...]:
    columns = [cell.lower() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise CompkitError(f"{path} has several columns {brief(twice[0])}: keep one of them")
    for name in needed:
        if name not in columns:
            raise CompkitError(
                f"{path} has no column {brief(name)}: a {what} has one header, and in it "
                f"{' and '.join(needed)}"
            )
    return tuple(columns)
