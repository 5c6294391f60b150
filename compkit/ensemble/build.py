"""Ensembles of runs: what each member brings to the mean; saved with its decoder, and opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compkit.display import print_scores
from compkit.ensemble.decoder import Decoder, default_scores, tune_decoder, tuned_decoder
from compkit.ensemble.mixture import Member, Mixture, members_of, prove_alike
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import ALL
from compkit.folds.table import doubts_about
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval, mean
from compkit.progress import say
from compkit.root import claim, refuse_name, runs_option, runs_root
from compkit.run import known_run, open_run
from compkit.schema import read_record, write_record

#: Where an ensemble says what it is of, in its directory under `runs_root`.
ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Listed:
    """A member as ``ensemble.json`` lists it."""

    run: str
    encoder: str


@dataclass(frozen=True)
class _Ensemble:
    """What ``ensemble.json`` must hold."""

    mean_of: tuple[Listed, ...]


def build(
    name: str,
    runs: Sequence[str],
    encoder: str | None = None,
    partial_members: bool = False,
    data: str | None = None,
    overwrite: bool = False,
) -> None:
    """Average the members of some runs, say what each brings, and save the ensemble.

    Members weigh the same: weights that are searched on out-of-fold images are fitted to them
    (docs/results.md). Of several members, prints the score of each, of the mean, and what the mean
    loses without it.

    Writes ``runs/<name>/ensemble.json`` and ``decoder.json``; over an ensemble of other members
    only with `overwrite`.

    Raises
    ------
    CompkitError
        If runs are unfinished or do not fit together, or the name is taken.
    """
    directory = claim(name, ENSEMBLE)
    members = members_of([open_run(run, data) for run in runs], encoder, partial_members)
    listed = tuple(Listed(m.run.name, m.encoder) for m in members)
    if not overwrite and (directory / ENSEMBLE).is_file():
        _refuse_others(directory, listed)
    mixture = Mixture(members)
    if whole := [m.name for m in members if ALL in m.networks]:
        say(f"{', '.join(whole)} have networks on all images, which count in submissions only: "
            "they have no out-of-fold image to be scored by")  # fmt: skip
    if len(members) > 1:
        _show(mixture)
    decoder = tune_decoder(mixture)
    saved = asdict(_Ensemble(listed)) | {"out_of_fold": decoder.scores}
    with locked(directory, "saving an ensemble there", wait=True):
        # An older ensemble of that name must not be left with the new one's decoder by a kill.
        (directory / ENSEMBLE).unlink(missing_ok=True)
        decoder.save(directory / "decoder.json")
        write_record(directory / ENSEMBLE, saved)  # last: it says that there is an ensemble
    _say_result(name, mixture, decoder)


def _refuse_others(directory: Path, listed: Sequence[Listed]) -> None:
    """Refuse to replace an ensemble of other members."""
    there = listed_in(directory)
    if set(there) != set(listed):
        names = ", ".join(f"{one.run}/{one.encoder}" for one in there)
        raise CompkitError(
            f"{directory} is an ensemble of other members ({names}): take another --name, or give "
            "--overwrite to replace it"
        )


def _show(mixture: Mixture) -> None:
    """Print what members score, and what their mean gains by each, where all have maps."""
    members, run = mixture.members, mixture.members[0].run
    images = [i for i in mixture.images if all(i in member.out_of_fold for member in members)]
    lacking = ", ".join(m.name for m in members if len(m.out_of_fold) < len(mixture.images))
    if lacking:
        say(f"{lacking} lack folds: members are compared on {len(images)} of "
            f"{len(mixture.images)} images")  # fmt: skip
    if not images:
        return
    groups = run.folds.group[[mixture.store.train.index(image) for image in images]]

    def row(name: str, scores: np.ndarray) -> list[str]:
        return [name, f"{mean(scores):.4f}", shown(interval(scores, groups))]

    whole = default_scores(mixture, images)
    rows = []
    for number, member in enumerate(members):
        alone = default_scores(Mixture([member]), images)
        others = [*members[:number], *members[number + 1 :]]
        gain = whole - (default_scores(Mixture(others), images) if len(others) > 1 else alone)
        added = f"{mean(gain):+.4f} ({shown(interval(gain, groups), '+.4f')})"
        rows.append([*row(member.name, alone), added])
    print_scores(
        f"out of fold, {len(images)} images, default decoding; 95 %: "
        f"{resampling(len(images), groups)}",
        ["member", run.ranking, "95 %", "what it adds to the mean of the others"],
        [*rows, [*row("mean", whole), ""]],
        (run.ranking,),
        doubts_about(member.run.folds for member in members),
    )


def _say_result(name: str, mixture: Mixture, decoder: Decoder) -> None:
    doubts = doubts_about(m.run.folds for m in mixture.members)
    mark = "*" * bool(doubts)
    told = mixture.members[0].run.told
    measured = ", ".join(f"{metric} {decoder.scores[metric]:.4f}{mark}" for metric in told)
    say(f"{name}: {len(mixture.members)} members; out of fold {measured} (95 % of "
        f"{decoder.ranking}: {shown(decoder.interval)}, "
        f"{resampling(decoder.images, decoder.image_groups)})")  # fmt: skip
    say(f"decoding {decoder.verdict}")
    for doubt in doubts:
        say(f"* {doubt}")
    out = f"submissions/{name}{mixture.store.competition.submission.suffix}"
    say(f"next: compkit submit --run {name}{runs_option()} --out {out}")


def listed_in(directory: Path) -> tuple[Listed, ...]:
    """Return what an ensemble's ``ensemble.json`` lists."""
    remedy = "run compkit ensemble again, with --overwrite"
    listed = read_record(_Ensemble, directory / ENSEMBLE, remedy).mean_of
    if not listed or len(set(listed)) < len(listed):
        fault = "it lists a member twice" if listed else "it lists no member"
        raise CompkitError(f"{directory / ENSEMBLE} is damaged ({fault}): {remedy}")
    for one in listed:
        refuse_name(one.run)
    return listed


def data_of(name: str) -> str:
    """Return the locator of the data that a run was made on, or the first of an ensemble."""
    directory = runs_root() / name
    first = listed_in(directory)[0].run if (directory / ENSEMBLE).is_file() else name
    made, _ = known_run(first)
    return made.data


def open_mixture(
    names: Sequence[str], data: str | None = None, encoder: str | None = None
) -> tuple[Mixture, Decoder]:
    """Return what one ensemble or some runs predict, and its decoder: its own, or one made for it.

    Parameters
    ----------
    names : sequence of str
        One ensemble of `compkit ensemble`; or runs on the same data.
    data : str, optional
        Where the data lie now, if not where the runs were trained.
    encoder : str, optional
        Take the members of this encoder alone.

    Raises
    ------
    CompkitError
        If one is absent, damaged or unfinished, or members do not fit together.
    """
    directory = runs_root() / names[0]
    if len(names) == 1 and (directory / ENSEMBLE).is_file():
        if encoder is not None:
            raise CompkitError(f"{names[0]} is an ensemble of chosen members: leave out --encoder")
        listed = listed_in(directory)
        runs = {one.run: open_run(one.run, data) for one in listed}
        members: list[Member] = []
        for one in listed:
            members += members_of([runs[one.run]], one.encoder, partial=True)
        prove_alike(members)
        mixture = Mixture(members)
    else:
        mixture = Mixture(members_of([open_run(name, data) for name in names], encoder))
        if len(names) > 1:
            return mixture, tune_decoder(mixture)
    part = directory
    if encoder is not None and len(mixture.members[0].run.config.encoders) > 1:
        part = directory / encoder
    return mixture, tuned_decoder(mixture, part / "decoder.json", must_exist=part == directory)
