"""From runs to an ensemble: members calibrated and weighed, its decoder tuned, all of it saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from compkit.display import print_scores
from compkit.ensemble.calibrate import calibrate
from compkit.ensemble.decoder import Decoder
from compkit.ensemble.members import Member, members_of, prove_alike
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.selection import (
    Candidates,
    Search,
    Weights,
    draw,
    greedy,
    nested,
    normal,
    random_weights,
)
from compkit.ensemble.temperature import TEMPERATURES, losses, temperature
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import ALL
from compkit.folds.table import doubts_about
from compkit.intervals import half, resampling, shown
from compkit.metrics.bootstrap import interval, standard_error
from compkit.metrics.rand import METRICS
from compkit.progress import say, task
from compkit.run import ROOT, claim_directory, open_run, refuse_name
from compkit.schema import read_record, write_record

#: Where an ensemble says what it is of, in its directory under `ROOT`.
ENSEMBLE = "ensemble.json"

#: Weights that the plain search tries, and how many are decoded between two signs of progress.
_DRAWS, _CHUNK = 100, 20


def build(
    name: str,
    runs: Sequence[str],
    encoder: str | None = None,
    partial_members: bool = False,
    data: str | None = None,
) -> None:
    """Weigh the members of some runs on out-of-fold images and save the ensemble.

    Prints every member's score, the plain mean's, and those of two searches for weights, each with
    temperatures and weights that come from other folds. Searched weights are kept only where they
    beat the plain mean beyond chance: where the 95 % interval of the paired difference, resampling
    groups, lies above 0.

    Writes ``runs/<name>/ensemble.json`` and ``decoder.json``.

    Raises
    ------
    CompkitError
        If runs are unfinished, do not fit together, or share no out-of-fold image.
    """
    refuse_name(name)
    directory = ROOT / name
    claim_directory(directory, ENSEMBLE)
    members = members_of([open_run(run, data) for run in runs], encoder, partial_members)
    images = _common_images(members)
    candidates, by_fold = calibrated(members, images)
    weights, kept, report = _weighed(candidates, by_fold)
    mixture = Mixture(members, weights, candidates.temperatures)
    decoder = calibrate(mixture)
    saved = {
        "weights": kept,
        "members": [
            {"run": m.run.name, "encoder": m.encoder, "weight": w, "temperature": t}
            for m, w, t in zip(mixture.members, mixture.weights, mixture.temperatures, strict=True)
        ],
        "out_of_fold": report,
    }
    with locked(directory, "saving an ensemble there", wait=True):
        decoder.save(directory / "decoder.json")
        write_record(directory / ENSEMBLE, saved)  # last: it says that there is an ensemble
    _say_result(name, mixture, decoder, kept != "plain mean" or set(mixture.temperatures) != {1.0})


def _common_images(members: Sequence[Member]) -> list[str]:
    """Return the labelled images of which every member has out-of-fold maps; say what is lost."""
    store = members[0].run.store
    labelled = [store.train[int(i)] for i in store.labelled]
    common = [image for image in labelled if all(image in m.out_of_fold for m in members)]
    lacking = [m.name for m in members if len(m.out_of_fold) < len(labelled)]
    if not common:
        raise CompkitError(
            f"no image is out of fold in every member ({', '.join(lacking)} lack folds): "
            "train their missing folds, or leave them out"
        )
    folds = members[0].run.folds.fold[[store.train.index(image) for image in common]]
    if len(np.unique(folds)) < 2:
        raise CompkitError(
            f"the images that are out of fold in every member ({', '.join(lacking)} lack folds) "
            "are all of one fold, and none is left to choose weights by: train missing folds"
        )
    if lacking:
        say(f"{', '.join(lacking)} lack folds: weights come from {len(common)} of "
            f"{len(labelled)} images")  # fmt: skip
    if whole := [m.name for m in members if ALL in m.networks]:
        say(f"{', '.join(whole)} have networks on all images, which count in submissions only: "
            "they have no out-of-fold image to be weighed by")  # fmt: skip
    return common


def calibrated(
    members: Sequence[Member], images: Sequence[str]
) -> tuple[Candidates, dict[int, Candidates]]:
    """Choose a temperature for every member, or 1 for all if the plain mean gains nothing by them.

    Parameters
    ----------
    images : sequence of str
        Labelled images, of two folds at least, of which every member has out-of-fold maps.

    Returns
    -------
    candidates : Candidates
        Under the temperatures that all images choose.
    by_fold : dict of int to Candidates
        For each fold, under those that the images of the other folds choose.
    """
    neutral, found = Candidates(members, [1.0] * len(members), images), []
    with task("calibrating members", len(members)) as progress:
        for member in members:
            found.append(losses(member, images))
            progress.advance()
    folds = neutral.folds
    by_fold = {fold: _at_best(neutral, found, folds != fold) for fold in np.unique(folds).tolist()}
    whole = _at_best(neutral, found, folds >= 0)
    scale = ", ".join(f"{m.name} {t:.2f}" for m, t in zip(members, whole.temperatures, strict=True))
    alike = sum(one.temperatures == whole.temperatures for one in by_fold.values())
    say(f"temperatures: {scale}; {alike} of {len(by_fold)} folds get the same from the others")
    return whole, by_fold


def _at_best(neutral: Candidates, found: Sequence[np.ndarray], chosen: np.ndarray) -> Candidates:
    """Return candidates under the best temperatures for some images, if those gain by them."""
    tempered = neutral.at([temperature(rows[chosen]) for rows in found])
    plain = [(1.0,) * len(found)]
    gain = (tempered(plain) - neutral(plain))[0, chosen]
    return tempered if gain.mean() > standard_error(gain, neutral.groups[chosen]) else neutral


def _weighed(
    candidates: Candidates, by_fold: Mapping[int, Candidates]
) -> tuple[Weights, str, dict[str, dict[str, float]]]:
    """Return the weights to take, what they are called, and what each system scores out of fold."""
    count = len(candidates.members)
    alone: list[Weights] = [tuple(row) for row in np.eye(count)]
    draws = random_weights(count, _DRAWS)
    _decode(draws, [candidates, *by_fold.values()])
    searches: dict[str, Search] = {
        **{m.name: partial(draw, [one]) for m, one in zip(candidates.members, alone, strict=True)},
        "plain mean": partial(draw, [normal((1.0,) * count)]),
        "best single member": partial(draw, alone),
        "greedy selection": partial(greedy, count=count),
        "random weights": partial(draw, draws),
    }
    scores, found = dict[str, np.ndarray](), dict[str, Weights]()
    with task("searching weights", len(searches) * (len(by_fold) + 1)) as progress:
        for name, search in searches.items():
            scores[name], found[name] = nested(candidates, search, progress.advance, by_fold)
    _show(scores, candidates, found)
    best = max(("greedy selection", "random weights"), key=lambda one: scores[one].mean())
    low, _ = interval(scores[best] - scores["plain mean"], candidates.groups)
    kept = best if low > 0 else "plain mean"
    if kept == "plain mean":
        say("no searched weights beat the plain mean beyond chance: the plain mean is kept")
    else:
        weights = zip(candidates.members, found[kept], strict=True)
        say(f"{kept} is kept: {', '.join(f'{w:.2f} {m.name}' for m, w in weights if w > 0)}")
    report = {
        name: {
            "score": float(values.mean()),
            "optimistic": float(candidates([found[name]]).mean()),
        }
        for name, values in scores.items()
    }
    return found[kept], kept, report


def _decode(draws: Sequence[Weights], systems: Iterable[Candidates]) -> None:
    """Decode random weights once for all that is searched, under each choice of temperatures."""
    distinct = list({one.temperatures: one for one in systems}.values())
    with task("decoding random weights", len(draws) * len(distinct)) as progress:
        for one in distinct:
            for start in range(0, len(draws), _CHUNK):
                chunk = draws[start : start + _CHUNK]
                one(chunk)
                progress.advance(len(chunk))


def _show(scores: dict[str, np.ndarray], candidates: Candidates, found: dict[str, Weights]) -> None:
    rows, groups = [], candidates.groups
    for name, values in scores.items():
        optimistic = f"{candidates([found[name]]).mean():.4f}"
        gains = [
            "" if name == other else _difference(values - scores[other], groups)
            for other in ("best single member", "plain mean")
        ]
        ends = shown(interval(values, groups))
        rows.append([name, f"{values.mean():.4f}", ends, optimistic, *gains])
    metric = candidates.members[0].run.ranking
    columns = ["", metric, "95 %", "optimistic", "over best member", "over plain mean"]
    images = len(candidates.folds)
    title = (
        f"out of fold, {images} images, default decoding; what is chosen (best member, "
        "temperatures, weights) is chosen on other folds, in `optimistic` on the same images; "
        f"95 %: {resampling(images, groups)}"
    )
    doubts = doubts_about(m.run.folds for m in candidates.members)
    print_scores(title, columns, rows, (metric, "optimistic"), doubts)


def _difference(values: np.ndarray, groups: np.ndarray) -> str:
    """Return the mean and half of its 95 % interval, as text."""
    return f"{values.mean():+.4f} ± {half(interval(values, groups))}"


def _say_result(name: str, mixture: Mixture, decoder: Decoder, chosen: bool) -> None:
    doubts = doubts_about(m.run.folds for m in mixture.members)
    mark = "*" * bool(doubts)
    measured = ", ".join(f"{metric} {decoder.scores[metric]:.4f}{mark}" for metric in METRICS)
    if chosen:
        measured += ", optimistic by what was chosen on the same images"
    say(f"{name}: {len(mixture.members)} members, decoder {'' if decoder.tuned else 'not '}tuned; "
        f"out of fold {measured} (95 % of {decoder.ranking}: {shown(decoder.interval)}, "
        f"{resampling(decoder.images, decoder.image_groups)})")  # fmt: skip
    for doubt in doubts:
        say(f"* {doubt}")
    say(f"next: compkit submit --run {name} --out submissions/{name}.csv")


@dataclass(frozen=True)
class _Weighed:
    """A member as ``ensemble.json`` lists it."""

    run: str
    encoder: str
    weight: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(ge=min(TEMPERATURES), le=max(TEMPERATURES))]


@dataclass(frozen=True)
class _Ensemble:
    """What ``ensemble.json`` must hold."""

    members: tuple[_Weighed, ...]


def read_ensemble(name: str, data: str | None = None) -> Mixture:
    """Open the ensemble that `build` saved.

    Raises
    ------
    CompkitError
        If it is damaged, or a member is not there any more.
    """
    path = ROOT / name / ENSEMBLE
    listed = read_record(_Ensemble, path, "run compkit ensemble again").members
    opened = {one.run: open_run(one.run, data) for one in listed}
    members = [
        member
        for one in listed
        for member in members_of([opened[one.run]], one.encoder, partial=True)
    ]
    prove_alike(members)
    return Mixture(members, [one.weight for one in listed], [one.temperature for one in listed])
