"""Workers that share a study: who begins which trial, and what becomes of interrupted ones."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from time import sleep
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState

from compkit.errors import CompkitError
from compkit.files import locked
from compkit.progress import say
from compkit.training.module import seed_of
from compkit.tuning.space import Space
from compkit.tuning.storage import BEAT, GRACE, open_study, public_address, retry
from compkit.tuning.trial import Objective

#: What fails one trial and lets the study go on: settings that do not work, too little memory.
_OF_A_TRIAL = (CompkitError, ArithmeticError, MemoryError, RuntimeError, ValueError)

#: Failures from the first trial on after which something other than settings must be wrong.
_ALL_FAIL = 3

#: Values of a range on a grid: odd, so that the middle is one.
_POINTS = 13


def begin(study: optuna.Study, space: Space, trials: int, sampler: str) -> None:
    """Put in line what is no sampler's choice: the configuration itself, the points of a grid.

    Only one process may do this at a time.
    """
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(space.params_of_base() or {}, {"base": True})
    if sampler == "grid":
        grid = space.grid(_POINTS)
        if len(grid) >= trials:
            say(
                f"the grid has {len(grid)} points, and the configuration itself is a trial, too: "
                f"--trials {len(grid) + 1} tries them all"
            )
        # In a random order, so that the first few are not all in one corner.
        for params in random.Random(space.base.seed).sample(grid, len(grid))[: trials - 1]:
            study.enqueue_trial(params, skip_if_exists=True)


def search(
    study: optuna.Study, objective: Objective, directory: Path, trials: int, sampler: str, seed: int
) -> None:
    """Run trials until no worker has any left.

    A worker that has nothing to do waits for the others' trials: should one of them die, its trial
    is retried by whoever is there.

    Parameters
    ----------
    directory : Path
        The study's, where workers of one machine take turns.
    trials : int
        How many there are to be, of all workers; one that is retried counts once.

    Raises
    ------
    CompkitError
        If nothing but failures comes of it.
    Exception
        What is no trial's own fault, as a full disk.
    """
    told = False
    while True:
        with ExitStack() as turn:
            turn.enter_context(locked(directory / "release", "beginning a trial", wait=True))
            _retry_dead(study)
            known = study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in known)
            begun = sum(Retry.retried_trial_number(t) is None for t in known)
            if waiting or (sampler != "grid" and begun < trials):
                # No two workers may draw alike, nor one that goes on what it drew before.
                study.sampler = _sampler(sampler, seed_of(seed, len(known)))
                _run_next(study, objective, turn)
                _refuse_failures(study)
                continue
        if not any(trial.state == TrialState.RUNNING for trial in known):
            return
        if not told:
            say("waiting for the trials of other workers")
            told = True
        sleep(BEAT)


def share(opened: tuple[Any, ...], *rest: Any) -> None:
    """Do as `search` where the study must be opened first (`open_study`), as on another machine."""
    study = open_study(*opened)
    if not study.get_trials(deepcopy=False):
        raise CompkitError(
            f"the machine {socket.gethostname()} finds another, empty study in "
            f"{public_address(opened[1])}: give --storage a journal file on the disk that all "
            "machines share, or the URL of a database that all of them reach"
        )
    search(study, *rest)


def progress_of(study: optuna.Study) -> tuple[int, str]:
    """Return how many trials are over, one that is retried counting once, and what came of them."""
    known = study.get_trials(deepcopy=False)
    begun = sum(Retry.retried_trial_number(trial) is None for trial in known)
    scores = [trial.value for trial in known if trial.state == TrialState.COMPLETE]
    failed = sum("error" in trial.user_attrs for trial in known)
    told = [f"best {max(filter(None, scores)):.4f}"] if any(scores) else []
    told += [f"{failed} failed"] if failed else []
    return begun - sum(not trial.state.is_finished() for trial in known), ", ".join(told)


def _run_next(study: optuna.Study, objective: Objective, turn: ExitStack) -> None:
    """Run the next trial, whose beginning ends this worker's turn."""

    begun = []

    def run(trial: optuna.Trial) -> float:
        begun.append(trial.number)
        turn.close()
        return objective(trial)

    try:
        study.optimize(run, n_trials=1, catch=_OF_A_TRIAL)
    except BaseException as error:
        if not begun:
            raise
        known, number = study.get_trials(deepcopy=False), begun[0]
        if any(number in Retry.retry_history(trial) for trial in known):
            if isinstance(error, KeyboardInterrupt):
                raise
            say(f"trial {number} was taken over by another worker, as this one showed no life")
        else:
            if known[number].state == TrialState.FAIL:
                retry(study, known[number])
            raise


def _retry_dead(study: optuna.Study) -> None:
    """Retry the trials of workers that show no life, also of those that died before they began."""
    fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        age = datetime.now() - (trial.datetime_start or datetime.now())
        if "run" not in trial.user_attrs and age.total_seconds() > GRACE:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            retry(study, trial)


def _refuse_failures(study: optuna.Study) -> None:
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    errors = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
    if len(errors) >= _ALL_FAIL and all(trial.state == TrialState.FAIL for trial in trials):
        raise CompkitError(f"every trial of {study.study_name} failed, the last with: {errors[-1]}")


def _sampler(name: str, seed: int) -> BaseSampler:
    if name != "tpe":
        return RandomSampler(seed=seed)  # also beside a grid, whose points are in line
    # `group` is what conditions need.
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
