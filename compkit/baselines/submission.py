"""Baselines as submissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compkit.baselines.watershed import PASSES, WatershedParams, tune_watershed, watershed
from compkit.data.store import Store, open_store
from compkit.parallel import each_image
from compkit.pixels import as_grey
from compkit.progress import say
from compkit.submission.forms import form_at, form_of
from compkit.submission.publish import at_most, claim, publish


def submit_watershed(data: str, out: Path, tune: bool = False, overwrite: bool = False) -> None:
    """Cut every test image of `data` by the organisers' watershed into the submission `out`.

    Parameters
    ----------
    tune : bool
        Tune its parameters on the labelled training images first.
    overwrite : bool
        Replace whatever file is at `out`, and where its manifest belongs.

    Raises
    ------
    CompkitError
        If there are too few labels to tune on, or `out` is not ours to write to.
    """
    claim(out, form := form_at(data), overwrite)
    store = open_store(data)
    form.require(dict(store.shapes("test")))
    params, about, method = WatershedParams(), {}, "watershed"
    if tune:
        params, about["out_of_fold"] = tune_watershed(store)
        method = "tuned watershed"
    work = ((as_grey(image), params) for image in store.test_images)
    pixels = PASSES * store.test_images.size
    maps = each_image(watershed, work, method, len(store.test), pixels)
    submit_maps(store, out, maps, method, "basins", {"params": asdict(params), **about}, overwrite)


def submit_maps(
    store: Store,
    out: Path,
    maps: Iterable[np.ndarray],
    method: str,
    parts: str,
    about: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write label maps of all test images as the submission `out`, to which a claim is laid.

    Parameters
    ----------
    maps : iterable of ndarray of int, shape (H, W)
        In the store's order. Of more regions than may be, the smallest become background.
    method, parts : str
        What made them, and what their regions are called, for people.
    about : mapping
        What the manifest says of it beside the data.
    """
    limit = store.competition.rules.max_label
    labels = at_most(limit, maps, parts)
    about = {"data": store.content, "test": store.test_content, **about}
    form, shapes = form_of(store.competition), dict(store.shapes("test"))
    publish(out, form, shapes, labels, limit, method, None, about, overwrite=overwrite)
    say(f"{out}: {len(store.test)} images by {method}")
