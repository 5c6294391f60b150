"""What ``compkit tune`` does: trials, the best of them with another seed, best.yaml, a page."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from compkit.cluster import is_on_ray, room, spans_machines
from compkit.config import RunConfig
from compkit.config.files import save, to_plain
from compkit.data.store import Store, open_store
from compkit.display import print_line
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import read_folds
from compkit.progress import say
from compkit.root import claim
from compkit.tasks import each, spread
from compkit.tuning.findings import confirmed, print_findings
from compkit.tuning.page import write_page
from compkit.tuning.search import begin, progress_of, search, share
from compkit.tuning.space import Space, configured
from compkit.tuning.storage import open_study, public_address
from compkit.tuning.trial import BY_EPOCH, Objective, Runs, is_base, make_pruner, ranked

#: Settings that say how long a trial is trained.
_LENGTHS = ("training.steps", "training.steps_per_epoch", "folds.k")

#: What the base configuration is called when it is trained with another seed.
_BASE = "the base configuration again"


def tune(
    data: str,
    name: str,
    space: Space,
    *,
    trials: int,
    storage: str | None = None,
    sampler: str = "tpe",
    pruner: str = "wilcoxon",
    retrain: int = 3,
    hold_out: int | None = None,
) -> None:
    """Search settings until the study has its trials; then say what was found.

    Writes ``runs/<name>/``: ``study.db`` (unless `storage` is elsewhere), the trials' runs,
    ``best.yaml``, which compkit train takes, and ``study.html``.

    Parameters
    ----------
    trials : int
        Of all workers together, those of earlier calls included. The first is the configuration
        that the others are laid over: without it, nobody knows what the search was worth.
    retrain : int
        How many of the best are trained again with another seed; the best of those is taken, and
        its score is no maximum of many.
    hold_out : int, optional
        A fold that trials neither validate on nor tune a decoder on, although their networks learn
        from its images. At the end, the best and the base configuration are scored on it.

    Raises
    ------
    CompkitError
        For any bad input, or if every trial fails.
    """
    base, directory = space.base, claim(name, "study.db")
    store = open_store(data)
    folds = _taking_part(base, store, hold_out)
    varied = [one for one in _LENGTHS if one in space.ranges]
    if pruner in BY_EPOCH and varied:
        raise CompkitError(
            f"--pruner {pruner} compares trials at the same epoch, but {varied[0]} varies: fix it "
            "(--narrow), or take --pruner wilcoxon"
        )
    url = storage or f"sqlite:///{directory / 'study.db'}"
    workers = min(room(base.machine), trials) if is_on_ray() else 1
    if spans_machines() and url.startswith("sqlite"):
        raise CompkitError(
            f"several machines cannot share {public_address(url)}, as SQLite's locks hold on one: "
            f"give --storage {directory / 'study.log'} (a journal file on the shared disk), or the "
            "URL of a database server"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is said and recorded by us
    warnings.simplefilter("ignore", ExperimentalWarning)
    made_of = {
        "data": store.content,
        "metric": base.ranking or store.competition.rules.ranking,
        "hold-out": hold_out,
        "pruner": pruner,
        "space": space.plain(),
        "base": to_plain(base),
    }
    runs = Runs(data, directory, hold_out)
    # A lock comes first in a new directory: by it the directory is known to be ours after a kill.
    with locked(directory / "release", "opening the study", wait=True):
        study = open_study(name, url, make_pruner(pruner, base, folds), made_of)
        begin(study, space, trials, sampler)
    goal = Objective(space, runs, pruner)
    rest = (goal, directory, trials, sampler, base.seed)
    if is_on_ray():
        work = [((name, url, study.pruner, made_of), *rest)] * workers
        done = partial(progress_of, study)
        spread(share, work, base.machine, f"trials, {workers} at a time", trials, done)
    else:
        search(study, *rest)
    _conclude(study, base, runs, url, retrain)


def _taking_part(base: RunConfig, store: Store, hold_out: int | None) -> int:
    """Return how many folds trials are trained on, once the hold-out is proven to be one."""
    file = base.folds.file
    folds = base.folds.k if file is None else read_folds(Path(file), store).k
    if hold_out is None:
        return folds
    if not 0 <= hold_out < folds:
        raise CompkitError(
            f"--hold-out is {hold_out}, but the folds are 0 to {folds - 1}: take one of these"
        )
    if folds < 3:
        raise CompkitError(
            f"--hold-out leaves one of {folds} folds, on which decoding cannot be tuned and "
            "scored: take 3 folds or more (folds.k)"
        )
    return folds - 1


def confirm(study: optuna.Study, base: RunConfig, runs: Runs, count: int) -> RunConfig:
    """Return the best settings, judged by another seed if any trials are trained with one.

    They are the base configuration where no trial has a higher score. That is trained with the
    seed, too, and both on the hold-out if there is one. The study's attribute ``confirmed`` tells
    how they compare: a list of mappings with the number of the trial (``trial``), the number of
    those that it is the best of by this very score (``of``), the hold-out or null (``fold``), the
    scores of all images (``best``; ``base``, null where the base was not completed) and the groups
    of the images (``groups``).

    Parameters
    ----------
    count : int
        How many of the best trials are trained again.
    """
    complete = ranked(study)
    trials = [trial for trial in complete if not is_base(trial)][: max(count, 1)]
    study.set_user_attr("confirmed", [])
    if not trials or (not count and runs.hold_out is None):
        return configured(base, complete[0].user_attrs["settings"])
    # The base comes last; one that was not completed is left out.
    compared = trials + [trial for trial in complete if is_base(trial)]
    configs = {_name(one): configured(base, one.user_attrs["settings"]) for one in compared}
    trained = {n: replace(one, seed=base.seed + bool(count)) for n, one in configs.items()}
    decoders = runs.evaluated(trained)
    scores = {name: one.image_scores[one.ranking] for name, one in decoders.items()}
    chosen = max(trials, key=lambda trial: np.mean(scores[_name(trial)]))
    best = _name(chosen)

    def compared_by(
        said: Mapping[str, Sequence[float]], groups: Any, of: int, fold: int | None
    ) -> Any:
        return {"trial": chosen.number, "of": of, "fold": fold, "groups": groups,
                "best": said[best], "base": said.get(_BASE)}  # fmt: skip

    told = []
    if count:
        told.append(compared_by(scores, decoders[best].image_groups, len(trials), None))
    if runs.hold_out is not None:
        names = [name for name in (best, _BASE) if name in trained]
        work = [(trained[name], decoders[name], name) for name in names]
        held = dict(zip(names, each(runs.held_out, work, base.machine), strict=True))
        theirs = {name: values.tolist() for name, (values, _) in held.items()}
        told.append(compared_by(theirs, held[best][1], 1, runs.hold_out))
    study.set_user_attr("confirmed", told)
    beaten = _BASE in scores and np.mean(scores[best]) <= np.mean(scores[_BASE])
    return base if beaten else configs[best]


def _name(trial: FrozenTrial) -> str:
    return _BASE if is_base(trial) else f"trial {trial.number} again"


def _conclude(study: optuna.Study, base: RunConfig, runs: Runs, url: str, retrain: int) -> None:
    print_findings(study)
    if not ranked(study):
        raise CompkitError(f"no trial of {study.study_name} was completed: run more --trials")
    best = confirm(study, base, runs, retrain)
    if best == base:
        say("no trial beats the configuration that they began from: it is best.yaml")
    for sentence in confirmed(study):
        print_line(sentence)
    save(best, runs.directory / "best.yaml")
    write_page(study, runs.directory / "study.html", url)
    say(
        f"{runs.directory}: best.yaml, which compkit train takes as --config; study.html, what was "
        "found"
    )
