"""A study on disk: opened, freed of dead trials, continued until it has its trials."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from compkit.config import RunConfig
from compkit.config_files import differences, from_plain, to_plain
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.tuning.space import Space, refuse_other
from compkit.tuning.trial import Objective, is_dead, try_again

#: Samplers by the name that --sampler takes.
SAMPLERS = ("tpe", "cmaes", "random", "grid")

#: Waits, in seconds, for another worker to make a new database's tables.
_TABLES = (1.0, 3.0)

#: Points of a numeric parameter on a grid.
_GRID = 7

#: What fails one trial and lets the study go on: settings that do not work, too little memory.
_OF_A_TRIAL = (CompkitError, ArithmeticError, MemoryError, RuntimeError, ValueError)

#: Failures from the first trial on after which something other than settings must be wrong.
_ALL_FAIL = 3


class FoldPruner(optuna.pruners.BasePruner):
    """Stop a trial that, at the same epoch of the same fold, lies among the lowest.

    Folds differ in difficulty and epochs in progress, so only equals are compared.
    """

    #: Trials that must have come as far, and the quantile of theirs below which one is stopped.
    _others, _quantile = 4, 0.33

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or 2 * ((step - 1) % self._epochs + 1) < self._epochs:
            return False  # the first half of a fit says little
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        others = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False, states=states)
            if step in other.intermediate_values
        ]
        if len(others) < self._others:
            return False
        return trial.intermediate_values[step] < float(np.quantile(others, self._quantile))


def open_study(
    name: str,
    storage: str,
    sampler: str,
    space: Space,
    base: RunConfig,
    made_of: dict[str, str],
) -> optuna.Study:
    """Open the study, or make it.

    Parameters
    ----------
    storage : str
        A database's URL, or the path of a journal file (``….log``).
    base : RunConfig
        What a trial's settings are laid over.
    made_of : dict of str to str
        What else must not change from one call to the next.

    Raises
    ------
    CompkitError
        If the storage does not answer, or the study was made of something else.
    """
    try:
        study = optuna.create_study(
            study_name=name,
            storage=_storage(storage),
            direction="maximize",
            load_if_exists=True,
            pruner=FoldPruner(base.training.steps // base.training.steps_per_epoch),
        )
        study.sampler = _sampler(sampler, base.seed + len(study.get_trials(deepcopy=False)), space)
        _claim(study, {**made_of, "space": space.digest, "base": json.dumps(to_plain(base))})
    except ImportError as error:
        raise CompkitError(
            f"the storage {storage} needs a driver that is not installed ({error.__cause__}): "
            "install it, for PostgreSQL psycopg[binary]"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CompkitError(f"the storage {storage} does not answer ({reason}): check it") from None
    return study


def _claim(study: optuna.Study, made_of: Mapping[str, str]) -> None:
    """Say what the study is made of, or refuse to go on with one that is made of something else."""
    for key, value in made_of.items():
        known = study.user_attrs.get(key, value)
        if key == "space":
            refuse_other(known, value)
        elif key == "base":
            old, new = (from_plain(json.loads(text)) for text in (known, value))
            if changes := differences(old, new):
                raise CompkitError(
                    f"the study {study.study_name} searches over another configuration "
                    f"({'; '.join(changes)}): give it that one, or take another --study name"
                )
        elif known != value:
            raise CompkitError(
                f"the study {study.study_name} was made with another {key} ({known}, not {value}): "
                "take another --study name"
            )
        if key not in study.user_attrs:
            study.set_user_attr(key, value)


def run_trials(study: optuna.Study, objective: Objective, directory: Path, trials: int) -> None:
    """Run trials until the study has `trials`, of all workers, that are over or under way.

    Raises
    ------
    CompkitError
        If nothing but failures comes of it.
    Exception
        What is no trial's own fault, as a full disk.
    """
    while True:
        release(study, directory)
        if _counted(study) >= trials or _exhausted(study):
            break
        study.optimize(objective, n_trials=1, catch=_OF_A_TRIAL)
        _refuse_failures(study)


def release(study: optuna.Study, directory: Path) -> None:
    """Fail the trials of this machine whose worker is dead, and put them in line again.

    Only one worker at a time does so, or a trial would go on twice.
    """
    with locked(directory / "release", "looking for dead trials", wait=True):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_dead(trial, directory):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                try_again(study, trial)


def _exhausted(study: optuna.Study) -> bool:
    sampler = study.sampler
    return isinstance(sampler, optuna.samplers.GridSampler) and sampler.is_exhausted(study)


def _counted(study: optuna.Study) -> int:
    """Return how many trials are over or under way; one that is tried again counts once."""
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}
    return sum(t.state != TrialState.WAITING and t.number not in again for t in trials)


def _refuse_failures(study: optuna.Study) -> None:
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    errors = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
    if len(errors) == len(trials) >= _ALL_FAIL:
        raise CompkitError(f"every trial of {study.study_name} failed, the last with: {errors[-1]}")


def _storage(storage: str) -> BaseStorage:
    if "://" in storage:
        return _database(storage)
    if not storage.endswith(".log"):
        raise CompkitError(
            f"--storage is {storage!r}: give a database's URL, as sqlite:///study.db, or a journal "
            "file that ends in .log"
        )
    return JournalStorage(JournalFileBackend(storage))


def _database(url: str) -> RDBStorage:
    """Open a database; of workers that begin together, only one can make its tables."""
    for seconds in _TABLES:
        try:
            return RDBStorage(url)
        except (IntegrityError, ProgrammingError):
            time.sleep(seconds)
    return RDBStorage(url)


def _sampler(name: str, seed: int, space: Space) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    if name == "grid":
        return optuna.samplers.GridSampler(space.grid(_GRID), seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)
