"""Whether a file may be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compkit.competition import competition_of
from compkit.competition.base import Competition
from compkit.competition.proven import Proven
from compkit.display import print_line
from compkit.submission.forms import form_of


def check(submission: Path, data: str) -> None:
    """Say that a file is a submission for the test of some data.

    Raises
    ------
    CompkitError
        One sentence naming the place of the first thing that is wrong.
    """
    competition = competition_of(data)
    shapes = test_shapes(competition, data)
    labels = form_of(competition).check(submission, shapes, competition.rules.max_label)
    sizes = sorted({f"{width}×{height}" for height, width in shapes.values()})
    of = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes"
    print_line(f"{submission}: a sound submission of {len(labels)} images of {of}")
    if bare := background_only(list(labels.values())):
        print_line(bare)


def test_shapes(competition: Competition, data: str) -> dict[str, tuple[int, int]]:
    """Return the (H, W) of every test image by its name, in order."""
    source = Proven(competition, data)
    shapes = (source.image("test", index).shape for index in range(len(source.test)))
    return {name: (shape[0], shape[1]) for name, shape in zip(source.test, shapes, strict=True)}


def background_only(labels: Sequence[np.ndarray]) -> str:
    """Say how many label maps, (H, W) each, hold no region; nothing if each holds one."""
    bare = sum(not each.any() for each in labels)
    if not bare:
        return ""
    return f"{bare} of {len(labels)} images hold no region: they are all background"
