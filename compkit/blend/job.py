"""Finished submissions combined into the one on which they agree best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compkit.blend.consensus import find_consensus
from compkit.competition.base import Rules, Table
from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.errors import CompkitError, nearest
from compkit.files import digest_of
from compkit.metrics.rand import METRICS
from compkit.parallel import each_image
from compkit.progress import say
from compkit.regions import keep_largest
from compkit.submission.publish import claim, publish


def blend(
    inputs: Sequence[Path],
    out: Path,
    metric: str = Rules.ranking,
    weights: Sequence[float] | None = None,
    overwrite: bool = False,
) -> None:
    """Combine submissions, made by whatever, into one, by what they agree on.

    Every image of `out` has the highest weighted mean score with each input in turn as the truth.
    Writes `out` and its manifest beside it (``.json``), and prints how well the inputs agree.

    Parameters
    ----------
    inputs : sequence of Path
        Two CSVs or more, of the same images in the same order; ids of regions mean nothing.
    out : Path
        The CSV to write.
    metric : str
        One of `compkit.metrics.rand.METRICS`.
    weights : sequence of float, optional
        A positive number an input; equal ones by default.
    overwrite : bool
        Replace whatever file is at `out`, and where its manifest belongs.

    Raises
    ------
    CompkitError
        If the arguments contradict each other, a file is not what it should be, or `out` is not
        ours to write to.
    """
    _require_sense(inputs, metric, weights)
    claim(out, overwrite, inputs)
    tables = _read_alike(inputs)
    shares = np.array(weights or [1.0] * len(inputs))
    shares = shares / math.fsum(shares)  # exact: the order of the inputs must not matter
    labels, agreement, mutual = _combined(tables, shares, metric)
    others = (mutual.sum(axis=0) - np.diag(mutual)) / (len(inputs) - 1)
    measured = {"weight": shares, "with_others": others, "with_blend": agreement}
    mean, best = float(shares @ agreement), float((shares @ mutual).max())
    about = {
        "metric": metric,
        "agreement": mean,
        "agreement_of_best_input": best,
        "inputs": [
            {"file": str(path), "sha256": digest_of(path)}
            | {name: float(values[i]) for name, values in measured.items()}
            for i, path in enumerate(inputs)
        ],
    }
    made_of = "+".join(path.stem for path in inputs)
    images = tables[0].images
    publish(
        out, images, labels, Rules.max_label, made_of, len(inputs), {}, about,
        overwrite=overwrite, inputs=inputs,
    )  # fmt: skip
    title = f"agreement: mean {metric} over {len(labels)} images"
    rows = [
        [str(path), *(f"{values[i]:.4f}" for values in measured.values())]
        for i, path in enumerate(inputs)
    ]
    print_table(title, ["input", *(name.replace("_", " ") for name in measured)], rows)
    say(f"{out}: {len(labels)} images from {len(inputs)} inputs; mean agreement {mean:.4f}, "
        f"of the best input {best:.4f}")  # fmt: skip


def _require_sense(inputs: Sequence[Path], metric: str, weights: Sequence[float] | None) -> None:
    if len(inputs) < 2:
        raise CompkitError(f"{inputs[0]} is a single submission, but it takes two to blend")
    if metric not in METRICS:
        hint = nearest(metric, METRICS) or f"; known are {', '.join(METRICS)}"
        raise CompkitError(f"there is no metric {metric!r}{hint}")
    if weights is None:
        return
    if len(weights) != len(inputs):
        raise CompkitError(
            f"weights that do not fit: {len(weights)} for {len(inputs)} inputs, but each needs one"
        )
    for path, weight in zip(inputs, weights, strict=True):
        if not (weight > 0 and math.isfinite(weight)):
            raise CompkitError(
                f"weights that do not fit: {weight:g} for {path}, but a weight must be a positive "
                "number; leave an input out instead of giving it none"
            )
    if not math.isfinite(sum(weights)):
        raise CompkitError("weights that do not fit: nothing holds their sum: give smaller ones")


def _read_alike(paths: Sequence[Path]) -> list[Table]:
    """Read tables, having proven that they are of the same images in the same order and size."""
    tables: list[Table] = []
    for path in paths:
        table = read_table(path)
        tables.append(table)
        pairs = itertools.zip_longest(table.images, tables[0].images, fillvalue="missing")
        for column, (name, wanted) in enumerate(pairs, 1):
            if name != wanted:
                raise CompkitError(
                    f"{path}: column {column} is {name}, but {wanted} in {paths[0]}: all files "
                    "must be of the same images in the same order"
                )
        side, wanted_side = table.labels.shape[1], tables[0].labels.shape[1]
        if side != wanted_side:
            raise CompkitError(
                f"{path} has images of {side}×{side} pixels from {table.images[0]} on, but those "
                f"of {paths[0]} are of {wanted_side}×{wanted_side}: all files must be of one size"
            )
    return tables


def _combined(
    tables: Sequence[Table], weights: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the blended labels, (N, H, W), and the mean agreement, (M,) and (M, M)."""
    shape = tables[0].labels.shape
    labels = np.empty(shape, np.uint8)
    agreement, mutual = np.zeros(len(tables)), np.zeros((len(tables), len(tables)))
    stacks = zip(*(table.labels for table in tables), strict=True)
    jobs = ((np.stack(maps), weights, metric) for maps in stacks)
    cut = 0
    found = each_image(_blended, jobs, "blending", shape[0], labels.size * len(tables))
    for number, (regions, dropped, own, pairs) in enumerate(found):
        labels[number] = regions
        agreement += own / shape[0]
        mutual += pairs / shape[0]
        cut += dropped > 0
    if cut:
        say(f"{cut} images had more than {Rules.max_label} regions: their smallest became "
            "background")  # fmt: skip
    return labels, agreement, mutual


def _blended(
    maps: np.ndarray, weights: np.ndarray, metric: str
) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    found = find_consensus(maps, weights, metric)
    labels, dropped = found.labels, 0
    if labels.max() > Rules.max_label:
        labels, dropped = keep_largest(labels, Rules.max_label)
    return labels.astype(np.uint8), dropped, found.agreement, found.mutual
