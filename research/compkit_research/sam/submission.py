"""Segment Anything's masks of every test image as a submission."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compkit.baselines.submission import submit_maps
from compkit.data.store import open_store
from compkit.progress import track
from compkit.submission.forms import form_at
from compkit.submission.publish import claim
from compkit_research.sam.masks import label_map
from compkit_research.sam.network import SegmentAnything


def submit_sam(data: str, weights: str, out: Path, overwrite: bool = False) -> None:
    """Make the masks of Segment Anything of every test image of `data` the submission `out`.

    Parameters
    ----------
    weights : str
        A checkpoint's folder, or its name on the hub of transformers.
    overwrite : bool
        Replace whatever file is at `out`, and where its manifest belongs.
    """
    claim(out, form_at(data), overwrite)
    method = "Segment Anything"
    network = SegmentAnything(weights)
    store = open_store(data)
    images = track(store.test_images, method, len(store.test))
    maps = (label_map(network.masks(np.asarray(image)).masks()) for image in images)
    submit_maps(store, out, maps, method, "masks", {"weights": weights}, overwrite)
