"""The challenge's label CSV: one row a pixel (row-major), one column an image.

    ,0.png,1.png,…
    Pixel 0,0,17,…
    Pixel 1,0,17,…

No other module knows this format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import polars as pl

from compkit.competition.base import HIGHEST, NUMBERED, Table
from compkit.errors import CompkitError
from compkit.files import replacing
from compkit.inputs import require_file
from compkit.progress import task

#: What every such file begins with: the index has no name.
BEGINNING = ","

#: Bytes of CSV parsed at a time: the memory held beside the result is a few times this.
READ_BLOCK = 32 << 20

#: Cells formatted at a time.
WRITE_BLOCK = 1 << 20

_CELL = re.compile(rb" *\+?0*(\d{1,18})")


def read_table(path: Path | str, *, max_label: int = HIGHEST, side: int | None = None) -> Table:
    """Read the label maps of all images of a CSV.

    Parameters
    ----------
    path : Path or str
        A file with the header ``,0.png,1.png,…`` and the rows ``Pixel 0`` … in order. Whether
        these are the images that were expected, and in which order, is the caller's to check.
    max_label : int
        The highest region id allowed, at most 65535.
    side : int, optional
        That of the images, in pixels, if it is known: every image has as many rows as pixels.

    Returns
    -------
    Table
        Labels are uint8, or uint16 where an id is over 255; shape (N, side, side).

    Raises
    ------
    CompkitError
        Naming the file, and the column and row of the first cell that is not a whole number from
        0 to `max_label`, or whatever else keeps the file from being such a table.
    """
    path = Path(path)
    require_file(path, "label CSV")
    try:
        with path.open("rb") as file:
            images = _header(path, file.readline())
            labels = _cells(path, file, images, min(max_label, HIGHEST))
    except OSError as error:
        raise CompkitError(f"{path} cannot be read: {error.strerror}") from None
    rows = labels.shape[1]
    found = math.isqrt(rows)
    if found * found != rows or side not in (None, found):
        raise CompkitError(f"{path} has {rows} rows, {_expected(rows, found, side)}")
    return Table(images, labels.reshape(len(images), found, found))


def _expected(rows: int, found: int, side: int | None) -> str:
    """Return how many rows there should be, where there are others."""
    if side is None:
        return "which is not the square of an image's side: rows are missing, or there are too many"
    pixels = f"which is {found}×{found} pixels, " if found * found == rows else ""
    return f"{pixels}but the images are {side}×{side}: {side * side} rows are wanted"


def write_table(
    path: Path | str,
    images: Sequence[str],
    labels: np.ndarray,
    *,
    max_label: int = 255,
    overwrite: bool = True,
) -> None:
    """Write label maps as CSV, byte for byte as `pandas.DataFrame.to_csv` would.

    Parameters
    ----------
    path : Path or str
        Replaced once the new file is whole.
    images : sequence of str
        Column names, ``<number>.png``, in the order of `labels`, integers (N, H, W).
    max_label : int
        The highest region id that may be written, at most 65535.
    overwrite : bool
        As for `replacing`.

    Raises
    ------
    CompkitError
        If a name is malformed or a label lies outside 0…`max_label`, naming the image; or if what
        is there must not be replaced.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    with replacing(path, overwrite) as temporary:
        fill_table(temporary, images, labels, max_label=max_label, called=path)


def fill_table(
    file: Path, images: Sequence[str], labels: np.ndarray, *, max_label: int, called: Path
) -> None:
    """Do what `write_table` does to a file that is there for it, `called` otherwise in errors."""
    _check_names(called, images)
    if len(images) != len(labels):
        raise CompkitError(f"{called}: {len(images)} names were given for {len(labels)} label maps")
    for image, values in zip(images, labels, strict=True):
        _check_labels(called, image, values, min(max_label, HIGHEST))
    flat = labels.reshape(len(labels), -1)
    with file.open("wb") as opened:
        _write_rows(opened, images, flat)


def _write_rows(file: BinaryIO, images: Sequence[str], flat: np.ndarray) -> None:
    """Write the header and all rows of `flat` (N, pixels)."""
    file.write((BEGINNING + ",".join(images) + "\n").encode())
    step = max(1, WRITE_BLOCK // len(flat))
    with task(f"writing {len(images)} images", flat.shape[1]) as progress:
        for start in range(0, flat.shape[1], step):
            rows = flat[:, start : start + step]
            index = _index(start, rows.shape[1])
            frame = pl.DataFrame({"": index, **dict(zip(images, rows, strict=True))})
            text = BytesIO()  # in place of the file, of whose errors polars makes others
            frame.write_csv(text, include_header=False)
            file.write(text.getbuffer())
            progress.advance(len(frame))


def _index(start: int, count: int) -> pl.Series:
    """Return the names of some rows."""
    pixels = pl.int_range(start, start + count, eager=True)
    return pl.select(pl.format("Pixel {}", pixels)).to_series()


def _check_labels(path: Path, image: str, labels: np.ndarray, max_label: int) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise CompkitError(f"{path}: the labels of {image} are {labels.dtype}, not integers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > max_label:
        raise CompkitError(
            f"{path}: {image} holds the label {low if low < 0 else high}, "
            f"but labels must lie from 0 to {max_label}"
        )


def _header(path: Path, line: bytes) -> tuple[str, ...]:
    """Return the image names of the header line."""
    if not line:
        raise CompkitError(f"{path} is empty")
    try:
        index, *images = line.decode("utf-8-sig").rstrip("\r\n").split(",")
    except UnicodeDecodeError:
        raise CompkitError(f"{path} is not a CSV: its first line is not text") from None
    if index:
        raise CompkitError(
            f"{path}: the header starts with {index[:40]!r}, but the first column must be the "
            "index (Pixel 0, Pixel 1, …), whose name is empty"
        )
    _check_names(path, images)
    return tuple(images)


def _check_names(path: Path, images: Sequence[str]) -> None:
    if not images:
        raise CompkitError(f"{path} has no column of an image")
    seen: dict[str, int] = {}
    for column, name in enumerate(images, 1):
        if not NUMBERED.fullmatch(name):
            raise CompkitError(
                f"{path}: column {column} is named {name[:40]!r}, but columns must be named as "
                "the images are: 0.png, 1.png, …"
            )
        if name in seen:
            raise CompkitError(f"{path}: columns {seen[name]} and {column} are both named {name}")
        seen[name] = column


def _cells(path: Path, file: BinaryIO, images: tuple[str, ...], max_label: int) -> np.ndarray:
    """Return the rest of `file` transposed, uint8 or uint16 of shape (N, rows)."""
    blocks, done, used = [], 0, 0
    with task(f"reading {path.name}", path.stat().st_size) as progress:
        for block in iter(lambda: file.read(READ_BLOCK) + file.readline(), b""):
            # Unlabelled images come last: their zeros need not be parsed.
            head = _without_tail(block, len(images) - used)
            columns = used + 1 if head else len(images)
            cells = _parse(head or block, columns, done, max_label)
            if cells is None:
                _explain(path, block, images, done, max_label)
            narrow = np.uint8 if cells.max() <= np.iinfo(np.uint8).max else np.uint16
            labels = np.zeros((len(images), len(cells)), narrow)
            labels[:columns] = cells.T
            blocks.append(labels)
            used = int(max([used, *np.flatnonzero(cells.any(axis=0)) + 1]))
            done += len(cells)
            progress.advance(len(block))
    if not blocks:
        raise CompkitError(f"{path} has a header but no row of pixels")
    return np.concatenate(blocks, axis=1)


def _without_tail(block: bytes, zeros: int) -> bytes | None:
    """Return the lines of `block` cut to the first of their last `zeros` cells, if all are 0.

    One zero stays, so that the cell before it is not taken for the end of its line.
    """
    tail = b",0" * zeros
    if zeros < 2 or not block.endswith((tail, tail + b"\n")):
        return None
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not all(line.endswith(tail) for line in lines):
        return None
    cut = 2 * (zeros - 1)
    return b"\n".join([line[:-cut] for line in lines])


def _parse(block: bytes, columns: int, start: int, max_label: int) -> np.ndarray | None:
    """Return whole lines as cells (rows, columns), or None if anything about them is wrong."""
    schema = {"": pl.String} | {str(column): pl.UInt16 for column in range(columns)}
    try:
        frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return None  # polars passes over a stray one, and over a last line of next to nothing
    index = _index(start, block.count(b"\n") + (not block.endswith(b"\n")))
    frame, names = frame.drop(""), frame[""]
    if not names.equals(index) or any(column.null_count() for column in frame):
        return None
    cells = frame.to_numpy()
    return cells if cells.max() <= max_label else None


def _explain(
    path: Path, block: bytes, images: tuple[str, ...], start: int, max_label: int
) -> NoReturn:
    """Raise the sentence that says what is wrong with these lines, the first being row `start`."""
    for row, line in enumerate(block.splitlines(), start):
        name, *cells = line.split(b",")
        where = f"{path}, row 'Pixel {row}' (line {row + 2})"
        if name != b"Pixel %d" % row:
            found = repr(name[:40].decode(errors="replace"))
            raise CompkitError(
                f"{where}: the index is {found}, but rows must be Pixel 0, Pixel 1, … in order, "
                "each once"
            )
        if len(cells) != len(images):
            hint = ": the file seems cut short" if len(cells) < len(images) else ""
            raise CompkitError(f"{where} has {len(cells)} values for {len(images)} images{hint}")
        for image, cell in zip(images, cells, strict=True):
            number = _CELL.fullmatch(cell)
            if not number or int(number[1]) > max_label:
                found = repr(cell[:40].decode(errors="replace")) if cell.strip() else "empty"
                raise CompkitError(
                    f"{where}, column {image} is {found}, but a label must be a whole number "
                    f"from 0 to {max_label}"
                )
    raise CompkitError(f"{path} cannot be read from row 'Pixel {start}' (line {start + 2}) on")
