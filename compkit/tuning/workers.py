"""Workers that share a study, or the rungs of one: who does what next, and what the dead left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from socket import gethostname
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from compkit.errors import CompkitError
from compkit.files import locked
from compkit.tuning.halving import promote
from compkit.tuning.study import told
from compkit.tuning.trial import Objective, try_again

#: What fails one trial and lets the study go on: settings that do not work, too little memory.
_OF_A_TRIAL = (CompkitError, ArithmeticError, MemoryError, RuntimeError, ValueError)

#: Failures from the first trial on after which something other than settings must be wrong.
_ALL_FAIL = 3

#: Seconds that a worker of another machine may take to say whose a trial is.
_STARTING = 2.0


@dataclass(frozen=True)
class Rung:
    """A study whose trials are all trained for as long.

    Attributes
    ----------
    study : Study
    objective : Objective
    """

    study: optuna.Study
    objective: Objective

    def has(self, *states: TrialState) -> bool:
        """Whether some trial is in one of these states."""
        return bool(self.study.get_trials(deepcopy=False, states=states))

    def run(self, trial: optuna.Trial) -> None:
        """Run a trial to its end, whatever that is.

        Raises
        ------
        BaseException
            What is no trial's own fault, as a full disk or an interruption.
        """
        try:
            value = self.objective(trial)
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        except BaseException as error:
            self.study.tell(trial, state=TrialState.FAIL)
            if not isinstance(error, _OF_A_TRIAL):
                raise
        else:
            self.study.tell(trial, value)


def run_trials(
    rungs: Sequence[Rung],
    directory: Path,
    trials: int,
    grid: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Run trials until there is nothing left for any worker of this machine.

    One that has nothing to do waits for the others' trials, since they decide what comes next; a
    worker of another machine is not waited for, as nobody knows whether it lives.

    Parameters
    ----------
    rungs : sequence of Rung
        From the least work a trial to the most; one without successive halving.
    directory : Path
        The study's, where local workers agree.
    trials : int
        How many the first rung gets, of all workers, that are over or under way.
    grid : sequence of mapping, optional
        Answers that its trials get one after the other, instead of the sampler's.

    Raises
    ------
    CompkitError
        If nothing but failures comes of it.
    Exception
        What is no trial's own fault.
    """
    while True:
        with ExitStack() as held:
            # One worker at a time, or a trial would go on, or be promoted, twice.
            with locked(directory / "release", "beginning a trial", wait=True):
                for rung in rungs:
                    _release(rung.study, directory)
                chosen = _next(rungs, trials, grid)
                others = _under_way(rungs, directory)
                if chosen is not None:
                    trial = chosen.study.ask()
                    trial.set_user_attr("host", gethostname())
                    place = _place(directory, chosen.study, trial.number)
                    held.enter_context(locked(place, f"running trial {trial.number}"))
            if chosen is not None:
                chosen.run(trial)
                _refuse_failures(chosen.study)
            elif others:
                held.enter_context(locked(others[0], "waiting for its trial", wait=True))
            else:
                return


def _next(
    rungs: Sequence[Rung], trials: int, grid: Sequence[Mapping[str, Any]] | None
) -> Rung | None:
    """Return the rung where a trial is to begin, highest first; its settings are in line."""
    for lower, upper in reversed(list(pairwise(rungs))):
        if upper.has(TrialState.WAITING) or promote(lower.study, upper.study):
            return upper
    first = rungs[0]
    if _counted(first.study) < trials and (
        first.has(TrialState.WAITING) or grid is None or _tell_point(first.study, grid)
    ):
        return first
    for lower, upper in pairwise(rungs):
        if lower.has(TrialState.RUNNING):
            break  # what comes of it is for the worker that runs it
        begun = upper.has(TrialState.RUNNING, TrialState.COMPLETE)
        if not begun and promote(lower.study, upper.study, rest=True):
            return upper
    return None


def _tell_point(study: optuna.Study, grid: Sequence[Mapping[str, Any]]) -> bool:
    """Put the next point of a grid in line, if any is left."""
    tried = [trial.user_attrs.get("told") for trial in study.get_trials(deepcopy=False)]
    for point in grid:
        if point not in tried:
            told(study, point)
            return True
    return False


def _counted(study: optuna.Study) -> int:
    """Return how many trials are over or under way; one that is tried again counts once."""
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}
    return sum(t.state != TrialState.WAITING and t.number not in again for t in trials)


def _release(study: optuna.Study, directory: Path) -> None:
    """Fail the trials of this machine whose worker is dead, and put them in line again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_dead(trial, _place(directory, study, trial.number)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            try_again(study, trial)


def _under_way(rungs: Sequence[Rung], directory: Path) -> list[Path]:
    """Return what this machine's living workers lock while they run their trials."""
    return [
        _place(directory, rung.study, trial.number)
        for rung in rungs
        for trial in rung.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if _is_here(trial)
    ]


def _is_here(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("host", gethostname()) == gethostname())


def _is_dead(trial: FrozenTrial, place: Path) -> bool:
    """Tell whether a running trial's worker was one of this machine and has gone."""
    started = trial.datetime_start
    if started is None or (datetime.now() - started).total_seconds() < _STARTING:
        return False
    if not _is_here(trial):
        return False
    try:
        with locked(place, "looking for a dead trial"):
            return True
    except CompkitError:
        return False


def _place(directory: Path, study: optuna.Study, number: int) -> Path:
    """Return what the process that runs a trial locks, as long as it lives."""
    return directory / "workers" / study.study_name / str(number)


def _refuse_failures(study: optuna.Study) -> None:
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    errors = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
    if len(errors) == len(trials) >= _ALL_FAIL:
        raise CompkitError(f"every trial of {study.study_name} failed, the last with: {errors[-1]}")
