"""Workers of one study: killed and gone on from, or sharing a file or a database."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from studies import (
    DATABASE,
    loaded,
    only_if_all,
    states,
    study_place,
    worker,
)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    return study_place(tmp_path, monkeypatch)


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize(
    "storage",
    [DATABASE, pytest.param("runs/s/study.log", marks=only_if_all)],
)
def test_a_killed_workers_trial_goes_on(workplace, storage):
    changed = {"trials": "1", "storage": storage, "pruner": "halving",
               "training__steps": "16", "training__steps_per_epoch": "2"}  # fmt: skip
    begun = Path("absent")

    def epochs() -> int:
        return begun.read_text().count("\n") if begun.exists() else 0

    for number, sign in enumerate((signal.SIGKILL, signal.SIGINT, None)):
        process, before, deadline = worker(**changed), epochs(), time.monotonic() + 300
        while time.monotonic() < deadline and sign is not None and epochs() < before + 2:
            begun = next(Path("runs/s").rglob("metrics.csv"), begun)
            assert process.poll() is None, process.stderr.read()
            assert epochs() >= before  # it goes on where it was
            time.sleep(0.1)
        if sign is not None:
            process.send_signal(sign)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == (-signal.SIGKILL, 130, 0)[number], errors
        assert "Traceback" not in errors
    found = loaded(storage=storage).get_trials()
    assert [trial.state for trial in found] == [TrialState.FAIL] * 2 + [TrialState.COMPLETE]
    assert len({trial.user_attrs["run"] for trial in found}) == 1
    assert list(found[-1].intermediate_values) == list(range(1, 2 * 8 + 1))


@only_if_all
@pytest.mark.slow
def test_workers_share_a_journal_file(workplace):
    storage = str(workplace / "study.log")
    workers = [worker(trials="3", storage=storage) for _ in range(2)]
    for process in workers:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    found = states(storage)
    assert len(found) == 3
    assert set(found) <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
                    reason="PostgreSQL (Debian's postgresql) is not installed")  # fmt: skip
def test_workers_share_a_postgresql_database(workplace):
    binaries = next(Path("/usr/lib/postgresql").glob("*/bin"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    cluster = Path(tempfile.mkdtemp())  # not in tmp_path, which other users may not enter
    if as_user:
        shutil.chown(cluster, "postgres")
    subprocess.run([*as_user, binaries / "initdb", "-D", cluster, "-A", "trust"], check=True)
    server = [*as_user, binaries / "pg_ctl", "-D", cluster, "-w"]
    subprocess.run([*server, "-o", f"-p {port} -k {cluster}", "start"], check=True)
    try:
        user = "postgres" if as_user else os.environ.get("USER", "postgres")
        storage = f"postgresql://{user}@127.0.0.1:{port}/postgres"
        workers = [worker(trials="3", storage=storage) for _ in range(2)]
        for process in workers:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        found = states(storage)
        assert len(found) == 3
        assert TrialState.RUNNING not in found
    finally:
        subprocess.run([*server, "-m", "immediate", "stop"], check=True)
        shutil.rmtree(cluster)
