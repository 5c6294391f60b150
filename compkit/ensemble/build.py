"""From runs to an ensemble: what each member brings to their mean, its decoder tuned, all saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compkit.display import print_scores
from compkit.ensemble.decoder import Decoder
from compkit.ensemble.members import Member, members_of, prove_alike
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.tuned import default_scores, tune_decoder
from compkit.files import locked
from compkit.folds import ALL
from compkit.folds.table import doubts_about
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval, mean
from compkit.progress import say
from compkit.root import claim, runs_option, runs_root
from compkit.run import open_run
from compkit.schema import read_record, write_record

#: Where an ensemble says what it is of, in its directory under `runs_root`.
ENSEMBLE = "ensemble.json"


def build(
    name: str,
    runs: Sequence[str],
    encoder: str | None = None,
    partial_members: bool = False,
    data: str | None = None,
) -> None:
    """Average the members of some runs, say what each brings, and save the ensemble.

    Members weigh the same: weights that are searched on out-of-fold images are fitted to them
    (docs/results.md). Of several members, prints the score of each, of the mean, and what the mean
    loses without it.

    Writes ``runs/<name>/ensemble.json`` and ``decoder.json``.

    Raises
    ------
    CompkitError
        If runs are unfinished or do not fit together.
    """
    directory = claim(name, ENSEMBLE)
    members = members_of([open_run(run, data) for run in runs], encoder, partial_members)
    mixture = Mixture(members)
    if whole := [m.name for m in members if ALL in m.networks]:
        say(f"{', '.join(whole)} have networks on all images, which count in submissions only: "
            "they have no out-of-fold image to be scored by")  # fmt: skip
    if len(members) > 1:
        _show(mixture)
    decoder = tune_decoder(mixture)
    saved = {
        "mean_of": [{"run": m.run.name, "encoder": m.encoder} for m in members],
        "out_of_fold": decoder.scores,
    }
    with locked(directory, "saving an ensemble there", wait=True):
        # An older ensemble of that name must not be left with the new one's decoder by a kill.
        (directory / ENSEMBLE).unlink(missing_ok=True)
        decoder.save(directory / "decoder.json")
        write_record(directory / ENSEMBLE, saved)  # last: it says that there is an ensemble
    _say_result(name, mixture, decoder)


def _show(mixture: Mixture) -> None:
    """Print what members score, and what their mean gains by each, where all have maps."""
    members = mixture.members
    images = [i for i in mixture.images if all(i in member.out_of_fold for member in members)]
    lacking = ", ".join(m.name for m in members if len(m.out_of_fold) < len(mixture.images))
    if lacking:
        say(f"{lacking} lack folds: members are compared on {len(images)} of "
            f"{len(mixture.images)} images")  # fmt: skip
    if not images:
        return
    run, store = members[0].run, mixture.store
    groups = run.folds.group[[store.train.index(image) for image in images]]
    whole = default_scores(mixture, images)
    rows = []
    for number, member in enumerate(members):
        alone = default_scores(Mixture([member]), images)
        others = [*members[:number], *members[number + 1 :]]
        gain = whole - (default_scores(Mixture(others), images) if len(others) > 1 else alone)
        rows.append(_row(member.name, alone, groups))
        rows[-1].append(f"{mean(gain):+.4f} ({shown(interval(gain, groups), '+.4f')})")
    rows.append([*_row("mean", whole, groups), ""])
    print_scores(
        f"out of fold, {len(images)} images, default decoding; 95 %: "
        f"{resampling(len(images), groups)}",
        ["member", run.ranking, "95 %", "what it adds to the mean of the others"],
        rows,
        (run.ranking,),
        doubts_about(member.run.folds for member in members),
    )


def _row(name: str, scores: np.ndarray, groups: np.ndarray) -> list[str]:
    return [name, f"{mean(scores):.4f}", shown(interval(scores, groups))]


def _say_result(name: str, mixture: Mixture, decoder: Decoder) -> None:
    doubts = doubts_about(m.run.folds for m in mixture.members)
    mark = "*" * bool(doubts)
    measured = ", ".join(f"{metric} {score:.4f}{mark}" for metric, score in decoder.scores.items())
    say(f"{name}: {len(mixture.members)} members, decoder {'' if decoder.tuned else 'not '}tuned; "
        f"out of fold {measured} (95 % of {decoder.ranking}: {shown(decoder.interval)}, "
        f"{resampling(decoder.images, decoder.image_groups)})")  # fmt: skip
    for doubt in doubts:
        say(f"* {doubt}")
    say(f"next: compkit submit --run {name}{runs_option()} --out submissions/{name}.csv")


@dataclass(frozen=True)
class Listed:
    """A member as ``ensemble.json`` lists it."""

    run: str
    encoder: str


@dataclass(frozen=True)
class _Ensemble:
    """What ``ensemble.json`` must hold."""

    mean_of: tuple[Listed, ...]


def listed_in(directory: Path) -> tuple[Listed, ...]:
    """Return what an ensemble's ``ensemble.json`` lists."""
    return read_record(_Ensemble, directory / ENSEMBLE, "run compkit ensemble again").mean_of


def read_ensemble(name: str, data: str | None = None) -> Mixture:
    """Open the ensemble that `build` saved.

    Raises
    ------
    CompkitError
        If it is damaged, or a member is not there any more.
    """
    listed = listed_in(runs_root() / name)
    opened = {one.run: open_run(one.run, data) for one in listed}
    members: list[Member] = []
    for one in listed:
        members += members_of([opened[one.run]], one.encoder, partial=True)
    prove_alike(members)
    return Mixture(members)
