"""The data of a competition, read once into memory-mapped arrays that open at once.

A store is a directory in the cache (``$COMPKIT_CACHE``, else ``$XDG_CACHE_HOME/compkit``, else
``~/.cache/compkit``), because folders of data are often read-only. It is built aside and put in
its place whole; it is built anew when the fingerprint of its sources changes, and refused when
what it holds is not what was built.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from compkit.competition import competition_of
from compkit.competition.base import Competition, GroupTable, Source, Split
from compkit.competition.proven import Proven
from compkit.data.arrays import (
    Images,
    Pixels,
    Ragged,
    open_images,
    shapes_file,
    shapes_of,
)
from compkit.data.writing import write_source
from compkit.errors import CompkitError
from compkit.failures import sentence_of
from compkit.files import locked, replacing_directory
from compkit.progress import say
from compkit.schema import read_record, write_record

_LAYOUT = 2  # of the files below; another number means another way of storing
_TRAINING, _TEST = ("labelled", "labels", "images"), ("test_images",)
_META = "store.json"


@dataclass(frozen=True, eq=False)
class Store:
    """Images and labels of one competition, memory-mapped and read-only.

    Attributes
    ----------
    competition : Competition
    directory, test_directory : Path
        Where the arrays lie, and those of the test: the same, but for `beside`.
    train, test : tuple of str
        Image names in the competition's order.
    images, test_images : memmap of uint8 or uint16, shape (N, H, W) or (N, H, W, 3), or Ragged
        Images of `train` and `test`, grey or in colours.
    labelled : ndarray of int64, shape (L,)
        Ascending indices into `train` of the labelled images.
    labels : memmap of uint8, uint16 or uint32, shape (L, H, W), or Ragged
        Region ids of the labelled images only; 0 is background.
    content : str
        SHA-256 of the training images, their names and labels: the same data have the same digest
        wherever they lie.
    test_content : str
        SHA-256 of the test images and their names, likewise.
    groups : Path, GroupTable or None
        As of `compkit.competition.base.Source`.
    annotations : memmap of the type of `labels`, shape (L, A, H, W), or Ragged, or None
        Where an image has several annotators: of all, `labels` being of the first.
    """

    competition: Competition
    directory: Path
    test_directory: Path
    train: tuple[str, ...]
    test: tuple[str, ...]
    images: Images
    test_images: Images
    labelled: np.ndarray
    labels: Images
    content: str
    test_content: str
    groups: Path | GroupTable | None = None
    annotations: Images | None = None

    @cached_property
    def size(self) -> int:
        """The longer side of the images, in pixels; of images of several sizes the median one."""
        images = self.images if len(self.images) else self.test_images
        return int(np.median(shapes_of(images).max(axis=1)))

    @property
    def pixels(self) -> Pixels:
        """What all images are."""
        images = self.images if len(self.images) else self.test_images
        axes = images.shapes.shape[1] if isinstance(images, Ragged) else images.ndim - 1
        return Pixels(1 if axes == 2 else 3, 8 * images.dtype.itemsize)

    @property
    def unlabelled(self) -> np.ndarray:
        """Ascending indices, int64, into `train` of the images without labels."""
        return np.setdiff1d(np.arange(len(self.train)), self.labelled)

    def shapes(self, split: Split) -> list[tuple[str, tuple[int, int]]]:
        """Return the name and (H, W) of every image of a split."""
        images = self.test_images if split == "test" else self.images
        found = [(height, width) for height, width in shapes_of(images).tolist()]
        return list(zip(self.test if split == "test" else self.train, found, strict=True))

    def labels_of(self, index: int) -> np.ndarray:
        """Return the region ids, shape (H, W), that the image `index` of `train` is learned by.

        Raises
        ------
        CompkitError
            If that image is unlabelled or does not exist.
        """
        return self._of(self.labels, index)

    def truth_of(self, index: int) -> np.ndarray:
        """Return what the image `index` of `train` is scored by, as `labels_of`.

        Where annotations are, it is that of each annotator, shape (A, H, W).
        """
        return self._of(self.labels if self.annotations is None else self.annotations, index)

    def _of(self, maps: Images, index: int) -> np.ndarray:
        row = int(np.searchsorted(self.labelled, index))
        if row == len(self.labelled) or self.labelled[row] != index:
            raise CompkitError(f"training image number {index} is unlabelled: ask a labelled one")
        labels, ignored = maps[row], self.competition.rules.ignored
        return np.where(labels == ignored, 0, labels) if ignored else labels

    def ignored_of(self, index: int) -> np.ndarray | None:
        """Return where nobody looked in a labelled image, bool (H, W); None if not told."""
        ignored = self.competition.rules.ignored
        if not ignored:
            return None
        return np.asarray(self.labels[int(np.searchsorted(self.labelled, index))] == ignored)

    def digests(self, indices: Iterable[int]) -> list[str]:
        """Return what tells images of `train` apart by their pixels, wherever they lie."""
        return [image_digest(self.images[int(index)]) for index in indices]

    def is_of(self, content: str) -> bool:
        """Whether a digest is of these training data; in older records it is of the test, too."""
        if content == self.content:
            return True
        return content == _digest(self.directory, (self.train, self.test), (*_TRAINING, *_TEST))

    def require_labels(self) -> None:
        """Raise `CompkitError` if no training image is labelled."""
        if not self.train:
            raise CompkitError("there are no training images, but a test alone: give --data both")
        if not len(self.labelled):
            raise CompkitError(
                f"none of the {len(self.train)} training images is labelled "
                "(all label columns are zero): supply labels"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # a pickled memmap would carry all its pixels to every worker process; here it was proven
        return _opened, (self.directory, self.competition, self.test_directory)

    def beside(self, test: Store) -> Store:
        """Return these training data beside the test of other data, of the same size."""
        alike = not isinstance(self.images, Ragged) and not isinstance(test.test_images, Ragged)
        if alike and test.size != self.size:
            raise CompkitError(
                f"the test images are {test.size}×{test.size}, but those for training "
                f"{self.size}×{self.size}: give --data a test of that size"
            )
        return _opened(self.directory, self.competition, test.directory)


def image_digest(image: np.ndarray) -> str:
    """Return a digest of an image's size and pixels, 16 hexadecimal digits."""
    pixels = np.ascontiguousarray(image)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def open_store(data: str) -> Store:
    """Open the store of the data at the locator `data`, building it if need be.

    Parameters
    ----------
    data : str
        A folder in the challenge's layout, or ``phantom…``.

    Raises
    ------
    CompkitError
        If the data are not in order, the cache cannot be written, or what it holds was changed.
    """
    competition = competition_of(data)
    source = Proven(competition, data)
    place = _place(data, competition)
    directory = place / "store"
    fingerprint = source.fingerprint()
    try:
        with locked(place, f"reading {data}", wait=True):
            meta = _meta(directory) if (directory / _META).exists() else None
            if meta is None or (meta.layout, meta.fingerprint) != (_LAYOUT, fingerprint):
                blank = competition.rules.blank_is_unlabelled
                _build(source, directory, fingerprint, data, blank)
            store = replace(_opened(directory, competition), groups=source.groups)
    except OSError as error:
        raise CompkitError(
            f"cannot keep the data of {data}: {sentence_of(error) or error}; or set COMPKIT_CACHE "
            "to another directory"
        ) from error
    if _contents(directory, store.train, store.test) != (store.content, store.test_content):
        raise CompkitError(
            f"{directory} was changed since it was built, and names, images or labels in it may be "
            f"wrong: {_anew(directory)}"
        )
    return store


def cache_root() -> Path:
    """Return the directory of all that is kept to be had again at once."""
    cache = os.environ.get("COMPKIT_CACHE")
    return Path(cache or (os.environ.get("XDG_CACHE_HOME") or "~/.cache") + "/compkit").expanduser()


def _place(data: str, competition: Competition) -> Path:
    folder = Path(data)
    where = str(folder.resolve()) if folder.exists() else data
    short = hashlib.sha256(os.fsencode(f"{competition.name}:{where}")).hexdigest()[:12]
    label = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(where).name)[:40].strip("-")
    return cache_root() / f"{label}-{short}"


@dataclass(frozen=True)
class _Meta:
    """What ``store.json`` holds."""

    layout: int
    fingerprint: str
    content: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    test_content: str = ""  # of an older layout


def _meta(directory: Path) -> _Meta:
    return read_record(_Meta, directory / _META, _anew(directory))


def _anew(directory: Path) -> str:
    return f"delete {directory}, it will be built anew"


def _opened(directory: Path, competition: Competition, test: Path | None = None) -> Store:
    """Return the store in a directory, whose digest is for `open_store` to prove."""
    test = test or directory
    meta, of_test, arrays = _meta(directory), _meta(test), dict[str, Any]()
    for name in (*_training(directory), *_TEST):
        path = (test if name in _TEST else directory) / f"{name}.npy"
        try:
            arrays[name] = open_images(path)
        except (OSError, ValueError, OverflowError) as error:
            raise CompkitError(f"{path} is damaged ({error}): {_anew(directory)}") from None
    arrays["labelled"] = np.array(arrays["labelled"])
    arrays |= {"content": meta.content, "test_content": of_test.test_content}
    return Store(competition, directory, test, meta.train, of_test.test, **arrays)


def _contents(directory: Path, train: tuple[str, ...], test: tuple[str, ...]) -> tuple[str, str]:
    """Return the digests of a directory's training data and of its test."""
    return _digest(directory, train, _training(directory)), _digest(directory, test, _TEST)


def _training(directory: Path) -> tuple[str, ...]:
    """Return which arrays of training data there are."""
    several = ("annotations",) if (directory / "annotations.npy").exists() else ()
    return (*_TRAINING, *several)


def _digest(directory: Path, listed: tuple[object, ...], arrays: tuple[str, ...]) -> str:
    """Return the digest of names and arrays in a directory.

    It takes half a second a gigabyte, so it is made once a process, and again when a file changes.
    """
    paths = [directory / f"{name}.npy" for name in arrays]
    # Of images of several sizes the shapes, too.
    paths += [shapes for path in paths if (shapes := shapes_file(path)).exists()]
    files = [path.stat() for path in paths]
    known = tuple((file.st_ino, file.st_size, file.st_mtime_ns) for file in files)
    return _digest_of(tuple(paths), listed, known)


@lru_cache(maxsize=16)
def _digest_of(
    paths: tuple[Path, ...], listed: tuple[object, ...], _files: tuple[object, ...]
) -> str:
    digest = hashlib.sha256(repr(listed).encode())
    for path in paths:  # runs know them in this order
        array = np.lib.format.open_memmap(path, mode="r")
        header = np.lib.format.header_data_from_array_1_0(array)
        digest.update(repr((path.name, sorted(header.items()))).encode())
        digest.update(array.ravel(order="K").data)
    return digest.hexdigest()


def _build(source: Source, directory: Path, fingerprint: str, data: str, blank: bool) -> None:
    (directory / _META).unlink(missing_ok=True)  # so that a half-removed store is none
    say(f"reading {data} into {directory}")
    with replacing_directory(directory) as temporary:
        write_source(source, temporary, blank)
        content, test_content = _contents(temporary, source.train, source.test)
        meta = _Meta(_LAYOUT, fingerprint, content, source.train, source.test, test_content)
        write_record(temporary / _META, asdict(meta))
