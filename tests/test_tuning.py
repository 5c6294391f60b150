"""Studies on tiny phantoms: continued, killed, shared between workers, refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from studies import (
    DATA,
    DATABASE,
    loaded,
    only_if_all,
    states,
    study_place,
    tune,
)

from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.entry import guarded
from compkit.root import claim
from compkit.run import Run
from compkit.training.callbacks import Watch
from compkit.training.command import parse
from compkit.training.fit import fit_fold
from compkit.tuning import search as searches
from compkit.tuning import storage as storages
from compkit.tuning.command import run_command
from compkit.tuning.search import search
from compkit.tuning.space import Space
from compkit.tuning.storage import open_study
from compkit.tuning.trial import Objective, group_scores

ROOT = Path(__file__).parents[1]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    return study_place(tmp_path, monkeypatch)


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
    claim("s", "study.db")


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
@pytest.mark.parametrize(
    "pruner", ["halving", pytest.param("hyperband", marks=only_if_all), "wilcoxon"]
)
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


@pytest.mark.parametrize("text", ["my notes", "my notes\n", '{"a": 1}\n', "[1]\n"])
def test_a_file_that_is_no_journal_stays_as_it_is(workplace, capsys, text):
    Path("notes.log").write_text(text)
    assert tune(storage="notes.log") == 2
    assert "notes.log, line 1 is not of a study's journal" in capsys.readouterr().err
    assert Path("notes.log").read_text() == text


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///:memory:"])
def test_a_storage_that_keeps_nothing_is_refused(workplace, capsys, storage):
    assert tune(storage=storage) == 2
    assert "keeps nothing" in capsys.readouterr().err


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


def test_a_crop_beyond_the_images_is_refused(workplace, capsys):
    assert tune(input__crop="64") == 2
    assert "input.crop is 64, but the images are 32 pixels wide" in capsys.readouterr().err


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
