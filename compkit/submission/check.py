"""Whether a CSV may be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compkit.competition.base import Table
from compkit.competition.table import read_table
from compkit.errors import CompkitError


def check_submission(
    path: Path | str, expected_images: Sequence[str], size: int, max_label: int = 255
) -> Table:
    """Read a submission, having proven that the challenge would take it.

    Parameters
    ----------
    expected_images : sequence of str
        Every image of the test set, in numeric order.
    size : int
        Side of the images in pixels.
    max_label : int
        The highest region id allowed.

    Raises
    ------
    CompkitError
        One sentence naming the place of the first thing that is wrong.
    """
    table = read_table(path, max_label=max_label, side=size)
    require_images(table.images, expected_images, str(path))
    return table


def background_only(labels: np.ndarray) -> str:
    """Say how many label maps, (N, H, W), hold no region; nothing if each holds one."""
    bare = len(labels) - np.count_nonzero(labels.any(axis=(1, 2)))
    if not bare:
        return ""
    return f"{bare} of {len(labels)} images hold no region: they are all background"


def require_images(images: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Raise `CompkitError` unless `images` are those expected, each once, in the same order."""
    known, present = set(expected), set(images)
    missing = [name for name in expected if name not in present]
    if missing:
        raise CompkitError(
            f"{where} has no column {missing[0]}{_more(missing)}, but every image needs its own"
        )
    extra = [name for name in images if name not in known]
    if extra:
        raise CompkitError(
            f"{where} has a column {extra[0]}{_more(extra)}, of which there is no image"
        )
    for column, (name, wanted) in enumerate(zip(images, expected, strict=True), 1):
        if name != wanted:
            raise CompkitError(
                f"{where}: column {column} is {name} where {wanted} is wanted; columns go by "
                "number, 2.png before 10.png"
            )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
