"""Masks of one image that may overlap: as run lengths, in a file, and as one label map."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compkit.files import replacing
from compkit.progress import say

#: A mask that holds at least this share of the image's border pixels is what surrounds the body.
SURROUNDING = 0.5

#: What reading an archive raises when it is not what it should be.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Runs:
    """Masks of one image as run lengths.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image, pixels.
    counts : tuple of ndarray of uint32, shape (R,)
        For each mask, the lengths of its runs, column by column: outside, inside, outside, …
        (uncompressed RLE as of the COCO data set).
    """

    shape: tuple[int, int]
    counts: tuple[np.ndarray, ...]

    def masks(self) -> np.ndarray:
        """Return the masks, bool, shape (M, H, W)."""
        height, width = self.shape
        columns = np.empty((len(self.counts), width * height), bool)
        for mask, counts in zip(columns, self.counts, strict=True):
            mask[:] = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return columns.reshape(-1, width, height).transpose(0, 2, 1)


def label_map(masks: np.ndarray) -> np.ndarray:
    """Return the label map in which every pixel belongs to the smallest mask that holds it.

    A pixel is background if no mask holds it, or if the smallest that does is a surrounding, as of
    the air around a body: a mask with at least half of the image's border pixels. What smaller
    masks leave of a mask stays one region, also in several pieces.

    Parameters
    ----------
    masks : ndarray of bool, shape (M, H, W)
        In any order. Of masks of one area, the pixels decide which lies above.

    Returns
    -------
    ndarray of int32, shape (H, W)
        Region ids from 1, with gaps where a mask is hidden; 0 is background.
    """
    areas = np.count_nonzero(masks, axis=(1, 2))
    order = sorted(range(len(masks)), key=lambda i: (-areas[i], np.packbits(masks[i]).tobytes()))
    labels = np.zeros(masks.shape[1:], np.int32)
    for region, i in enumerate(order, 1):
        labels[masks[i]] = 0 if _surrounds(masks[i]) else region
    return labels


def _surrounds(mask: np.ndarray) -> bool:
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return bool(border.mean() >= SURROUNDING)


def write_masks(path: Path, runs: Runs) -> None:
    """Write the masks of one image, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            shape=np.array(runs.shape, np.uint32),
            lengths=np.array([len(counts) for counts in runs.counts], np.uint32),
            counts=np.concatenate([np.zeros(0, np.uint32), *runs.counts]),
        )


def read_masks(path: Path) -> Runs | None:
    """Read what `write_masks` wrote; None if it is not there, or damaged, which is said."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shape, lengths, counts = (arrays[name] for name in ("shape", "lengths", "counts"))
        height, width = (int(side) for side in shape)
        *each, rest = np.split(counts, np.cumsum(lengths))
        if len(rest) or any(one.sum() != height * width for one in each):
            raise ValueError("its runs do not fill the image")
        return Runs((height, width), tuple(each))
    except _BROKEN as error:
        say(f"{path} is damaged ({error}): its masks are made anew")
        return None
