"""Arrays of images on disk, memory-mapped: of one size as one array, else end to end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike

#: Bytes before the values of a file, whatever its shape.
_HEADER = 128


class Ragged(Sequence[np.ndarray]):
    """Images of several sizes, read-only.

    Parameters
    ----------
    pixels : ndarray, shape (P,)
        All images, one after the other.
    shapes : ndarray of int64, shape (N, 2) or (N, 3)
        Of each image: (H, W), (H, W, C), or of maps (M, H, W).
    """

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray) -> None:
        self.pixels, self.shapes = pixels, shapes
        self._ends = np.cumsum(shapes.prod(axis=1))

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[int(index)]
        end, shape = self._ends[number], self.shapes[number]
        return self.pixels[end - shape.prod() : end].reshape(shape)

    @property
    def size(self) -> int:
        """How many numbers there are in all."""
        return self.pixels.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return self.pixels.dtype


def values_of(images: Images) -> np.ndarray:
    """Return all numbers of all images."""
    return images.pixels if isinstance(images, Ragged) else images


#: Images of one size in an array, (N, H, W) or (N, H, W, C), or of several.
Images: TypeAlias = np.ndarray | Ragged


@dataclass(frozen=True)
class Pixels:
    """What all images of a competition are.

    Attributes
    ----------
    channels : int
        1 where they are grey, 3 where they are in colours.
    bits : int
        Of a channel, 8 or 16.
    """

    channels: int = 1
    bits: int = 8


#: What images of the challenge are.
GREY = Pixels()


def shapes_of(images: Images) -> np.ndarray:
    """Return the (H, W) of every image, int64 (N, 2)."""
    if isinstance(images, Ragged):
        return images.shapes[:, :2]
    return np.tile(np.array(images.shape[1:3], np.int64), (len(images), 1))


def open_images(path: Path) -> Images:
    """Open what `write_images` wrote, memory-mapped.

    Raises
    ------
    OSError, ValueError, OverflowError
        If it is not there or damaged.
    """
    pixels = np.lib.format.open_memmap(path, mode="r")
    beside = shapes_file(path)
    return Ragged(pixels, np.load(beside)) if beside.exists() else pixels


def shapes_file(path: Path) -> Path:
    """Return where the shapes of images of several sizes lie."""
    return path.with_name(f"{path.stem}_shapes.npy")


def write_images(
    path: Path, images: Iterable[np.ndarray], empty: tuple[int, ...]
) -> np.ndarray | None:
    """Write images of one type as they come; memory holds one.

    Parameters
    ----------
    empty : tuple of int
        The shape of an image, and the type is uint8, where there is none.

    Returns
    -------
    ndarray of int64, or None
        The shape of each, if they are of several sizes.
    """
    shapes, dtype = list[tuple[int, ...]](), np.dtype(np.uint8)
    with path.open("wb") as file:
        file.write(bytes(_HEADER))
        # Plain writes, not a writable map: on a full disk those raise, a map kills the process.
        for image in images:
            shapes.append(image.shape)
            dtype = image.dtype
            file.write(np.ascontiguousarray(image).data)
        if several := len(set(shapes)) > 1:
            whole: tuple[int, ...] = (sum(int(np.prod(shape)) for shape in shapes),)
        else:
            whole = (len(shapes), *(shapes[0] if shapes else empty))
        file.seek(0)
        header = {"descr": dtype.str, "fortran_order": False, "shape": whole}
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != _HEADER:
            raise AssertionError(f"a header of {file.tell()} bytes")
        file.flush()
        os.fsync(file.fileno())
    return np.array(shapes, np.int64) if several else None


def write_array(path: Path, values: np.ndarray, dtype: DTypeLike) -> None:
    """Write a small array, on the disk once this returns."""
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(values, dtype), version=(1, 0))
        file.flush()
        os.fsync(file.fileno())
