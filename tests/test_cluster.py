"""Networks trained on a Ray cluster: a real one, of several nodes on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

DATA = "phantom:size=32,labelled=9,unlabelled=0,test=3"
SETTINGS = [
    "--encoders", "[plain_unet16,plain_unet32]", "--folds.k", "3", "--input.batch", "2",
    "--training.steps", "12", "--training.steps_per_epoch", "2", "--training.warmup", "1",
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    return tmp_path


def train(*more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "compkit.cli", "train", "--data", DATA, *SETTINGS, *more]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def weights(run: str) -> dict[str, dict[str, str]]:
    found = sorted(Path("runs", run).glob("*/fold*/fit.json"))
    return {str(path.parent.relative_to(f"runs/{run}")): json.loads(path.read_text())["checkpoints"]
            for path in found}  # fmt: skip


def epochs(run: str) -> list[int]:
    return [path.read_text().count("\n") for path in Path("runs", run).glob("*/fold*/metrics.csv")]


def begun(process: subprocess.Popen, run: str, networks: int, least: int) -> None:
    """Wait until so many networks of a run have so many epochs behind them."""
    deadline = time.monotonic() + 240
    while sum(each >= least for each in epochs(run)) < networks:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, epochs(run)
        time.sleep(0.1)


@pytest.mark.slow
def test_fits_outlive_a_node_and_are_those_of_one_process(place):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        process = train("--run", "spread", "--ray", cluster.address)
        begun(process, "spread", 3, 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == 0, errors
        assert "1 machine(s) were lost" in errors
        interrupted = train("--run", "stopped", "--ray", cluster.address)
        begun(interrupted, "stopped", 1, 2)
        interrupted.send_signal(signal.SIGINT)
        errors = interrupted.communicate(timeout=60)[1]
        assert interrupted.returncode == 130, errors
        assert "Traceback" not in errors
    finally:
        cluster.shutdown()
    for run in ("alone", "stopped"):
        process = train("--run", run)
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == 0, errors
    assert len(weights("alone")) == 6
    assert weights("spread") == weights("stopped") == weights("alone")


def test_what_is_no_cluster_is_said(place, capsys):
    for where, reason in (("auto", "Could not find any running Ray"), ("nowhere:1", "")):
        process = train("--run", "r", "--ray", where)
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 2, errors
        assert f"there is no Ray cluster for --ray {where}" in errors
        assert reason in errors
        assert "Traceback" not in errors
    process = train("--run", "r", "--ray", "local", "--machine.cores", "999")
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 2, errors
    assert "lacks what one network needs (999 CPU)" in errors
    assert not Path("runs").exists()
