"""What ``tune.py`` does: trials, the best of them again with another seed, best.yaml, a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from compkit.config import RunConfig
from compkit.config.check import check
from compkit.config.files import save
from compkit.data.store import Store, open_store
from compkit.display import print_line
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.folds import read_folds
from compkit.progress import say
from compkit.root import runs_root
from compkit.run import claim_directory, refuse_name
from compkit.tuning.confirm import compare_with_base, confirm
from compkit.tuning.gains import confirmations
from compkit.tuning.halving import REDUCTION, reduced
from compkit.tuning.page import print_findings, write_page
from compkit.tuning.runs import Runs
from compkit.tuning.space import Space
from compkit.tuning.study import grid_of, open_study, ranked, told
from compkit.tuning.summary import confirmed
from compkit.tuning.trial import Objective
from compkit.tuning.workers import Rung, run_trials


def tune(
    base: RunConfig,
    data: str,
    name: str,
    space: Space,
    *,
    trials: int,
    storage: str | None = None,
    sampler: str = "tpe",
    retrain: int = 3,
    hold_out: int | None = None,
    halving: int = 1,
) -> None:
    """Search settings until the study has its trials; then say what came of it.

    Writes ``runs/<name>/``: ``study.db`` (unless `storage` is elsewhere), the trials' runs,
    ``best.yaml``, which train.py takes, and ``study.html``.

    Parameters
    ----------
    base : RunConfig
        What a trial's settings are laid over. It is trained like a trial and compared with the
        best: as the first trial, where the space has its settings. That costs a trial, and what
        `retrain` does to it, beside dozens; without it, nobody knows what the search was worth.
    trials : int
        Of all workers together, those of earlier calls included; of the lowest rung.
    retrain : int
        How many of the best are trained again with another seed; the best of those is taken, and
        its score is no maximum of many.
    hold_out : int, optional
        A fold that trials neither validate on nor tune a decoder on, although their networks learn
        from its images. At the end, the best and the base configuration are scored on it.
    halving : int
        Rungs of successive halving: trials of the lowest do `REDUCTION` ** (halving - 1) times less
        work, and the best third of each rung goes up to the next.

    Raises
    ------
    CompkitError
        For any bad input, or if every trial fails.
    """
    refuse_name(name)
    check(base)
    directory = runs_root() / name
    claim_directory(directory, "study.db")
    store = open_store(data)
    _check_hold_out(hold_out, base, store)
    _check_rungs(halving, base, store)
    grid = grid_of(space, base.seed) if sampler == "grid" else None
    if grid is not None and len(grid) > trials:
        say(f"the grid has {len(grid)} points, more than --trials: {trials} of them are tried")
    url = storage or f"sqlite:///{directory / 'study.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is said and recorded by us
    metric = base.ranking or store.competition.rules.ranking
    made_of = {"data": store.content, "metric": metric, "hold_out": hold_out, "halving": halving}
    runs = Runs(data, directory, hold_out)
    rungs: list[Rung] = []
    # A lock comes first in a new directory: by it the directory is known to be ours after a kill.
    with locked(directory / "release", "opening the study", wait=True):
        for below in range(halving):  # the last rung first: it is what another call may not fit
            called = f"{name}, rung {halving - 1 - below}" if below else name
            study = open_study(called, url, sampler, space, base, made_of)
            # On a grid, every point is wanted: what is pruned would be a hole in a curve.
            objective = Objective(base, space, runs, REDUCTION**below, prunes=grid is None)
            rungs.insert(0, Rung(study, objective))
    if grid is None:
        _begin_with_base(rungs[0].study, space, base, directory)
    run_trials(rungs, directory, trials, grid)
    _conclude(rungs, base, runs, url, retrain)


def _check_hold_out(hold_out: int | None, base: RunConfig, store: Store) -> None:
    if hold_out is None:
        return
    file = base.folds.file
    folds = base.folds.k if file is None else read_folds(Path(file), store).k
    if not 0 <= hold_out < folds:
        raise CompkitError(
            f"--hold-out is {hold_out}, but the folds are 0 to {folds - 1}: take one of these"
        )
    if folds < 3:
        raise CompkitError(
            f"--hold-out leaves one of {folds} folds, on which no decoder can be tuned and scored: "
            "take 3 folds or more (folds.k)"
        )


def _check_rungs(halving: int, base: RunConfig, store: Store) -> None:
    t = base.training
    rungs = [reduced(base, REDUCTION**below, store.size).training.steps for below in range(halving)]
    if len(set(rungs)) < halving:
        raise CompkitError(
            f"--halving {halving} is too much for {t.steps // t.steps_per_epoch} epochs, as two "
            "rungs would be equally long: take fewer rungs, or a smaller training.steps_per_epoch"
        )


def _begin_with_base(study: optuna.Study, space: Space, base: RunConfig, directory: Path) -> None:
    """Make the configuration itself the first trial, if the space has its settings."""
    answers = space.told(base)
    if answers is None:
        say(
            f"no trial begins from the configuration itself, as {space.lacking(base)} of the space "
            "cannot give its value: it is trained beside the search"
        )
    with locked(directory / "release", "beginning the study", wait=True):
        if answers is not None and not study.get_trials(deepcopy=False):
            told(study, answers)


def _conclude(rungs: Sequence[Rung], base: RunConfig, runs: Runs, url: str, retrain: int) -> None:
    study, lower = rungs[-1].study, [rung.study for rung in rungs[:-1]]
    if not ranked(study) and any(rung.has(TrialState.RUNNING) for rung in rungs):
        say(
            "other workers have trials under way, and no trial is complete yet: "
            "the last worker says what was found"
        )
        return
    if not ranked(study):
        print_findings(study, lower)
        raise CompkitError(f"no trial of {study.study_name} was completed: run more --trials")
    compare_with_base(study, base, runs)
    print_findings(study, lower)
    best = confirm(study, base, runs, retrain)
    if best == base:
        say("no trial beats the configuration that they began from: it is best.yaml")
    for sentence in confirmed(confirmations(study)):
        print_line(sentence)
    save(best, runs.directory / "best.yaml")
    write_page(study, runs.directory / "study.html", url, lower)
    say(
        f"{runs.directory}: best.yaml, which train.py takes as --config; study.html, what was found"
    )
