"""A competition's images and labels as arrays in files, written as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from compkit.competition.base import Source, Split
from compkit.data.arrays import shapes_file, write_array, write_images
from compkit.progress import track


def write_source(source: Source, directory: Path, blank_is_unlabelled: bool) -> None:
    """Write ``labelled.npy``, ``labels.npy``, ``images.npy`` and ``test_images.npy``.

    Where an image has several annotators also ``annotations.npy``, which holds all, (A, H, W), of
    every image; ``labels.npy`` holds the first.
    """
    empty = _write_labels(source, directory, blank_is_unlabelled)
    files: dict[Split, str] = {"train": "images", "test": "test_images"}
    for split, name in files.items():
        count = len(getattr(source, split))
        pixels = track(_images(source, split, count), f"{split} images", count)
        _write(directory / f"{name}.npy", pixels, empty)


def _write_labels(source: Source, directory: Path, blank_is_unlabelled: bool) -> tuple[int, int]:
    """Write the labelled images' labels; return the shape of an image where there are none."""
    table = source.labels().labels
    empty = (1, 1)
    most, labelled, kept = 0, list[int](), list[tuple[tuple[int, ...], np.dtype[Any]]]()
    # The type of all is known after the last: until then each is spooled in its own.
    spool = directory / "labels.spool"
    with spool.open("wb") as file:
        for index, labels in enumerate(table):
            if labels is None:
                continue
            empty, highest = labels.shape[-2:], int(labels.max(initial=0))
            if blank_is_unlabelled and not highest:
                continue
            most = max(most, highest)
            narrow = np.ascontiguousarray(labels, np.min_scalar_type(highest))
            file.write(narrow.data)
            kept.append((narrow.shape, narrow.dtype))
            labelled.append(index)
    if isinstance(table, np.ndarray):  # which tells of none, too
        empty = table.shape[1:]
    write_array(directory / "labelled.npy", np.array(labelled), np.int64)
    dtype = np.min_scalar_type(most)

    def found() -> Iterator[np.ndarray]:
        with spool.open("rb") as file:
            for shape, own in kept:
                whole = np.fromfile(file, own, int(np.prod(shape))).astype(dtype)
                yield whole.reshape(-1, *shape[-2:])

    _write(directory / "labels.npy", (annotations[0] for annotations in found()), empty)
    if any(len(shape) > 2 for shape, _ in kept):
        _write(directory / "annotations.npy", found(), (1, *empty))
    spool.unlink()
    return empty


def _write(path: Path, images: Iterable[np.ndarray], empty: tuple[int, ...]) -> None:
    """Write images, and beside them the shapes of such as are of several sizes."""
    shapes = write_images(path, images, empty)
    if shapes is not None:
        write_array(shapes_file(path), shapes, np.int64)


def _images(source: Source, split: Split, count: int) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor() as pool:
        for start in range(0, count, 64):  # bounded, so that memory is
            indices = range(start, min(start + 64, count))
            yield from pool.map(lambda index: source.image(split, index), indices)
