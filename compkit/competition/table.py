"""The challenge's label CSV: one row a pixel (row-major), one column an image.

    ,0.png,1.png,…
    Pixel 0,0,17,…
    Pixel 1,0,17,…

No other module knows this format.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

import numpy as np
import polars as pl

from compkit.competition.base import Table
from compkit.errors import CompkitError
from compkit.files import replacing
from compkit.inputs import require_file
from compkit.progress import task

T = TypeVar("T")

#: What every such file begins with: the index has no name.
BEGINNING = ","

#: Bytes of CSV parsed at a time: the memory held beside the result is a few times this.
READ_BLOCK = 32 << 20

#: Cells formatted at a time; small enough for the words to stay in the CPU's cache.
WRITE_BLOCK = 1 << 18

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})\.png")
_CELL = re.compile(rb" *\+?0*(\d{1,18})")

# What a cell is when a 16-bit key is one cell, and when it is two.
_CELLS: tuple[type[np.uint16], type[np.uint8]] = (np.uint16, np.uint8)


def read_table(path: Path | str, *, max_label: int = 65535, side: int | None = None) -> Table:
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
            rows = _row_count(path, file, len(images))
            labels = _cells(path, file, images, rows, min(max_label, 65535))
    except OSError as error:
        raise CompkitError(f"{path} cannot be read: {error.strerror}") from None
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
        Column names, ``<number>.png``, in the order of `labels`.
    labels : integer ndarray, shape (N, H, W)
        Region ids.
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
    limit = min(max_label, 65535)
    highest = max(
        _highest(called, image, values, limit) for image, values in zip(images, labels, strict=True)
    )
    pairs = highest <= 255 and len(images) % 2 == 0
    with file.open("wb") as opened:
        _write_rows(opened, images, labels.reshape(len(labels), -1), pairs)


def _write_rows(file: BinaryIO, images: Sequence[str], flat: np.ndarray, pairs: bool) -> None:
    """Write the header and all rows of `flat` (N, pixels); two cells make one key if `pairs`."""
    file.write((BEGINNING + ",".join(images) + "\n").encode())
    with task(f"writing {len(images)} images", flat.shape[1]) as progress:
        for rows in _ahead(_padded_rows(flat, pairs)):
            file.write(rows.tobytes().translate(None, b"\0"))
            progress.advance(len(rows))


def _padded_rows(flat: np.ndarray, pairs: bool) -> Iterator[np.ndarray]:
    """Yield the text of some rows at a time, in words of 8 bytes padded with NUL."""
    words, cell = _words(pairs), _CELLS[pairs]
    step = max(1, WRITE_BLOCK // len(flat))
    for start in range(0, flat.shape[1], step):
        keys = np.ascontiguousarray(flat[:, start : start + step].T, cell).view(np.uint16)
        rows = np.empty((len(keys), 2 + keys.shape[1] + 1), np.uint64)
        names = [f"Pixel {pixel}" for pixel in range(start, start + len(keys))]
        rows[:, :2] = np.array(names, "S16").view(np.uint64).reshape(-1, 2)
        rows[:, 2:-1] = words[keys]
        rows[:, -1] = np.array([b"\n"], "S8").view(np.uint64)
        yield rows


@functools.cache
def _words(pairs: bool) -> np.ndarray:
    """Return the text of each 16-bit key, as 65,536 words of 8 bytes padded with NUL."""
    keys = np.arange(1 << 16, dtype=np.uint16).view(_CELLS[pairs]).reshape(1 << 16, -1)
    texts = ["".join(f",{value}" for value in key) for key in keys.tolist()]
    return np.array(texts, "S8").view(np.uint64)


def _highest(path: Path, image: str, labels: np.ndarray, max_label: int) -> int:
    """Return the highest label of one image, having checked them all."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise CompkitError(f"{path}: the labels of {image} are {labels.dtype}, not integers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > max_label:
        raise CompkitError(
            f"{path}: {image} holds the label {low if low < 0 else high}, "
            f"but labels must lie from 0 to {max_label}"
        )
    return high


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
        if not _NAME.fullmatch(name):
            raise CompkitError(
                f"{path}: column {column} is named {name[:40]!r}, but columns must be named as "
                "the images are: 0.png, 1.png, …"
            )
        if name in seen:
            raise CompkitError(f"{path}: columns {seen[name]} and {column} are both named {name}")
        seen[name] = column


def _row_count(path: Path, file: BinaryIO, columns: int) -> int:
    """Return how many rows there must be if the last is named rightly; `file` is left as it was."""
    start = file.tell()
    size = file.seek(0, os.SEEK_END)
    if size == start:
        raise CompkitError(f"{path} has a header but no row of pixels")
    file.seek(max(start, size - 20 * columns - 40))  # more than a row takes
    last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2]
    file.seek(start)
    name = re.match(rb"Pixel (\d{1,12}),", last)
    # A cell takes two bytes at least, so that no made-up number allocates more than the file holds.
    if name and (int(name[1]) + 1) * 2 * columns < size:
        return int(name[1]) + 1
    return 0  # no room, so that what follows only looks for what is wrong


def _cells(
    path: Path, file: BinaryIO, images: tuple[str, ...], rows: int, max_label: int
) -> np.ndarray:
    """Return the rest of `file` transposed, shape (N, rows)."""
    labels = np.zeros((len(images), rows), np.uint8)
    done, used = 0, 0
    blocks = iter(lambda: file.read(READ_BLOCK) + file.readline(), b"")
    with task(f"reading {path.name}", rows) as progress:
        for block in _ahead(blocks):
            # Unlabelled images come last: their zeros need not be parsed.
            head = _without_tail(block, len(images) - used)
            columns = used + 1 if head else len(images)
            cells = _parse(head or block, columns, done, labels.dtype.type, max_label)
            if cells is None:
                _explain(path, block, images, done, max_label)
            if cells.dtype != labels.dtype:
                labels = labels.astype(cells.dtype)
            room = labels[:columns, done : done + len(cells)]  # less if the last row is misnamed
            room[:] = cells.T[:, : room.shape[1]]
            used = int(max([used, *np.flatnonzero(cells.any(axis=0)) + 1]))
            done += len(cells)
            progress.advance(len(cells))
    if done != rows:
        raise CompkitError(
            f"{path}: {done} rows were read, but its last line says otherwise: is it being written?"
        )
    return labels


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield from `items`; the next is made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


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


def _parse(
    block: bytes, columns: int, start: int, narrowest: type[np.unsignedinteger], max_label: int
) -> np.ndarray | None:
    """Return whole lines as cells (rows, columns), or None if anything about them is wrong."""
    widths = {np.uint8: pl.UInt8, np.uint16: pl.UInt16}
    for width in [pl.UInt8, pl.UInt16] if narrowest is np.uint8 else [widths[narrowest]]:
        schema = {"": pl.String} | {str(column): width for column in range(columns)}
        try:
            frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
        except pl.exceptions.PolarsError:
            continue
        if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
            return None  # polars passes over a stray one, and over a last line of next to nothing
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        numbers = pl.int_range(start, start + lines, eager=True)
        index = pl.select(pl.format("Pixel {}", numbers)).to_series()
        frame, names = frame.drop(""), frame[""]
        if not names.equals(index) or any(column.null_count() for column in frame):
            return None
        cells = frame.to_numpy()
        return cells if cells.max() <= max_label else None
    return None


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
