"""A study on disk: opened, with its sampler and its pruner."""

from __future__ import annotations

import json
import random
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import chain
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from compkit.config import RunConfig
from compkit.config.files import differences, from_plain, to_plain
from compkit.errors import CompkitError
from compkit.training.module import seed_of
from compkit.tuning.evidence import ENOUGH
from compkit.tuning.space import Space, refuse_other

#: Waits, in seconds, for another worker to make a new database's tables.
_TABLES = (1.0, 3.0)

#: What is secret of the options in a storage's address.
_SECRET = re.compile("pass|pwd|secret|token|key|odbc_connect", re.IGNORECASE)

#: Points of a numeric parameter on a grid: enough to tell of it alone whether it mattered, and odd,
#: so that the middle is one.
_POINTS = ENOUGH + 1


class FoldPruner(optuna.pruners.BasePruner):
    """Stop a trial that, at the same epoch of the same fold, lies among the lowest.

    Folds differ in difficulty and epochs in progress, so only equals are compared: trials of as
    many epochs, at the same one.
    """

    #: Trials that must have come as far, and the quantile of theirs below which one is stopped.
    _others, _quantile = 4, 0.33

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step, epochs = trial.last_step, trial.user_attrs["epochs"]
        if step is None or 2 * ((step - 1) % epochs + 1) < epochs:
            return False  # the first half of a fit says little
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        others = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False, states=states)
            if step in other.intermediate_values and other.user_attrs.get("epochs") == epochs
        ]
        if len(others) < self._others:
            return False
        return trial.intermediate_values[step] < float(np.quantile(others, self._quantile))


class _Sampler(BaseSampler):
    """Draw each trial's settings from a seed of its place in the study, whoever draws them.

    So a worker that goes on draws what the one that was killed would have drawn, and no two workers
    draw alike. What was killed before its settings were known is drawn again in its place.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._seed = name, seed
        self._place, self._own = 0, _sampler(name, seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._place = _place_of(study, trial.number)
        self._own = _sampler(self._name, seed_of(self._seed, self._place))
        self._own.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._name == "cmaes":  # its seed is ours plus the trial's number
            trial = copy(trial)
            trial.number = self._place
        return self._own.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._own.after_trial(study, trial, state, values)


def _place_of(study: optuna.Study, number: int) -> int:
    """Return the number that a trial would have if none before it were tried again."""
    trials = study.get_trials(deepcopy=False)
    again = {t.number: t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}
    while number in again:
        number = again[number]
    return number - sum(one < number for one in again)


def open_study(
    name: str,
    storage: str,
    sampler: str,
    space: Space,
    base: RunConfig,
    made_of: Mapping[str, Any],
) -> optuna.Study:
    """Open the study, or make it.

    Parameters
    ----------
    storage : str
        A database's URL, or the path of a journal file (``….log``).
    base : RunConfig
        What a trial's settings are laid over.
    made_of : mapping of str to plain value
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
            pruner=FoldPruner(),
        )
        study.sampler = _Sampler(sampler, base.seed)
        _claim(study, {**made_of, "base": json.dumps(to_plain(base)), "space": space.digest})
    except ImportError as error:
        raise CompkitError(
            f"the storage {public_address(storage)} needs a driver that is not installed "
            f"({error.__cause__}): install it, for PostgreSQL psycopg[binary]"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        address = public_address(storage)
        reason = " ".join(_without_secrets(str(error), storage).split())[:200]
        raise CompkitError(f"the storage {address} does not answer ({reason}): check it") from None
    return study


def public_address(storage: str) -> str:
    """Return the address of a storage with three stars in place of each password in it."""
    if not _secrets(storage):
        return storage
    url = None if storage.count("@") > 1 else _parsed(storage)
    if url is None:  # where a password ends, nobody knows
        return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", storage))
    kept = {key: "***" if _SECRET.search(key) else value for key, value in url.query.items()}
    shown = url.set(query=kept).render_as_string(hide_password=True)
    return shown.replace("%2A%2A%2A", "***")


def _secrets(storage: str) -> list[str]:
    """Return the passwords in the address of a storage; all of it, if it is none."""
    if "://" not in storage:
        return []
    if (url := _parsed(storage)) is None:
        return [storage]
    options = [values for key, values in url.normalized_query.items() if _SECRET.search(key)]
    return [secret for secret in chain([url.password], *options) if secret]


def _without_secrets(text: str, storage: str) -> str:
    text = text.replace(storage, public_address(storage))
    for secret in _secrets(storage):
        text = text.replace(secret, "***")
    return text


def _parsed(storage: str) -> URL | None:
    try:
        return make_url(storage)
    except (SQLAlchemyError, ValueError):
        return None


def _claim(study: optuna.Study, made_of: Mapping[str, Any]) -> None:
    """Say what the study is made of, or refuse to go on with one that is made of something else."""
    for key, value in made_of.items():
        known = study.user_attrs.get(key, value)
        if key == "space":
            refuse_other(known, value)
        elif key == "base":
            where = f"the study {study.study_name}"
            one, other = (
                from_plain(json.loads(text), where, "take another --study name")
                for text in (known, value)
            )
            if changes := differences(one, other, ("machine.",)):
                raise CompkitError(
                    f"the study {study.study_name} searches over another configuration "
                    f"({'; '.join(changes)}): give it that one, or take another --study name"
                )
        elif known != value:
            old, new = ("none" if one is None else one for one in (known, value))
            raise CompkitError(
                f"the study {study.study_name} was made with another {key.replace('_', '-')} "
                f"({old}, not {new}): take another --study name"
            )
        if key not in study.user_attrs:
            study.set_user_attr(key, value)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first, and of equal settings one."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = sorted(trials, key=lambda trial: -(trial.value or 0.0))
    return list({trial.user_attrs["run"]: trial for trial in reversed(best)}.values())[::-1]


def told(study: optuna.Study, answers: Mapping[str, Any], **about: Any) -> None:
    """Put a trial with these answers in line, which outlive its interruption."""
    study.enqueue_trial(dict(answers), {"told": dict(answers), **about})


def called(study: optuna.Study, number: int) -> str:
    """Return a trial's name for people, who may follow several rungs at once."""
    return f"trial {number} of {study.study_name}"


def grid_of(space: Space, seed: int) -> list[dict[str, Any]]:
    """Return the answers at all points of the space's grid, in an order that all workers share.

    It is a random one, so that the first few trials are not all in one corner.
    """
    grid = space.grid(_POINTS)
    return random.Random(seed).sample(grid, len(grid))


def _storage(storage: str) -> BaseStorage:
    if "://" in storage and _parsed(storage) is not None:
        return _database(storage)
    if "://" in storage or not storage.endswith(".log"):
        hidden = re.sub(".*@", "***@", public_address(storage))
        raise CompkitError(
            f"--storage is {hidden!r}: give a database's URL, as sqlite:///study.db, or a journal "
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


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # `group` is what conditions need
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True
            )
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # also beside a grid, which tells all answers
