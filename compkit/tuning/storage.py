"""Where a study lies: a database or a journal file, opened, and named without its passwords."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from compkit.config.files import differences, from_plain
from compkit.errors import CompkitError
from compkit.inputs import read_text
from compkit.progress import say

#: Seconds between two signs of life of a worker, and without one until its trial is retried.
BEAT, GRACE = 10, 60

#: Seconds to wait for another worker to make a new database's tables.
_TABLES = (1.0, 3.0)

#: Seconds that a worker waits for others to have written to an SQLite file.
_SQLITE = 60

#: What is secret of the options in a storage's address.
_SECRET = re.compile("pass|pwd|secret|token|key|odbc_connect", re.IGNORECASE)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the settings of an interrupted trial in line, three times at most."""
    say(f"trial {trial.number} was interrupted: it is tried again, three times at most")
    Retry(max_retry=3, inherit_intermediate_values=True)(study, trial)


class JournalWithHeartbeat(JournalStorage, BaseHeartbeat):
    """A journal file whose workers show that they live, as those of a database do.

    A worker touches a file for its trial, in a folder beside the journal. Times are compared as
    the file system has them, so that machines whose clocks differ agree.
    """

    def __init__(self, path: str) -> None:
        super().__init__(JournalFileBackend(path))
        self._beats = Path(f"{path}.beats")

    def record_heartbeat(self, trial_id: int) -> None:
        self._beats.mkdir(exist_ok=True)
        (self._beats / str(trial_id)).touch()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        self._beats.mkdir(exist_ok=True)
        clock = self._beats / "clock"
        clock.touch()
        oldest = clock.stat().st_mtime - GRACE
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        beats = {trial._trial_id: self._beats / str(trial._trial_id) for trial in running}
        return [i for i, beat in beats.items() if beat.exists() and beat.stat().st_mtime < oldest]

    def get_heartbeat_interval(self) -> int:
        return BEAT

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None]:
        return retry


def open_study(
    name: str, storage: str, pruner: optuna.pruners.BasePruner, made_of: Mapping[str, Any]
) -> optuna.Study:
    """Open the study, or make it.

    Parameters
    ----------
    storage : str
        A database's URL, or the path of a journal file (``….log``).
    made_of : mapping of str to plain value
        What must not change from one call to the next; ``base`` is a configuration.

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
            pruner=pruner,
        )
        _claim(study, made_of)
    except ImportError as error:
        raise CompkitError(
            f"the storage {public_address(storage)} needs a driver that is not installed "
            f"({error.__cause__}): install it, for PostgreSQL psycopg[binary]"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        address = public_address(storage)
        reason = " ".join(str(error).replace(storage, address).split())
        for secret in _secrets(storage):
            reason = reason.replace(secret, "***")
        if storage.count("@") > 1:  # where a password ends, nobody knows: the driver may tell of it
            reason = type(error).__name__
        raise CompkitError(
            f"the storage {address} does not answer ({reason[:200]}): check it"
        ) from None
    return study


def _claim(study: optuna.Study, made_of: Mapping[str, Any]) -> None:
    """Say what the study is made of, or refuse to go on with one that is made of something else."""
    known = study.user_attrs.get("made_of")
    if known is None and (study.user_attrs or study.get_trials(deepcopy=False)):
        raise CompkitError(
            f"the study {study.study_name} was made by an older compkit, whose trials this one "
            "cannot go on with: begin another --study"
        )
    if known is None:
        study.set_user_attr("made_of", dict(made_of))
        return
    remedy = "give what it began with, or begin another --study"
    where = f"the study {study.study_name}"
    old, new = (from_plain(one["base"], where, remedy) for one in (known, made_of))
    changes = differences(old, new, ("machine.",))
    one, other = _flat(known), _flat(made_of)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    changes += [f"{name}: {one.get(name)} → {other.get(name)}" for name in names]
    if changes:
        raise CompkitError(f"{where} was made of something else ({'; '.join(changes)}): {remedy}")


def _flat(made_of: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a study is made of but its base, each entry of its space by itself."""
    space = {f"space {name}": entry for name, entry in made_of.get("space", {}).items()}
    return {key: one for key, one in made_of.items() if key not in ("base", "space")} | space


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


def _parsed(storage: str) -> URL | None:
    try:
        return make_url(storage)
    except (SQLAlchemyError, ValueError):
        return None


def _storage(storage: str) -> BaseStorage:
    if "://" in storage and _parsed(storage) is not None:
        return _database(storage)
    if "://" in storage or not storage.endswith(".log"):
        hidden = re.sub(".*@", "***@", public_address(storage))
        raise CompkitError(
            f"--storage is {hidden!r}: give a database's URL, as sqlite:///study.db, or a journal "
            "file that ends in .log"
        )
    _require_journal(Path(storage))
    return JournalWithHeartbeat(storage)


def _require_journal(path: Path) -> None:
    """Refuse a file that holds anything but Optuna's journal, before a line is added to it."""
    if not path.exists():
        return
    lines = read_text(path, "journal file", "correct it").split("\n")
    # The last one may be half of what another worker is writing.
    for number, line in enumerate(lines[:-1] or lines, 1):
        try:
            known = "op_code" in json.loads(line)
        except (ValueError, TypeError):
            known = False
        if not known:
            raise CompkitError(
                f"{path}, line {number} is not of a study's journal: give --storage another file"
            )


def _database(url: str) -> RDBStorage:
    """Open a database; of workers that begin together, only one can make its tables."""
    if url.startswith("sqlite") and make_url(url).database in (None, "", ":memory:"):
        raise CompkitError(f"{url} keeps nothing: give --storage a file, as sqlite:///study.db")
    options: dict[str, Any] = {
        "engine_kwargs": {"connect_args": {"timeout": _SQLITE}} if url.startswith("sqlite") else {},
        "heartbeat_interval": BEAT,
        "grace_period": GRACE,
        "heartbeat_stale_trial_callback": retry,
    }
    for seconds in _TABLES:
        try:
            return RDBStorage(url, **options)
        except (IntegrityError, ProgrammingError):
            time.sleep(seconds)
    return RDBStorage(url, **options)
