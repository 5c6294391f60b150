"""What ``compkit tune`` does: trials, the best of them with another seed, best.yaml, a page."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning

from compkit.config import RunConfig
from compkit.config.files import save, to_plain
from compkit.data.store import Store, open_store
from compkit.display import print_line
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import read_folds
from compkit.progress import say
from compkit.root import claim
from compkit.tuning.confirm import confirm
from compkit.tuning.findings import confirmed, print_findings
from compkit.tuning.page import write_page
from compkit.tuning.runs import Runs
from compkit.tuning.search import begin, search
from compkit.tuning.space import Space
from compkit.tuning.storage import open_study
from compkit.tuning.trial import BY_EPOCH, Objective, make_pruner, ranked

#: Settings that say how long a trial is trained.
_LENGTHS = ("training.steps", "training.steps_per_epoch", "folds.k")


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
    folds = _folds(base, store)
    _check_hold_out(hold_out, folds)
    varied = [one for one in _LENGTHS if one in space.ranges]
    if pruner in BY_EPOCH and varied:
        raise CompkitError(
            f"--pruner {pruner} compares trials at the same epoch, but {varied[0]} varies: fix it "
            "(--narrow), or take --pruner wilcoxon"
        )
    url = storage or f"sqlite:///{directory / 'study.db'}"
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
        taking_part = folds - (hold_out is not None)
        study = open_study(name, url, make_pruner(pruner, base, taking_part), made_of)
        begin(study, space, trials, sampler)
    search(study, Objective(space, runs, pruner), directory, trials, sampler, base.seed)
    _conclude(study, base, runs, url, retrain)


def _folds(base: RunConfig, store: Store) -> int:
    file = base.folds.file
    return base.folds.k if file is None else read_folds(Path(file), store).k


def _check_hold_out(hold_out: int | None, folds: int) -> None:
    if hold_out is None:
        return
    if not 0 <= hold_out < folds:
        raise CompkitError(
            f"--hold-out is {hold_out}, but the folds are 0 to {folds - 1}: take one of these"
        )
    if folds < 3:
        raise CompkitError(
            f"--hold-out leaves one of {folds} folds, on which no decoder can be tuned and scored: "
            "take 3 folds or more (folds.k)"
        )


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
