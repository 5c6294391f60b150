"""The challenge's own layout: a folder with ``X_train``, ``X_test`` and ``Y_train.csv``."""

from __future__ import annotations

import hashlib
import os
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np

from compkit.competition.base import Competition, Source, Split, Table
from compkit.errors import CompkitError
from compkit.images import read_grey
from compkit.inputs import require_file

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})\.png")
_FOLDERS: dict[Split, str] = {"train": "X_train", "test": "X_test"}
_LABELS = "Y_train.csv"


class Raidium(Competition):
    """ENS Challenge Data 150: axial CT slices, regions without names."""

    name = "raidium"
    locator = f"a folder with {', '.join(_FOLDERS.values())} and {_LABELS}"

    def owns(self, data: str) -> bool:
        """Tell whether `data` is a folder that holds any part of the layout."""
        return any((Path(data) / part).exists() for part in (*_FOLDERS.values(), _LABELS))

    def source(self, data: str) -> Source:
        """Return the folder `data`, its layout checked."""
        return RaidiumSource(Path(data))


class RaidiumSource(Source):
    """A folder in the challenge's layout; images are square, grey and all of one size.

    Names are ``<number>.png`` and are ordered by number; hidden files are passed over.

    Parameters
    ----------
    folder : Path
        Holds ``X_train/``, ``X_test/`` and ``Y_train.csv``.

    Raises
    ------
    CompkitError
        If something of the layout is missing or misnamed.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CompkitError(
                f"there is no folder {folder}: --data takes a folder with X_train, X_test "
                f"and {_LABELS}"
            )
        self.folder = folder
        self.train = _names(folder / _FOLDERS["train"])
        self.test = _names(folder / _FOLDERS["test"])
        require_file(folder / _LABELS, "label CSV", "put the challenge's file there")
        self._size: int | None = None

    def fingerprint(self) -> str:
        """Return a digest of all source files' names, sizes and times of change."""
        paths = [self._path("train", index) for index in range(len(self.train))]
        paths += [self._path("test", index) for index in range(len(self.test))]
        digest = hashlib.sha256()
        for path in [*paths, self.folder / _LABELS]:
            digest.update(f"{path.relative_to(self.folder)}/{_state(path)};".encode())
        return digest.hexdigest()

    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one image, uint8, shape (H, H); `CompkitError` if it is not one of the set."""
        path = self._path(split, index)
        pixels = read_grey(path, ("PNG",), colour=False)
        size = self._side()
        if pixels.shape != (size, size):
            height, width = pixels.shape
            raise CompkitError(
                f"{path} is {width}×{height} but {self._path('train', 0)} is {size}×{size}: "
                "all images must have the same size"
            )
        return pixels

    def labels(self) -> Table:
        """Return the label maps in the order of the training images."""
        # here, because the CSV reader is slow to import and itself knows `Table`
        from compkit.competition.table import read_table

        path = self.folder / _LABELS
        table = read_table(path, side=self._side())
        _check_columns(path, table.images, self.train)
        return table

    def _path(self, split: Split, index: int) -> Path:
        return (
            self.folder / _FOLDERS[split] / (self.train if split == "train" else self.test)[index]
        )

    def _side(self) -> int:
        if self._size is None:
            path = self._path("train", 0)
            height, width = read_grey(path, ("PNG",), colour=False).shape
            if height != width:
                raise CompkitError(
                    f"{path} is {width}×{height}: images must be square: crop or pad all of them, "
                    "and their labels"
                )
            self._size = height
        return self._size


def _names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise CompkitError(f"there is no folder {folder}: put the challenge's images there")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    for name in sorted(names):
        if not _NAME.fullmatch(name):
            raise CompkitError(
                f"{folder / name} is not named <number>.png, such as 0.png: rename or remove it"
            )
    if not names:
        raise CompkitError(f"there are no images in {folder}: put the challenge's images there")
    return tuple(sorted(names, key=lambda name: int(name[:-4])))


def _state(path: Path) -> tuple[int, ...]:
    require_file(path, "image", "fetch it again")
    try:
        state = path.stat()
    except OSError as error:
        raise CompkitError(f"{path} cannot be read ({error.strerror}): fetch it again") from None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _check_columns(path: Path, columns: tuple[str, ...], images: tuple[str, ...]) -> None:
    if columns == images:
        return
    known, wanted = set(columns), set(images)
    missing = [name for name in images if name not in known]
    extra = [name for name in columns if name not in wanted]
    if missing:
        raise CompkitError(
            f"{path} has no column {missing[0]!r} for X_train/{missing[0]} "
            f"({len(missing)} of {len(images)} images lack one): add the column or remove the image"
        )
    if extra:
        raise CompkitError(
            f"{path} has a column {extra[0]!r} but X_train holds no such image "
            f"({len(extra)} of {len(columns)} columns): add the image or remove the column"
        )
    pairs = enumerate(zip_longest(columns, images, fillvalue="nothing"), start=1)
    place, (found, expected) = next(item for item in pairs if len(set(item[1])) > 1)
    raise CompkitError(
        f"{path} has {found!r} as column {place} where {expected!r} belongs: "
        "label columns must be in the numeric order of the images"
    )
