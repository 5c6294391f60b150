"""Networks that were never trained: the files of a fit, with maps written by hand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from compkit.inference.maps import Origin, write_maps
from compkit.run import FITTED, Run
from compkit.schema import write_record

#: Stands for the digest of a checkpoint that is not there.
ABSENT = "0" * 64


def put_fit(run: Run, encoder: str, fold: int, maps: Iterable[np.ndarray]) -> None:
    """Make a network of a run look trained, with its out-of-fold maps (M, h, w)."""
    part, inference = run.part(encoder, fold), run.config.inference
    images = [run.store.train[i] for i in run.folds.valid_indices(fold)]
    made = Origin(ABSENT, run.store.content, inference.views, inference.tile)
    write_maps(part / "oof", images, run.head().maps, maps, made)
    checkpoints = {"best.ckpt": ABSENT, "last.ckpt": ABSENT}
    write_record(part / FITTED, {"score": 0.5, "checkpoints": checkpoints})
