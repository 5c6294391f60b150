"""From runs to an ensemble: members calibrated and weighed, its decoder tuned, all of it saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from compkit.display import print_table
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
from compkit.ensemble.temperature import temperature
from compkit.errors import CompkitError
from compkit.files import read_json, write_json
from compkit.folds import ALL
from compkit.metrics.bootstrap import interval
from compkit.metrics.rand import METRICS
from compkit.progress import say, task
from compkit.run import ROOT, claim_directory, open_run, refuse_name
from compkit.schema import checked

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
    weights that were searched for on other folds. Searched weights are kept only where they beat
    the plain mean beyond chance: where the 95 % interval of the paired difference lies above 0.

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
    temperatures = _temperatures(members, images)
    candidates = Candidates(members, temperatures, images)
    weights, kept, report = _weighed(candidates)
    mixture = Mixture(members, weights, temperatures)
    decoder = calibrate(mixture)
    write_json(
        directory / ENSEMBLE,
        {
            "weights": kept,
            "members": [
                {"run": m.run.name, "encoder": m.encoder, "weight": w, "temperature": t}
                for m, w, t in zip(
                    mixture.members, mixture.weights, mixture.temperatures, strict=True
                )
            ],
            "out_of_fold": report,
        },
    )
    decoder.save(directory / "decoder.json")
    _say_result(name, mixture, decoder)


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
    if lacking:
        say(f"{', '.join(lacking)} lack folds: weights come from {len(common)} of "
            f"{len(labelled)} images")  # fmt: skip
    if whole := [m.name for m in members if ALL in m.networks]:
        say(f"{', '.join(whole)} have networks on all images, which count in submissions only: "
            "they have no out-of-fold image to be weighed by")  # fmt: skip
    return common


def _temperatures(members: Sequence[Member], images: Sequence[str]) -> list[float]:
    """Return each member's temperature, or 1 for all if the plain mean gains nothing by them."""
    with task("calibrating members", len(members)) as progress:
        found = []
        for member in members:
            found.append(temperature(member))
            progress.advance()
    plain, neutral = [(1.0,) * len(members)], [1.0] * len(members)
    gain = (
        Candidates(members, found, images)(plain) - Candidates(members, neutral, images)(plain)
    )[0]
    helps = gain.mean() > gain.std() / len(gain) ** 0.5
    scale = ", ".join(f"{m.name} {t:.2f}" for m, t in zip(members, found, strict=True))
    say(f"temperatures ({scale}) change the plain mean by {_difference(gain)}: "
        f"{'taken' if helps else 'left out'}")  # fmt: skip
    return found if helps else neutral


def _weighed(candidates: Candidates) -> tuple[Weights, str, dict[str, dict[str, float]]]:
    """Return the weights to take, what they are called, and what each system scores out of fold."""
    count = len(candidates.members)
    alone: list[Weights] = [tuple(row) for row in np.eye(count)]
    equal, draws = normal((1.0,) * count), random_weights(count, _DRAWS)
    with task("decoding random weights", len(draws)) as progress:
        for start in range(0, len(draws), _CHUNK):
            chunk = draws[start : start + _CHUNK]
            candidates(chunk)
            progress.advance(len(chunk))
    searches: dict[str, Search] = {
        "best single member": partial(draw, alone),
        "greedy selection": partial(greedy, count=count),
        "random weights": partial(draw, draws),
    }
    scores = dict(zip([m.name for m in candidates.members], candidates(alone), strict=True))
    scores["plain mean"] = candidates([equal])[0]
    found = {"plain mean": equal}
    folds = len(np.unique(candidates.folds))
    with task("searching weights", len(searches) * (folds + 1)) as progress:
        for name, search in searches.items():
            scores[name], found[name] = nested(candidates, search, progress.advance)
    _show(scores, candidates, found)
    best = max(("greedy selection", "random weights"), key=lambda one: scores[one].mean())
    low, _ = interval(scores[best] - scores["plain mean"])
    kept = best if low > 0 else "plain mean"
    if kept == "plain mean":
        say("no searched weights beat the plain mean beyond chance: the plain mean is kept")
    else:
        weights = zip(candidates.members, found[kept], strict=True)
        say(f"{kept} is kept: {', '.join(f'{w:.2f} {m.name}' for m, w in weights if w > 0)}")
    report = {
        name: {"score": float(values.mean())}
        | ({"optimistic": float(candidates([found[name]]).mean())} if name in found else {})
        for name, values in scores.items()
    }
    return found[kept], kept, report


def _show(scores: dict[str, np.ndarray], candidates: Candidates, found: dict[str, Weights]) -> None:
    rows = []
    for name, values in scores.items():
        low, high = interval(values)
        optimistic = f"{candidates([found[name]]).mean():.4f}" if name in found else ""
        gains = [
            "" if name == other else _difference(values - scores[other])
            for other in ("best single member", "plain mean")
        ]
        rows.append([name, f"{values.mean():.4f}", f"{low:.4f} to {high:.4f}", optimistic, *gains])
    metric = candidates.members[0].run.ranking
    columns = ["", metric, "95 %", "optimistic", "over best member", "over plain mean"]
    title = (
        f"out of fold, {len(candidates.folds)} images, default decoding; what is chosen (best "
        "member, weights) is chosen on other folds, in `optimistic` on the same images"
    )
    print_table(title, columns, rows)


def _difference(values: np.ndarray) -> str:
    """Return the mean and half of its 95 % interval, as text."""
    low, high = interval(values)
    return f"{values.mean():+.4f} ± {(high - low) / 2:.4f}"


def _say_result(name: str, mixture: Mixture, decoder: Decoder) -> None:
    low, high = decoder.interval
    measured = ", ".join(f"{metric} {decoder.scores[metric]:.4f}" for metric in METRICS)
    say(f"{name}: {len(mixture.members)} members, decoder {'' if decoder.tuned else 'not '}tuned; "
        f"out of fold {measured} (95 % of {decoder.ranking}: {low:.4f} to {high:.4f})")  # fmt: skip
    say(f"next: compkit submit --run {name} --out submissions/{name}.csv")


@dataclass(frozen=True)
class _Weighed:
    """A member as ``ensemble.json`` lists it."""

    run: str
    encoder: str
    weight: float
    temperature: float


@dataclass(frozen=True)
class _Ensemble:
    """What ``ensemble.json`` must hold."""

    members: tuple[_Weighed, ...]


def read_ensemble(name: str, data: str | None = None) -> Mixture:
    """Open the ensemble that `build` saved.

    Raises
    ------
    CompkitError
        If it is damaged, its weights do not add up to 1, or a member is not there any more.
    """
    path, remedy = ROOT / name / ENSEMBLE, "correct it, or run compkit ensemble again"
    listed = checked(_Ensemble, read_json(path), str(path), remedy).members
    total = sum(one.weight for one in listed)
    if abs(total - 1) > 1e-3 or min(one.weight for one in listed) < 0:
        raise CompkitError(
            f"{path}: the weights add up to {total:g}, but they must be positive and of sum 1: "
            f"{remedy}"
        )
    if len({(one.run, one.encoder) for one in listed}) < len(listed):
        raise CompkitError(f"{path} names a member twice: {remedy}")
    if min(one.temperature for one in listed) <= 0:
        raise CompkitError(f"{path} has a temperature that is not above 0: {remedy}")
    opened = {one.run: open_run(one.run, data) for one in listed}
    members = [
        member
        for one in listed
        for member in members_of([opened[one.run]], one.encoder, partial=True)
    ]
    prove_alike(members)
    return Mixture(members, [one.weight for one in listed], [one.temperature for one in listed])
