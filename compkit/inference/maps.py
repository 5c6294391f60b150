"""Probability maps on disk: one array with its image list, either whole or absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compkit.errors import CompkitError
from compkit.files import read_json, replacing_directory, write_json


@dataclass(frozen=True)
class Maps:
    """Named probability maps of a list of images.

    Attributes
    ----------
    images : tuple of str
        Image names, one per first index.
    channels : tuple of str
        Channel names, one per second index.
    values : memory-mapped ndarray of float16, shape (N, M, H, W)
        Probabilities.
    made : dict
        What they were made from, as `write_maps` was told.
    """

    images: tuple[str, ...]
    channels: tuple[str, ...]
    values: np.ndarray
    made: dict[str, object]

    def of(self, image: str) -> np.ndarray:
        """Return the maps of one image, float32 (M, H, W)."""
        return self.values[self.images.index(image)].astype(np.float32)


def write_maps(
    directory: Path,
    images: Sequence[str],
    channels: Sequence[str],
    stream: Iterable[np.ndarray],
    made: dict[str, object],
) -> None:
    """Write maps as they come, (M, H, W) each; the directory appears when the last one is in.

    Parameters
    ----------
    made : dict
        What identifies their origin (checkpoint, views, data); readers compare it.
    """
    with replacing_directory(directory) as temporary:
        shape: tuple[int, ...] | None = None
        with (temporary / "maps.npy").open("wb") as file:
            for maps in stream:
                if shape is None:
                    shape = maps.shape
                    header = {
                        "descr": "<f2",
                        "fortran_order": False,
                        "shape": (len(images), *shape),
                    }
                    np.lib.format.write_array_header_2_0(file, header)
                file.write(np.ascontiguousarray(maps, dtype="<f2").tobytes())
        info = {"images": list(images), "channels": list(channels), "made": made}
        write_json(temporary / "maps.json", info)


def read_maps(directory: Path) -> Maps:
    """Open maps memory-mapped.

    Raises
    ------
    CompkitError
        If they are absent, cut short or do not agree with their image list.
    """
    path, listing = directory / "maps.npy", directory / "maps.json"
    if not (path.is_file() and listing.is_file()):
        raise CompkitError(
            f"there are no whole maps in {directory}: delete it and run train.py on this run again"
        )
    info = read_json(listing)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CompkitError(
            f"{path} is corrupt ({error}): delete {directory} and run the same command again"
        ) from None
    expected = (len(info["images"]), len(info["channels"]))
    if values.shape[:2] != expected:
        raise CompkitError(
            f"{path} holds {values.shape[0]} images of {values.shape[1]} channels, but its list "
            f"names {expected[0]} of {expected[1]}: delete {directory} and run the command again"
        )
    return Maps(tuple(info["images"]), tuple(info["channels"]), values, info["made"])
