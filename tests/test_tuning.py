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
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.entry import guarded
from compkit.run import Run, claim_directory
from compkit.training.callbacks import Watch
from compkit.training.command import parse
from compkit.training.fit import fit_fold
from compkit.tuning import search as searches
from compkit.tuning import storage as storages
from compkit.tuning.command import run_command
from compkit.tuning.search import search
from compkit.tuning.space import SHIPPED, Space
from compkit.tuning.storage import open_study
from compkit.tuning.trial import Objective, group_scores

ROOT = Path(__file__).parents[1]
DATABASE = "sqlite:///runs/s/study.db"
DATA = "phantom:size=32,labelled=6,unlabelled=0,test=1"
#: What of the shipped space is searched here; the rest is left to the configuration.
SPACE = """
loss.terms: {choice: [{dice: 1}, {cross_entropy: 1}]}
training.lr: {float: [1e-4, 1e-2], log: true}
head: foreground
"""
SETTINGS = {
    "--encoders": "[resnet10t]", "--folds.k": "2", "--input.batch": "2", "--training.steps": "4",
    "--training.steps_per_epoch": "2", "--training.warmup": "1", "--inference.views": "[identity]",
}  # fmt: skip


#: Runs tune.py, but that a worker is taken for dead after seconds.
WORKER = """
import sys
from compkit.tuning import storage
storage.BEAT, storage.GRACE = 1, 5
from compkit.entry import guarded
from compkit.tuning.command import run_command
sys.exit(guarded(lambda: run_command(sys.argv[1:])))
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    others = [name for name in yaml.safe_load(SHIPPED.read_text()) if f"{name}:" not in SPACE]
    Path("space.yaml").write_text(SPACE + "".join(f"{name}: null\n" for name in others))
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
    command = [sys.executable, "-c", WORKER, *arguments(**changed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def loaded(storage: str = DATABASE) -> optuna.Study:
    journal = storage.endswith(".log")
    opened = JournalStorage(JournalFileBackend(storage)) if journal else storage
    return optuna.load_study(study_name="s", storage=opened)


def states(storage: str = DATABASE) -> list[TrialState]:
    return [trial.state for trial in loaded(storage).get_trials(deepcopy=False)]


@pytest.mark.slow
def test_a_study_ends_in_settings_that_train_py_takes_and_is_continued(workplace, capsys):
    assert tune(trials="2", retrain="1") == 0
    printed, told = capsys.readouterr()
    assert "another seed" in printed
    assert "base configuration" in printed
    assert loaded().trials[0].user_attrs["base"]
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
@pytest.mark.parametrize("storage", [DATABASE, "runs/s/study.log"])
def test_a_killed_workers_trial_goes_on(workplace, storage):
    changed = {"trials": "1", "storage": storage, "pruner": "halving",
               "training__steps": "24", "training__steps_per_epoch": "2"}  # fmt: skip
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
    assert list(found[-1].intermediate_values) == list(range(1, 2 * 12 + 1))


class Drawing:
    """An objective that scores what is drawn; a trial for which `ends` is true kills its worker."""

    number = None

    def __init__(self, ends: Callable[[optuna.Trial], bool] = lambda _: False) -> None:
        self.ends = ends

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        drawn = [trial.suggest_float(name, 0, 1) for name in "abc"]
        trial.set_user_attr("run", str(drawn))
        if self.ends(trial):
            time.sleep(0.2)  # the first sign of life is given by another thread
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(drawn)


def run_trials(storage: str, trials: int, objective: Drawing, sampler: str = "random") -> None:
    study = open_study("s", storage, optuna.pruners.NopPruner(), {"base": to_plain(RunConfig())})
    search(study, objective, Path("runs/s"), trials, sampler, seed=0)


@pytest.fixture
def short_lives(monkeypatch):
    for module, name, seconds in ((storages, "BEAT", 1), (storages, "GRACE", 2),
                                  (searches, "BEAT", 0.2), (searches, "GRACE", 2)):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@pytest.mark.parametrize("storage", ["sqlite:///s.db", "s.log"])
def test_what_a_dead_worker_began_is_retried_with_its_settings(workplace, short_lives, storage):
    if not (child := os.fork()):
        run_trials(storage, 3, Drawing(lambda trial: trial.number == 1))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    run_trials(storage, 3, Drawing())
    found = loaded(storage=storage).get_trials()
    assert sorted(trial.state.name for trial in found) == ["COMPLETE"] * 3 + ["FAIL"]
    again = [trial for trial in found if trial.system_attrs.get("failed_trial") == 1]
    assert [trial.params for trial in again] == [found[1].params]
    complete = [t for t in found if t.state == TrialState.COMPLETE]
    assert len({trial.params["a"] for trial in complete}) == 3


def test_a_trial_that_kills_its_workers_is_given_up(workplace, short_lives):
    for _ in range(5):
        if not (child := os.fork()):
            run_trials("s.log", 1, Drawing(lambda _: True))
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(2.2)
    assert [trial.state for trial in loaded(storage="s.log").get_trials()] == [TrialState.FAIL] * 4


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_goes_on_draws_nothing_twice(workplace, sampler):
    for trials in (4, 8):
        run_trials("sqlite:///s.db", trials, Drawing(), sampler)
    found = loaded(storage="sqlite:///s.db").get_trials()
    assert len({trial.params["a"] for trial in found}) == len(found) == 8


def test_what_was_taken_over_by_another_worker_is_left_to_it(workplace, capsys):
    class Suspended(Objective):
        def __init__(self) -> None:
            super().__init__(None, None, "none")
            self.began = 0

        def _run(self, trial: optuna.Trial) -> float:
            self.began += 1
            trial.set_user_attr("run", str(trial.number))
            if self.began == 1:  # as if this one had been suspended and retried elsewhere
                storage = trial.study._storage
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                storages.retry(trial.study, trial.study.trials[0])
                trial.report(0.5, 1)
            return 0.5

    run_trials("sqlite:///s.db", 1, Suspended())
    assert "taken over by another worker" in capsys.readouterr().err
    assert states("sqlite:///s.db") == [TrialState.FAIL, TrialState.COMPLETE]


def test_what_a_machine_refuses_a_trial_is_recorded_as_a_sentence():
    def refused(_config):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    study = optuna.create_study()
    objective = Objective(Space(RunConfig(), {}, {}), SimpleNamespace(owned=refused), "none")
    with pytest.raises(RuntimeError):
        objective(study.ask())
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
    found = states(storage)
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
def test_a_grid_has_no_holes_and_nothing_else(workplace):
    text = (ROOT / "configs/tune-kappa.yaml").read_text()
    text += "loss.kappa: {choice: [4.0, 32.0], when: {loss.terms: {tvmf_dice: 1}}}\n"
    text += "loss.adaptive_lambda: {choice: [32.0], when: {loss.terms: {adaptive_tvmf_dice: 1}}}\n"
    Path("grid.yaml").write_text(text)
    assert tune(sampler="grid", narrow="grid.yaml", pruner="none", trials="2") == 0
    assert tune(sampler="grid", narrow="grid.yaml", pruner="none", trials="9") == 0
    trials = loaded().get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert {tuple(sorted(trial.params.items())) for trial in trials} == {
        (),  # the configuration, whose loss is another
        (("loss.kappa", 4.0), ("loss.terms", "tvmf_dice: 1")),
        (("loss.kappa", 32.0), ("loss.terms", "tvmf_dice: 1")),
        (("loss.adaptive_lambda", 32.0), ("loss.terms", "adaptive_tvmf_dice: 1")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["halving", "hyperband", "wilcoxon"])
def test_a_pruned_trials_run_goes_no_further(workplace, monkeypatch, pruner):
    """Scores are replaced by the learning rate, which is hopeless in all trials but the first."""
    hopeless = Path("space.yaml").read_text().replace("1e-4, 1e-2", "1e-9, 2e-9")
    Path("space.yaml").write_text(hopeless)

    def fit(run: Run, encoder: str, fold: int, label: str, watch: Watch) -> None:
        fit_fold(run, encoder, fold, label, lambda epoch, _: watch(epoch, run.config.training.lr))

    def scores(run: Run) -> dict[int, float]:
        return dict.fromkeys(group_scores(run), run.config.training.lr)

    monkeypatch.setattr("compkit.tuning.trial.fit_fold", fit)
    monkeypatch.setattr("compkit.tuning.trial.group_scores", scores)
    assert tune(pruner=pruner, trials="4", data=DATA.replace("6", "16")) == 0
    trials = loaded().get_trials()
    assert trials[0].state == TrialState.COMPLETE  # the configuration itself is never pruned
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        run = Path("runs/s") / trial.user_attrs["run"]
        assert len(list(run.glob("*/fold*"))) == 1
        assert not list(run.rglob("*.ckpt"))


@pytest.mark.slow
def test_the_best_and_the_base_are_scored_on_the_hold_out(workplace, capsys):
    changed = {"trials": "2", "hold_out": "1", "retrain": "1", "folds__k": "3", "pruner": "none"}
    assert tune(**changed) == 0
    study = loaded()
    again, held = study.user_attrs["confirmed"]
    assert (again["trial"], again["fold"], held["fold"]) == (1, None, 1)
    searched = len(study.best_trial.user_attrs["image_scores"])
    assert searched + len(held["best"]) == searched + len(held["base"]) == 6
    # What was trained on the hold-out's behalf are the two networks that are scored on it.
    assert len(list(Path("runs/s").glob("*/*/fold1"))) == 2
    printed, page = capsys.readouterr().out, Path("runs/s/study.html").read_text()
    for word in ("another seed, trial 1 scores", "On fold 1, by which nothing", "the base conf"):
        assert word in printed
        assert word in page
    assert tune(**changed | {"hold_out": "0"}) == 2
    assert "made of something else (hold-out: 1 → 0)" in capsys.readouterr().err


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
        ({"sampler": "grid", "narrow": "vast.yaml"}, "more than 1000 points"),
        ({"pruner": "halving", "narrow": "longer.yaml"}, "but training.steps varies: fix it"),
        ({"hold_out": "2"}, "--hold-out is 2, but the folds are 0 to 1"),
        ({"hold_out": "0"}, "3 folds or more"),
    ],
)
def test_bad_input_is_one_sentence(workplace, capsys, changed, expected):
    Path("vast.yaml").write_text("head: boundary\n")
    Path("longer.yaml").write_text("training.steps: {choice: [4, 8]}\n")
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
    assert "something else (training.steps: 4 → 6)" in capsys.readouterr().err
    assert tune(trials="2", data=DATA.replace("size=32", "size=48")) == 2
    assert "something else (data: " in capsys.readouterr().err


def test_a_study_of_an_older_compkit_is_refused(workplace, capsys):
    Path("runs/s").mkdir(parents=True)
    old = optuna.create_study(study_name="s", storage=DATABASE, direction="maximize")
    old.set_user_attr("data", "0123")
    assert tune() == 2
    assert "made by an older compkit" in capsys.readouterr().err
