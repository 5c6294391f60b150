"""Finished submissions combined into the one on which they agree best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compkit.blend.consensus import find_consensus
from compkit.blend.skill import FOLDS, Skill, weigh
from compkit.competition.base import Rules, Table
from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.errors import CompkitError, nearest
from compkit.files import digest_of
from compkit.intervals import known, low_high, resampling, shown
from compkit.metrics.bootstrap import interval
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
    oof: Sequence[Path] | None = None,
    truth: Path | None = None,
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
        A positive number an input. Equal ones if neither these nor `oof` are given.
    oof, truth : sequence of Path and Path, optional
        Out-of-fold label maps of each input, in the inputs' order, and the true ones: weights are
        then chosen by them, see `compkit.blend.skill`.
    overwrite : bool
        Replace whatever file is at `out`, and where its manifest belongs.

    Raises
    ------
    CompkitError
        If the arguments contradict each other, a file is not what it should be, or `out` is not
        ours to write to.
    """
    _require_sense(inputs, metric, weights)
    _require_pairs(inputs, weights, oof, truth)
    sources = [*inputs, *(oof or ()), *([truth] if truth else ())]
    claim(out, overwrite, sources)
    tables = _read_alike(inputs)
    skill = None
    shares = np.array(weights or [1.0] * len(inputs))
    if oof and truth:
        skill = _skill(oof, truth, metric)
        _show_skill(skill, inputs, metric)
        shares = skill.weights
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
        "out_of_fold": _summary(skill) if skill else None,
    }
    made_of = "+".join(path.stem for path in inputs)
    scores = _scores(skill, metric) if skill else {}
    images = tables[0].images
    publish(
        out, images, labels, Rules.max_label, made_of, len(inputs), scores, about,
        overwrite=overwrite, inputs=sources,
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


def _require_pairs(
    inputs: Sequence[Path],
    weights: Sequence[float] | None,
    oof: Sequence[Path] | None,
    truth: Path | None,
) -> None:
    if weights and oof:
        raise CompkitError("--weights and --oof both set the weights: give one of them")
    if bool(oof) != bool(truth):
        given, missing = ("--oof", "--truth") if oof else ("--truth", "--oof")
        raise CompkitError(f"{given} says nothing without {missing}: give both")
    if oof and len(oof) != len(inputs):
        raise CompkitError(
            f"--oof names {len(oof)} files for {len(inputs)} inputs, but each needs its own, in "
            "the inputs' order"
        )


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


def _skill(oof: Sequence[Path], truth: Path, metric: str) -> Skill:
    """Choose weights by the images of `oof` that are labelled in `truth`."""
    tables, true = _read_alike(oof), read_table(truth)
    if true.labels.shape[1] != tables[0].labels.shape[1]:
        raise CompkitError(
            f"{oof[0]} has images of {tables[0].labels.shape[1]} pixels a side, but those of "
            f"{truth} have {true.labels.shape[1]}: out-of-fold maps must be at the images' size"
        )
    places = {name: place for place, name in enumerate(true.images)}
    for name in tables[0].images:
        if name not in places:
            raise CompkitError(f"{oof[0]} has a column {name}, of which {truth} has no labels")
    chosen = [
        (own, places[name])
        for own, name in enumerate(tables[0].images)
        if true.labels[places[name]].any()
    ]
    if len(chosen) < FOLDS:
        raise CompkitError(
            f"{oof[0]} holds {len(chosen)} images that are labelled in {truth}, but weights need "
            f"at least {FOLDS}: leave out --oof and --truth"
        )
    truths = [true.labels[place] for _, place in chosen]
    return weigh(truths, [[table.labels[own] for own, _ in chosen] for table in tables], metric)


def _show_skill(skill: Skill, inputs: Sequence[Path], metric: str) -> None:
    kept = skill.temperature is None
    named = [
        *((str(path), scores) for path, scores in zip(inputs, skill.inputs.T, strict=True)),
        ("blend, equal weights", skill.uniform),
        ("blend, weights by skill (cross-validated)", skill.weighted),
    ]
    rows = [[name, f"{scores.mean():.4f}", shown(interval(scores))] for name, scores in named]
    images = len(skill.uniform)
    title = f"out of fold: mean {metric} over {images} images; 95 %: {resampling(images, None)}"
    print_table(title, ["input", "score", "95 %"], rows)
    if kept:
        say("equal weights are kept: no others gain more than the standard error")
    else:
        say(f"weights by skill are taken: exp(score / {skill.temperature:g})")


def _summary(skill: Skill) -> dict[str, Any]:
    return {
        "images": len(skill.uniform),
        "temperature": skill.temperature,
        "inputs": skill.inputs.mean(axis=0).tolist(),
        "equal_weights": float(skill.uniform.mean()),
        "weights_by_skill": float(skill.weighted.mean()),
    }


def _scores(skill: Skill, metric: str) -> dict[str, float]:
    """Return what the blend scores out of fold, under the weights that are taken."""
    taken = skill.uniform if skill.temperature is None else skill.weighted
    return {metric: float(taken.mean())} | low_high(known(interval(taken)))


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
