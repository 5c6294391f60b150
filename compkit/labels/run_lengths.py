"""Run lengths, as Kaggle's competitions have them: a CSV with a row a region.

    ImageId,EncodedPixels
    0114f484a16c,137795 3 138050 7
    0999dab07b11,

Pairs of a start and a length; an image without any region has one row without runs. No other module
knows this format.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from compkit.errors import CompkitError, brief, nearest
from compkit.inputs import read_text
from compkit.labels.paint import Painted, paint, parted

#: The (H, W) of images by name.
Shapes: TypeAlias = Mapping[str, tuple[int, int]]

#: Digits of a number of runs at most; more are no pixel of any image.
_RUNS = re.compile(r"\d{1,12}(?: +\d{1,12})*")

#: Regions are striped if they have so many times the parts that they have the other way; and in how
#: many images that is looked for.
_STRIPED, _LOOKED_AT = 3, 50


@dataclass(frozen=True)
class RunLengths:
    """How a competition writes run lengths.

    Parameters
    ----------
    image, runs
        The columns of an image's name and of its runs.
    down
        Pixels are counted down each column, from the left one on; else along each row.
    first
        The number of the first pixel, 0 or 1.
    """

    image: str = "ImageId"
    runs: str = "EncodedPixels"
    down: bool = True
    first: Literal[0, 1] = 1


def read_runs(path: Path, how: RunLengths, shapes: Shapes) -> dict[str, Painted]:
    """Read the label maps of all images of a CSV.

    Parameters
    ----------
    path : Path
    how : RunLengths
    shapes : mapping of str to tuple of int
        Of the images that may be in it.

    Returns
    -------
    dict of str to Painted
        Of the images that are in it, in the order of their first rows.

    Raises
    ------
    CompkitError
        Naming the file and the line of the first row that is wrong: an image that is not there, an
        odd number of runs, runs that leave the image, or that overlap one another.
    """
    rows = _rows(path, how)
    regions: dict[str, list[np.ndarray]] = {}
    empty: dict[str, int] = {}
    lines: dict[tuple[str, str], int] = {}
    for line, name, runs in rows:
        where = f"{path}, line {line}"
        if name not in shapes:
            raise CompkitError(
                f"{where}: there is no image {brief(name)}{nearest(name, shapes)}: correct the "
                "name, or remove the row"
            )
        if runs and (first := lines.setdefault((name, runs), line)) != line:
            raise CompkitError(
                f"{where} repeats line {first}, the same runs of {brief(name)}: remove one of them"
            )
        pixels = _pixels(runs, shapes[name], how, where)
        if not len(pixels):
            empty.setdefault(name, line)
        if name in empty and (len(pixels) or name in regions):
            raise CompkitError(
                f"{where}: {brief(name)} has a row without runs, as where there is no region (line "
                f"{empty[name]}), and others: remove one of them"
            )
        regions.setdefault(name, [])
        if len(pixels):
            regions[name].append(pixels)
    return {name: paint(shapes[name], found) for name, found in regions.items()}


def seems_turned(found: Mapping[str, Painted], how: RunLengths) -> bool:
    """Whether runs seem to be counted the other way: regions are stripes, and whole if it is so.

    Of square images it cannot be told: read the wrong way they are mirrored at the diagonal.
    """
    maps = [one.labels for one in found.values() if one.labels.shape[0] != one.labels.shape[1]]
    own = other = 0
    for labels in maps[:_LOOKED_AT]:
        height, width = labels.shape
        turned = labels.T.reshape(height, width) if how.down else labels.reshape(width, height).T
        own += int(parted(labels).max(initial=0))
        other += int(parted(np.ascontiguousarray(turned)).max(initial=0))
    return other * _STRIPED < own


def _rows(path: Path, how: RunLengths) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the image and the runs of each row."""
    table = read_columns(path, "run-length CSV", how.image, how.runs)
    runs = table[how.runs].str.strip()
    for line, (name, numbers) in enumerate(zip(table[how.image], runs, strict=True), 2):
        if name or numbers:
            yield line, name, numbers


def read_columns(path: Path, what: str, *columns: str) -> pd.DataFrame:
    """Return a CSV as text, in which there are some columns.

    Raises
    ------
    CompkitError
        As `read_text`, or if it is no CSV, is cut short, or lacks a column.
    """
    text = read_text(path, what)
    try:
        # Blank lines stay, so that rows are numbered as lines.
        table = pd.read_csv(
            io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=False
        )
    except ValueError as error:
        raise CompkitError(
            f"{path} is no CSV ({' '.join(str(error).split())}): correct it"
        ) from None
    for column in columns:
        if column not in table.columns:
            raise CompkitError(
                f"{path} has no column {column}{nearest(column, table.columns)}: it has "
                f"{', '.join(map(brief, table.columns[:5]))}"
            )
    if not isinstance(table.index, pd.RangeIndex):  # of what pandas takes for names of rows
        raise CompkitError(f"{path} has rows of more cells than its header: give every row as many")
    header, last = text.partition("\n")[0], text.rstrip().rpartition("\n")[2]
    if (
        last.count(",") < header.count(",") and '"' not in header + last
    ):  # pandas takes it for empty cells
        raise CompkitError(f"{path}: the last row has fewer cells than the header: it is cut short")
    return table


def _pixels(runs: str, shape: tuple[int, int], how: RunLengths, where: str) -> np.ndarray:
    """Return the pixels of one region, int64 (N,), as indices row by row."""
    if not runs:
        return np.zeros(0, np.int64)
    if not _RUNS.fullmatch(runs):
        word = next((one for one in runs.split() if not _RUNS.fullmatch(one)), runs[:40])
        raise CompkitError(
            f"{where}: runs must be whole numbers with a space between them, not {brief(word)}"
        )
    numbers = np.array(runs.split(), np.int64)
    if len(numbers) % 2:
        raise CompkitError(
            f"{where} has {len(numbers)} numbers, but runs are pairs of a start and a length: the "
            "row seems cut short"
        )
    starts, lengths = numbers[::2] - how.first, numbers[1::2]
    height, width = shape
    if (starts < 0).any() or (lengths < 1).any():
        raise CompkitError(
            f"{where}: a run has the start {starts.min() + how.first} and the length "
            f"{lengths.min()}, but pixels are counted from {how.first} and a run has one at least: "
            f"correct it{_count_hint(how, int(starts.min()))}"
        )
    if (last := int((starts + lengths).max())) > height * width:
        raise CompkitError(
            f"{where}: a run ends at pixel {last - 1 + how.first} of an image of {width}×{height} "
            f"({height * width} pixels): correct it, or the image's size"
        )
    ends = np.cumsum(lengths)
    pixels = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
    if (np.bincount(pixels) > 1).any():
        raise CompkitError(f"{where}: runs of the region overlap one another: correct them")
    if not how.down:
        return pixels
    columns, rows = np.divmod(pixels, height)
    return rows * width + columns


def _count_hint(how: RunLengths, start: int) -> str:
    return ", or say that pixels are counted from 0 (first: 0)" if how.first and start == -1 else ""


def rows_of(labels: np.ndarray, how: RunLengths) -> list[str]:
    """Return the runs of each region of a label map, integers (H, W), by increasing id."""
    flat = (labels.T if how.down else labels).ravel()
    ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True))
    starts = np.append(0, ends[:-1] + 1)
    ids, lengths = flat[starts], ends - starts + 1
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] != 0]
    regions = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(order) else []
    pairs = np.stack([starts + how.first, lengths], axis=1)
    return [" ".join(map(str, pairs[region].ravel().tolist())) for region in regions]


def write_runs(
    path: Path, images: Sequence[str], labels: Iterable[np.ndarray], how: RunLengths
) -> None:
    """Write label maps, integers (H, W), a row a region; an image without any has one, too."""
    rows = [
        (name, runs)
        for name, each in zip(images, labels, strict=True)
        for runs in rows_of(each, how) or [""]
    ]
    pd.DataFrame(rows, columns=[how.image, how.runs]).to_csv(path, index=False)
