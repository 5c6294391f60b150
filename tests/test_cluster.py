"""Work on a Ray cluster: a real one, of several nodes on this machine."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from optuna.trial import TrialState
from PIL import Image
from studies import arguments, loaded, only_if_all, study_place

from compkit.cluster import on_ray
from compkit.data.store import open_store
from compkit.ensemble.folder import predict_folder
from compkit.errors import CompkitError
from compkit.parallel import each_image
from compkit.submission.submit import submit
from compkit.tasks import each

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

DATA = "phantom:size=32,labelled=9,unlabelled=0,test=3"
SETTINGS = [
    "--folds.k", "3", "--input.batch", "2",
    "--training.steps", "12", "--training.steps_per_epoch", "2", "--training.warmup", "1",
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))  # tasks are functions of this file
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    return tmp_path


@pytest.fixture
def cluster():
    """A head that does no work and soon misses a node, and nodes of one core each."""
    soon = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "_system_config": soon}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.nodes = [made.add_node(num_cpus=1) for _ in range(3)]
    yield made
    made.shutdown()


def command(*words: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "compkit.cli", *words]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def train(*more: str, encoders: str = "[plain_unet16]") -> subprocess.Popen:
    return command("train", "--data", DATA, *SETTINGS, "--encoders", encoders, *more)


def ended(process: subprocess.Popen, code: int) -> str:
    """Return what a command said, once it has ended, with this exit code and no traceback."""
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def weights(run: str) -> dict[str, dict[str, str]]:
    found = sorted(Path("runs", run).glob("*/fold*/fit.json"))
    return {str(path.parent.relative_to(f"runs/{run}")): json.loads(path.read_text())["checkpoints"]
            for path in found}  # fmt: skip


def epochs(run: str) -> list[int]:
    return [path.read_text().count("\n") for path in Path("runs", run).rglob("fold*/metrics.csv")]


def begun(process: subprocess.Popen, run: str, networks: int, least: int) -> None:
    """Wait until so many networks of a run have so many epochs behind them."""
    wait(process, lambda: sum(each >= least for each in epochs(run)) >= networks)


def wait(process: subprocess.Popen, until: Callable[[], bool]) -> None:
    """Wait for something that a command, which is still at work then, brings about."""
    deadline = time.monotonic() + 600
    while not until():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow(minutes=5)
def test_fits_outlive_a_node_and_a_head_and_are_those_of_one_process(place, cluster):
    six = "[plain_unet16,plain_unet32]"
    process = train("--run", "spread", "--ray", cluster.address, encoders=six)
    begun(process, "spread", 3, 1)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    assert "1 machine(s) were lost" in ended(process, 0)
    images = pictures()
    with on_ray(cluster.address):
        submit(["spread"], Path("spread.csv"))
        predict_folder("spread", images, Path("spread"))
    process = train("--run", "stopped", "--ray", cluster.address)
    begun(process, "stopped", 1, 2)
    process.send_signal(signal.SIGINT)
    ended(process, 130)
    saved = sum(epochs("stopped"))
    process = train("--run", "stopped", "--ray", cluster.address)
    wait(process, lambda: sum(epochs("stopped")) > saved)  # not still at its start
    cluster.head_node.kill_gcs_server()
    time.sleep(1)
    cluster.head_node.start_gcs_server()
    told = ended(process, 2).splitlines()[-1]
    assert told.startswith("error: the Ray cluster has lost its head")
    ended(train("--run", "stopped"), 0)
    ended(train("--run", "alone", encoders=six), 0)
    assert len(weights("alone")) == 6
    assert weights("spread") == weights("alone")
    assert weights("stopped").items() <= weights("alone").items()
    submit(["alone"], Path("alone.csv"))
    predict_folder("alone", images, Path("alone"))
    names = [path.name for path in images.iterdir()]
    assert filecmp.cmp("alone.csv", "spread.csv", shallow=False)
    assert filecmp.cmpfiles("alone", "spread", names, shallow=False)[0] == names


def pictures() -> Path:
    """Return a folder of some images."""
    folder = Path("images")
    folder.mkdir()
    for number, pixels in enumerate(open_store(DATA).test_images):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
@only_if_all
def test_a_study_outlives_a_node(tmp_path, place, cluster, monkeypatch):
    study_place(tmp_path, monkeypatch)
    Path("soon.py").write_text(
        "from compkit.tuning import storage\nstorage.BEAT, storage.GRACE = 1, 5\n"
    )
    options = {"ray": cluster.address, "storage": "runs/s/study.log", "training__steps": "24"}

    def tune(**more: str) -> subprocess.Popen:
        return command("--plugin", "soon.py", "tune", *arguments(**{**options, **more}))

    process = tune()
    begun(process, "s", 1, 2)
    # Whether a trial is lost with it, and is tried again, depends on where they run.
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    ended(process, 0)
    trials = loaded("runs/s/study.log").get_trials()
    over = [trial for trial in trials if trial.state != TrialState.FAIL]
    assert len(over) == 3
    assert {trial.state for trial in over} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert Path("runs/s/best.yaml").is_file()
    told = ended(tune(study="t", storage="sqlite:///t.db"), 2)
    assert "several machines cannot share sqlite:///t.db" in told
    assert not Path("runs/t").exists()


def test_work_outlives_a_node_and_comes_back_in_order(place, cluster):
    np.save("numbers.npy", np.arange(40).reshape(20, 2))
    numbers = np.load("numbers.npy", mmap_mode="r")
    work = [(numbers, i) for i in range(20)]
    with on_ray(cluster.address):
        found = []
        for total, mapped in each_image(row, work, "rows", len(work), 10**9):
            found.append(total)
            assert mapped
            if len(found) == 2:
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        assert found == numbers.sum(axis=1).tolist()
        with pytest.raises(ZeroDivisionError):
            list(each(divmod, [(1, 1), (1, 0)]))
        Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(each(linger, [()] * 4))
        deadline = time.monotonic() + 20
        while ray.available_resources().get("CPU") != 2:  # what was stopped gives way
            assert time.monotonic() < deadline
            time.sleep(0.2)


def linger() -> None:
    for _ in range(600):
        time.sleep(0.1)


def row(numbers: np.ndarray, index: int) -> tuple[int, bool]:
    """Return the sum of a row, and whether it was sent by its path."""
    time.sleep(0.3)
    return int(numbers[index].sum()), isinstance(numbers, np.memmap)


def test_what_is_no_cluster_is_said(place, monkeypatch):
    told = ended(train("--run", "r", "--ray", "auto"), 2)
    assert "there is no Ray cluster for --ray auto (Could not find any running Ray" in told
    for where, reason in (("nowhere:1", "there is no Ray cluster"), ("ray://a:1", "HOST:PORT")):
        with pytest.raises(CompkitError, match=reason), on_ray(where):
            pass
    told = ended(train("--run", "r", "--ray", "local", "--machine.cores", "999"), 2)
    assert "no machine of the cluster has what one network needs (999 CPU)" in told
    assert not Path("runs").exists()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CompkitError, match="--ray needs Ray: pip install"), on_ray("local"):
        pass
