"""What the manifests beside a ledger keep of out-of-fold scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from compkit.errors import CompkitError
from compkit.files import read_json
from compkit.metrics.rand import METRICS
from compkit.schema import checked

_DAMAGED = "manifest damaged, or without per-image scores"

_Score = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True)
class _Kept:
    """What a manifest keeps of out-of-fold scores."""

    ranking: str
    image_names: Annotated[tuple[str, ...], Field(min_length=2)]
    image_scores: dict[str, tuple[_Score | None, ...]]
    image_groups: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Manifest:
    """What is read of a manifest."""

    sha256: str
    data: str
    test_images: Annotated[int, Field(ge=2, lt=1 << 31)]
    out_of_fold: _Kept
    test: str = ""  # in older ones, `data` is of the test, too


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One submission's out-of-fold scores.

    Attributes
    ----------
    sha256 : str
        Of the submission's file.
    images : tuple of str
        Digests of training data and test, then the names of the labelled images.
    scores : dict of str to ndarray of float64, shape (N,)
        Of those N images, by metric.
    ranking : str
        The metric that the submission was tuned for.
    test_images : int
        How many images the test has.
    groups : tuple of str, or None
        The group of each image, where it is known.
    """

    sha256: str
    images: tuple[str, ...]
    scores: dict[str, np.ndarray]
    ranking: str
    test_images: int
    groups: tuple[str, ...] | None


def comparable(
    table: pd.DataFrame, folder: Path
) -> tuple[dict[int, OutOfFold], dict[str, list[int]]]:
    """Return the submissions with scores of the same images, and the others.

    Parameters
    ----------
    table : DataFrame
        From `compkit.leaderboard.ledger.read_ledger`.
    folder : Path
        Where the manifests lie.

    Returns
    -------
    kept : dict of int to OutOfFold
        By number, those whose images most submissions have; among equals, the latest's. All have
        scores by what ranks the latest.
    left_out : dict of str to list of int
        By reason, the numbers of all others.
    """
    read: dict[int, OutOfFold] = {}
    left_out: dict[str, list[int]] = {}
    for number, name, sha256 in zip(table.index, table.submission, table.sha256, strict=True):
        found = _read(folder / f"{Path(name).stem}.json", sha256)
        if isinstance(found, str):
            left_out.setdefault(found, []).append(int(number))
        else:
            read[int(number)] = found
    counts = Counter(one.images for one in reversed(read.values()))
    images = max(counts, key=counts.__getitem__, default=())
    if others := [number for number, one in read.items() if one.images != images]:
        left_out["other images"] = others
    kept = {number: one for number, one in read.items() if one.images == images}
    metric = kept[max(kept)].ranking if kept else ""
    if lacking := [number for number, one in kept.items() if metric not in one.scores]:
        left_out[f"no scores by {metric}"] = lacking
    return {number: one for number, one in kept.items() if metric in one.scores}, left_out


def _read(path: Path, sha256: str) -> OutOfFold | str:
    """Return what a manifest says of the file `sha256`, or why it says nothing."""
    if not path.is_file():
        return "no manifest"
    try:
        manifest = checked(_Manifest, read_json(path), str(path), "submit again")
    except CompkitError:
        return _DAMAGED
    if manifest.sha256 != sha256:
        return "manifest of another file of that name"
    return _out_of_fold(manifest) or _DAMAGED


def _out_of_fold(manifest: _Manifest) -> OutOfFold | None:
    """Return what a manifest says of the file, or None where it contradicts itself."""
    kept = manifest.out_of_fold
    columns = [*kept.image_scores.values(), kept.image_groups or kept.image_names]
    if {len(column) for column in columns} != {len(kept.image_names)}:
        return None
    if not {*METRICS, kept.ranking} <= set(kept.image_scores):
        return None
    return OutOfFold(
        sha256=manifest.sha256,
        images=(manifest.data, manifest.test, *kept.image_names),
        scores={name: np.array(row, float) for name, row in kept.image_scores.items()},
        ranking=kept.ranking,
        test_images=manifest.test_images,
        groups=kept.image_groups,
    )
