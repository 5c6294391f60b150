"""Studies on tiny phantoms: continued, killed, shared between workers, refused."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from compkit.config import RunConfig
from compkit.entry import guarded
from compkit.run import claim_directory
from compkit.training.command import parse
from compkit.tuning.command import run_command
from compkit.tuning.gains import BASE, confirmations
from compkit.tuning.trial import Objective

ROOT = Path(__file__).parents[1]
DATA = "phantom:size=32,labelled=6,unlabelled=0,test=1"
SPACE = """
loss: {choice: [dice, cross entropy]}
training.lr: {float: [1e-4, 1e-2], log: true}
head: foreground
"""
OTHERS = [
    "loss.kappa", "loss.adaptive_lambda", "encoder", "training.weight_decay", "training.schedule",
    "training.ema",
    *(f"augment.{name}" for name in (
        "hflip", "vflip", "rot90", "rotate", "scale", "shift", "affine_p", "elastic", "contrast",
        "noise", "blur",
    )),
]  # fmt: skip
SETTINGS = {
    "--encoders": "[resnet10t]", "--folds.k": "2", "--input.batch": "2", "--training.steps": "4",
    "--training.steps_per_epoch": "2", "--training.warmup": "1", "--inference.views": "[identity]",
}  # fmt: skip


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    Path("space.yaml").write_text(SPACE + "".join(f"{name}: null\n" for name in OTHERS))
    return tmp_path


def arguments(study: str = "s", **changed: str) -> list[str]:
    options = {"--data": DATA, "--study": study, "--narrow": "space.yaml", "--sampler": "random",
               "--retrain": "0", "--trials": "3"} | SETTINGS  # fmt: skip
    options |= {
        f"--{name.replace('__', '.').replace('hold_out', 'hold-out')}": value
        for name, value in changed.items()
    }
    return [word for pair in options.items() for word in pair]


def tune(**changed: str) -> int:
    return guarded(lambda: run_command(arguments(**changed)))


def worker(**changed: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tune.py"), *arguments(**changed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def loaded(name: str = "s", storage: str = "sqlite:///runs/s/study.db") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage)


def states(storage: str = "sqlite:///runs/s/study.db", name: str = "s") -> list[TrialState]:
    trials = loaded(name, storage).get_trials(deepcopy=False)
    return [trial.state for trial in trials]


@pytest.mark.slow
def test_a_study_ends_in_settings_that_train_py_takes_and_is_continued(workplace, capsys):
    assert tune(trials="2", retrain="1") == 0
    printed, told = capsys.readouterr()
    assert "another seed" in printed
    assert "Against the base configuration" in printed
    assert states()[0] == TrialState.COMPLETE
    assert states()[1] in (TrialState.COMPLETE, TrialState.PRUNED)
    page = Path("runs/s/study.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    _, config = parse(["--config", "runs/s/best.yaml", "--data", "d", "--run", "r"])
    assert config.training.steps == 4
    # Trials have another head than the configuration, which is kept if it does better.
    assert config.head == ("boundary" if "no trial beats" in told else "foreground")
    study = loaded()
    best = study.best_trial.user_attrs
    assert len(best["image_scores"]) == 6
    assert study.best_value == pytest.approx(np.mean(best["fold_scores"]))
    assert tune(trials="3") == 0
    assert len(states()) == 3
    # Of what is scored the maps stay, not the networks, which would fill a disk.
    assert list(Path("runs/s").rglob("maps.npy"))
    assert not list(Path("runs/s").rglob("*.ckpt"))


@pytest.mark.slow
def test_a_killed_workers_trial_goes_on(workplace):
    process = worker(trials="2", training__steps="400", training__steps_per_epoch="2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(Path("runs/s").rglob("last.ckpt")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert states() == [TrialState.RUNNING]
    (begun,) = {path.parent for path in Path("runs/s").rglob("last.ckpt")}
    epochs = (begun / "metrics.csv").read_text().count("\n")
    again = worker(trials="2", training__steps="400", training__steps_per_epoch="2")
    while time.monotonic() < deadline and len(states()) < 2:
        time.sleep(0.1)
    while time.monotonic() < deadline and (begun / "metrics.csv").read_text().count("\n") <= epochs:
        time.sleep(0.1)
    again.send_signal(signal.SIGINT)
    assert again.wait(120) == 130
    assert "Traceback" not in again.stderr.read()
    assert TrialState.RUNNING not in states()
    assert states()[:2] == [TrialState.FAIL, TrialState.FAIL]  # killed; taken up, then interrupted
    assert states()[2] == TrialState.WAITING


def test_what_a_machine_refuses_a_trial_is_recorded_as_a_sentence():
    def refused(_config):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    space = SimpleNamespace(suggest=lambda _trial: {})
    study = optuna.create_study()
    with pytest.raises(RuntimeError):
        Objective(RunConfig(), space, SimpleNamespace(side=64, owned=refused))(study.ask())
    assert study.trials[0].user_attrs["error"].startswith("not enough memory on the GPU: free some")


def test_a_study_killed_while_its_storage_is_made_goes_on(workplace):
    storage = "runs/s/study.log"
    if not (child := os.fork()):
        optuna.create_study = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        tune(storage=storage)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert Path(storage).exists()
    claim_directory(Path("runs/s"), "study.db")


@pytest.mark.slow
def test_workers_share_a_journal_file(workplace):
    storage = str(workplace / "study.log")
    workers = [worker(trials="5", storage=storage) for _ in range(2)]
    for process in workers:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    found = states(JournalStorage(JournalFileBackend(storage)))
    assert len(found) == 5
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


@pytest.mark.slow
def test_another_sampler_searches(workplace):
    assert tune(sampler="cmaes", trials="2") == 0
    assert len(states()) == 2


@pytest.mark.slow
def test_a_grid_has_no_holes_and_nothing_else(workplace):
    text = (ROOT / "configs/tune-kappa.yaml").read_text()
    text += "loss.kappa: {choice: [4.0, 32.0], when: {loss: t-vMF}}\n"
    text += "loss.adaptive_lambda: {choice: [32.0], when: {loss: adaptive t-vMF}}\n"
    Path("grid.yaml").write_text(text)
    assert tune(sampler="grid", narrow="grid.yaml", trials="2") == 0
    assert tune(sampler="grid", narrow="grid.yaml", trials="9") == 0
    trials = loaded().get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert {tuple(sorted(trial.params.items())) for trial in trials} == {
        (("loss", "t-vMF"), ("loss.kappa", 4.0)),
        (("loss", "t-vMF"), ("loss.kappa", 32.0)),
        (("loss", "adaptive t-vMF"), ("loss.adaptive_lambda", 32.0)),
    }


@pytest.mark.slow
def test_halving_ends_in_full_trials_and_a_score_on_the_hold_out(workplace, capsys):
    changed = {"trials": "3", "halving": "2", "hold_out": "1", "retrain": "1", "folds__k": "3"}
    assert tune(**changed) == 0
    assert len(states(name="s, rung 0")) == 3
    assert states() == [TrialState.COMPLETE]
    full, low = loaded(), loaded("s, rung 0").best_trial
    assert full.best_trial.params == low.params
    assert (full.best_trial.user_attrs["epochs"], low.user_attrs["epochs"]) == (2, 1)
    assert full.user_attrs["hold_out"] == 1
    again, held = confirmations(full)
    assert (again.trial, again.fold, held.fold) == (0, None, 1)
    (confirmed,) = (one for one in full.user_attrs["confirmed"] if one["fold"] == 1)
    searched = len(full.best_trial.user_attrs["image_scores"])
    assert searched + len(confirmed["best"]) == 6
    assert len(full.user_attrs["baseline"][BASE]["image_scores"]) == searched
    # What was trained on the hold-out's behalf, are the two networks that are scored on it.
    assert len(list(Path("runs/s").glob("*/*/fold1"))) == 2
    words = [
        "Before, in rung 0: 3 trials at about 1/3",
        "Against the base configuration",
        "Trained again with another seed, trial 0 scores",
        "On fold 1, by which nothing",
    ]
    printed, page = capsys.readouterr().out, Path("runs/s/study.html").read_text()
    for word in words:
        assert word in printed
        assert word in page
    for other, expected in (
        ("hold_out", "another hold-out (1, not 0)"),
        ("halving", "another hal"),
    ):
        assert tune(**changed | {other: "0" if other == "hold_out" else "1"}) == 2
        assert expected in capsys.readouterr().err


def test_the_space_is_printed(workplace, capsys):
    assert guarded(lambda: run_command(["--space"])) == 0
    assert "loss.kappa" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"storage": "postgresql://nobody@127.0.0.1:1/x"}, "storage"),
        ({"storage": "study.txt"}, "ends in .log"),
        ({"study": "../s"}, "no name"),
        ({"data": "x\udcff"}, "is no text in UTF-8, as the records of a study are: rename"),
        ({"trials": "0"}, "--trials"),
        ({"narrow": "absent.yaml"}, "absent.yaml"),
        ({"training__lrr": "1"}, "training.lr"),
        ({"sampler": "grid", "narrow": "vast.yaml"}, "more than 10000 points"),
        ({"hold_out": "2"}, "--hold-out is 2, but the folds are 0 to 1"),
        ({"hold_out": "0"}, "3 folds or more"),
        ({"halving": "0"}, "--halving"),
        ({"halving": "3"}, "--halving 3 is too much for 2 epochs"),
    ],
)
def test_bad_input_is_one_sentence(workplace, capsys, changed, expected):
    Path("vast.yaml").write_text("head: boundary\n")
    assert tune(**changed) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_another_space_data_or_base_is_refused(workplace, capsys):
    assert tune(trials="1") == 0
    capsys.readouterr()
    Path("space.yaml").write_text(Path("space.yaml").read_text().replace("1e-2", "1e-1"))
    assert tune(trials="2") == 2
    assert "training.lr" in capsys.readouterr().err
    Path("space.yaml").write_text(Path("space.yaml").read_text().replace("1e-1", "1e-2"))
    assert tune(trials="2", training__steps="6") == 2
    assert "another configuration (training.steps: 4 → 6)" in capsys.readouterr().err
    assert tune(trials="2", data=DATA.replace("size=32", "size=48")) == 2
    assert "another data" in capsys.readouterr().err
