"""The challenge's own layout: a folder with ``X_train``, ``X_test`` and ``Y_train.csv``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from compkit.competition.base import NUMBERED, Competition, Source, Split, Table, require_images
from compkit.errors import CompkitError
from compkit.images import read_grey
from compkit.inputs import require_file

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
        Holds ``X_train/``, ``X_test/`` and ``Y_train.csv``; or ``X_test/`` alone, as where a code
        competition swaps the test: there are no training images then.

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
        train, labels = folder / _FOLDERS["train"], folder / _LABELS
        self.train = _names(train) if train.exists() or labels.exists() else ()
        self.test = _names(folder / _FOLDERS["test"])
        if self.train:
            require_file(labels, "label CSV", "put the challenge's file there")
        self._first = self._path("train" if self.train else "test", 0)
        self._size: int | None = None

    def fingerprint(self) -> str:
        """Return a digest of all source files' names, sizes and times of change."""
        paths = [self._path("train", index) for index in range(len(self.train))]
        paths += [self._path("test", index) for index in range(len(self.test))]
        digest = hashlib.sha256()
        for path in [*paths, self.folder / _LABELS] if self.train else paths:
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
                f"{path} is {width}×{height} but {self._first} is {size}×{size}: "
                "all images must have the same size"
            )
        return pixels

    def labels(self) -> Table:
        """Return the label maps in the order of the training images."""
        if not self.train:
            return Table((), np.zeros((0, self._side(), self._side()), np.uint8))
        # here, because the CSV reader is slow to import and itself knows `Table`
        from compkit.competition.table import read_table

        path = self.folder / _LABELS
        table = read_table(path, side=self._side())
        require_images(table.images, self.train, str(path))
        return table

    def _path(self, split: Split, index: int) -> Path:
        return (
            self.folder / _FOLDERS[split] / (self.train if split == "train" else self.test)[index]
        )

    def _side(self) -> int:
        if self._size is None:
            height, width = read_grey(self._first, ("PNG",), colour=False).shape
            if height != width:
                raise CompkitError(
                    f"{self._first} is {width}×{height}: images must be square: crop or pad all "
                    "of them, and their labels"
                )
            self._size = height
        return self._size


def _names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise CompkitError(f"there is no folder {folder}: put the challenge's images there")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    for name in sorted(names):
        if not NUMBERED.fullmatch(name):
            raise CompkitError(
                f"{folder / name} is not named <number>.png, such as 0.png: rename or remove it"
            )
    if not names:
        raise CompkitError(f"there are no images in {folder}: put the challenge's images there")
    return tuple(sorted(names, key=lambda name: int(name[:-4])))


def _state(path: Path) -> tuple[int, ...]:
    require_file(path, "image", "fetch it again")
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns
