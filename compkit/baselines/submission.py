"""The watershed baseline as a submission."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from compkit.baselines.watershed import watershed
from compkit.data.store import open_store
from compkit.progress import say, track
from compkit.regions import keep_largest
from compkit.submission.publish import publish


def submit_watershed(data: str, out: Path) -> None:
    """Cut every test image of `data` by the organisers' watershed into the submission `out`."""
    store = open_store(data)
    limit = store.competition.rules.max_label
    pool = Parallel(n_jobs=os.cpu_count() or 1, return_as="generator")
    jobs = pool(delayed(_cut)(np.asarray(image), limit) for image in store.test_images)
    labels, dropped = zip(*track(jobs, "watershed", len(store.test)), strict=True)
    about = {"data": store.content}
    publish(out, store.test, np.stack(labels), limit, "watershed", 1, {}, about)
    if over := sum(d > 0 for d in dropped):
        say(f"{over} images had more than {limit} basins: their smallest became background")
    say(f"{out}: {len(store.test)} images by watershed")


def _cut(image: np.ndarray, limit: int) -> tuple[np.ndarray, int]:
    labels, dropped = keep_largest(watershed(image), limit)
    return labels.astype(np.uint16 if limit > 255 else np.uint8), dropped
