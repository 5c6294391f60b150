"""Whether a CSV may be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compkit.competition import competition_of
from compkit.competition.base import Table, require_images
from compkit.competition.proven import Proven
from compkit.competition.table import read_table
from compkit.display import print_line


def check(submission: Path, data: str) -> None:
    """Print whether a file is a submission for the competition whose data lie at `data`.

    Raises
    ------
    CompkitError
        As `check_submission`.
    """
    competition = competition_of(data)
    source = Proven(competition, data)
    size = source.image("test", 0).shape[0]
    table = check_submission(submission, source.test, size, competition.rules.max_label)
    print_line(f"{submission}: a sound submission of {len(table.images)} images of {size}×{size}")
    if bare := background_only(table.labels):
        print_line(bare)


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
