"""What the manifests beside a ledger keep of out-of-fold scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from compkit.errors import CompkitError
from compkit.files import read_json
from compkit.metrics.rand import METRICS


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One submission's out-of-fold scores.

    Attributes
    ----------
    sha256 : str
        Of the submission's file.
    images : tuple of str
        A digest of the data, then the names of the labelled images.
    scores : ndarray of float64, shape (len(METRICS), N)
        Of those N images.
    ranking : str
        The metric that the submission was tuned for.
    test_images : int
        How many images the test has.
    groups : tuple of str, or None
        The group of each image, where it is known.
    """

    sha256: str
    images: tuple[str, ...]
    scores: np.ndarray
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
        From `compkit.submission.ledger.read_ledger`.
    folder : Path
        Where the manifests lie.

    Returns
    -------
    kept : dict of int to OutOfFold
        By number, those whose images most submissions have; among equals, the latest's.
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
    return {number: one for number, one in read.items() if one.images == images}, left_out


def _read(path: Path, sha256: str) -> OutOfFold | str:
    """Return what a manifest says of the file `sha256`, or why it says nothing."""
    if not path.is_file():
        return "no manifest"
    try:
        manifest = read_json(path)
        found = _parsed(manifest, manifest["out_of_fold"])
    except (CompkitError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return "manifest damaged, or without per-image scores"
    return found if found.sha256 == sha256 else "manifest of another file of that name"


def _parsed(manifest: dict, kept: dict) -> OutOfFold:
    names = [str(name) for name in kept["image_names"]]
    scores = np.array([kept["image_scores"][metric] for metric in METRICS], float)
    groups = kept.get("image_groups")
    found = OutOfFold(
        sha256=manifest["sha256"],
        images=(str(manifest["data"]), *names),
        scores=scores,
        ranking=METRICS[METRICS.index(kept["ranking"])],
        test_images=int(manifest["test_images"]),
        groups=None if groups is None else tuple(str(one) for one in groups),
    )
    if scores.shape != (len(METRICS), len(names)) or not (np.abs(scores) <= 1).all():
        raise ValueError
    if len(names) < 2 or len(found.groups or names) != len(names):
        raise ValueError
    if not 2 <= found.test_images < 1 << 31:
        raise ValueError
    return found
