"""A mask a region: of each image a folder of files, in which what is not black is the region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compkit.errors import CompkitError
from compkit.images import read_ids
from compkit.labels.paint import Painted, paint


def read_masks(paths: Sequence[Path], shape: tuple[int, int]) -> Painted:
    """Read the masks of one image's regions, in the order of their names.

    Parameters
    ----------
    paths : sequence of Path
    shape : tuple of int
        (H, W) of the image.

    Raises
    ------
    CompkitError
        Naming the mask that cannot be read, is of another size, or black all over.
    """
    regions = []
    for path in sorted(paths):
        mask = read_ids(path)
        if mask.shape != shape:
            height, width = mask.shape
            raise CompkitError(
                f"{path} is {width}×{height}, but its image {shape[1]}×{shape[0]}: put the mask of "
                "this image there"
            )
        regions.append(np.flatnonzero(mask))
        if not len(regions[-1]):
            raise CompkitError(f"{path} is black all over, so it is no region: remove it")
    return paint(shape, regions)
