"""Finished submissions combined into the one on which they agree best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compkit.blend.consensus import find_consensus
from compkit.competition import competition_of
from compkit.competition.base import HIGHEST
from compkit.display import print_table
from compkit.errors import CompkitError
from compkit.files import digest_of
from compkit.labels.run_lengths import Shapes
from compkit.metrics.named import beside
from compkit.metrics.rand import METRICS
from compkit.parallel import each_image
from compkit.progress import say
from compkit.submission.check import test_shapes
from compkit.submission.forms import Form, PixelTable, form_at
from compkit.submission.publish import at_most, claim, limit_of, publish


def blend(
    inputs: Sequence[Path],
    out: Path,
    metric: str = METRICS[0],
    weights: Sequence[float] | None = None,
    data: str | None = None,
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
    data : str, optional
        The competition's data, which tell the highest id that a submission may hold. Without them
        the inputs' manifests do, or, where there are none, the type of integers of the inputs.
    overwrite : bool
        Replace whatever file is at `out`, and where its manifest belongs.

    Raises
    ------
    CompkitError
        If the arguments contradict each other, a file is not what it should be, or `out` is not
        ours to write to.
    """
    _require_sense(inputs, metric, weights)
    claim(out, form := form_at(data), overwrite, inputs)
    shapes, limit = _asked(data, form)
    tables = _read_alike(inputs, form, shapes)
    shares = np.array(weights or [1.0] * len(inputs))
    shares = shares / math.fsum(shares)  # exact: the order of the inputs must not matter
    limit = limit or _limit(inputs, tables)
    labels, agreement, mutual = _combined(tables, shares, metric, limit)
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
    sizes = {name: each.shape for name, each in tables[0].items()}
    publish(
        out, form, sizes, labels, limit, made_of, None, about, overwrite=overwrite, inputs=inputs
    )
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
    for number, path in enumerate(inputs):
        if path.resolve() in {other.resolve() for other in inputs[:number]}:
            raise CompkitError(
                f"{path} is given twice: give it once, with a weight if it counts more"
            )
    if beside(metric) != METRICS:
        raise CompkitError(
            f"no blend can be found by {metric}, only by a Rand index: take one of "
            f"{', '.join(METRICS)}"
        )
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


def _asked(data: str | None, form: Form) -> tuple[Shapes, int | None]:
    """Return what a competition's data tell: the sizes of its test, the highest id."""
    if data is None:
        return {}, None
    competition = competition_of(data)
    # A table of pixels tells its own sizes.
    shapes = {} if isinstance(form, PixelTable) else test_shapes(competition, data)
    return shapes, competition.rules.max_label


def _read_alike(paths: Sequence[Path], form: Form, shapes: Shapes) -> list[dict[str, np.ndarray]]:
    """Read submissions, proven to be of the same images in the same order and sizes."""
    tables = [form.read(path, shapes, HIGHEST) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        pairs = itertools.zip_longest(table, tables[0], fillvalue="missing")
        for number, (name, wanted) in enumerate(pairs, 1):
            if name != wanted:
                raise CompkitError(
                    f"{path}: {form.unit} {number} is {name}, but {wanted} in {paths[0]}: all "
                    "files must be of the same images in the same order"
                )
        for name, labels in table.items():
            if labels.shape != (shape := tables[0][name].shape):
                sizes = [f"{width}×{height}" for height, width in (labels.shape, shape)]
                raise CompkitError(
                    f"{path} has images of {sizes[0]} pixels from {name} on, but those of "
                    f"{paths[0]} are of {sizes[1]}: all files must be of one size"
                )
    return tables


def _limit(inputs: Sequence[Path], tables: Sequence[dict[str, np.ndarray]]) -> int:
    """Return the highest id that a blend may hold, as far as the inputs tell."""
    limits = {limit: path for path in inputs if (limit := limit_of(path)) is not None}
    if len(limits) > 1:
        told = " and ".join(f"{limit} ({path})" for limit, path in limits.items())
        raise CompkitError(
            f"the inputs' manifests tell of different highest ids, {told}: give --data, the "
            "competition's"
        )
    types = {labels.dtype for table in tables for labels in table.values()}
    return next(iter(limits), int(np.iinfo(np.result_type(*types)).max))


def _combined(
    tables: Sequence[dict[str, np.ndarray]], weights: np.ndarray, metric: str, limit: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the blended labels, (H, W) each, and the mean agreement, (M,) and (M, M)."""
    stacks = zip(*(table.values() for table in tables), strict=True)
    jobs = ((np.stack(maps), weights, metric) for maps in stacks)
    pixels = sum(labels.size for table in tables for labels in table.values())
    agreement, mutual = list[np.ndarray](), list[np.ndarray]()

    def blended() -> Iterator[np.ndarray]:
        for found in each_image(find_consensus, jobs, "blending", len(tables[0]), pixels):
            agreement.append(found.agreement)
            mutual.append(found.mutual)
            yield found.labels

    return at_most(limit, blended()), np.mean(agreement, axis=0), np.mean(mutual, axis=0)
