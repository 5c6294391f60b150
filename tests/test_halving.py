"""Successive halving: what a rung costs, who goes up, and several workers, without training."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from compkit.config import InferenceConfig, InputConfig, RunConfig, TrainingConfig
from compkit.config.check import check
from compkit.tuning import workers
from compkit.tuning.halving import promote, reduced
from compkit.tuning.space import read_space
from compkit.tuning.study import open_study
from compkit.tuning.workers import Rung, run_trials

TRAINING = TrainingConfig(steps=1800, steps_per_epoch=100, warmup=90)


@pytest.mark.parametrize(
    ("times", "side", "given", "size", "epochs"),
    [
        (1, 300, InputConfig(), None, 18),
        (3, 128, InputConfig(), None, 6),
        (9, 128, InputConfig(), None, 2),
        (81, 128, InputConfig(), None, 1),
        (3, 512, InputConfig(), 384, 11),
        (9, 512, InputConfig(), 288, 6),
        (3, 512, InputConfig(size=128), 128, 6),
        (3, 64, InputConfig(size=256), 192, 11),
        (3, 512, InputConfig(crop=128), None, 6),
    ],
)
def test_a_lower_rung_trains_for_less(times, side, given, size, epochs):
    config = reduced(RunConfig(input=given, training=TRAINING), times, side)
    check(config)
    assert config.input.size == size
    assert config.training.steps == 100 * epochs
    assert config.training.warmup == 5 * epochs
    work = (size or side) ** 2 * epochs * times
    assert epochs == 1 or work == pytest.approx((given.size or side) ** 2 * 18, rel=0.1)


def test_tiles_keep_their_size():
    config = replace(RunConfig(), inference=InferenceConfig(tile=128))
    assert reduced(config, 3, 512).input.size is None


def rung(scores: list[float | None]) -> optuna.Study:
    """Return a study of trials with these scores; None is pruned."""
    study = optuna.create_study(direction="maximize")
    for number, score in enumerate(scores):
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(state=state, value=score, user_attrs={"run": str(score or number)})
        )
    return study


def promoted(lower: optuna.Study, upper: optuna.Study) -> list[int]:
    while promote(lower, upper):
        pass
    return [trial.user_attrs["promoted"] for trial in upper.get_trials()]


def test_the_best_third_goes_up_once():
    upper = optuna.create_study(direction="maximize")
    assert promoted(rung([0.1, 0.2]), upper) == []
    assert promoted(rung([0.1, 0.2, 0.3]), upper) == [2]
    assert promoted(rung([0.1, 0.2, 0.3, None, 0.5, None]), upper) == [2, 4]
    assert promoted(rung([0.1, 0.2, 0.3, None, 0.5, None]), upper) == [2, 4]


def test_equal_settings_go_up_once():
    upper = optuna.create_study(direction="maximize")
    assert promoted(rung([0.3, 0.3, 0.3, 0.1, 0.2, 0.05, 0.02, 0.01]), upper) == [0, 4]


def climb(folder: Path, rungs: int, failing: float = 2) -> list[Rung]:
    """Return rungs of one storage, whose trials score their only parameter.

    From `failing` on, trials fail above the first rung.
    """

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("run", str(x))
        if x >= failing and trial.study.study_name != "0":
            trial.set_user_attr("error", "too good")
            raise ValueError
        return x

    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    sampler = optuna.samplers.RandomSampler()
    studies = [
        optuna.create_study(storage=storage, study_name=str(number), sampler=sampler,
                            direction="maximize", load_if_exists=True)
        for number in range(rungs)
    ]  # fmt: skip
    return [Rung(study, objective) for study in studies]


def points(count: int) -> list[dict[str, float]]:
    return [{"x": number / count} for number in range(count)]


@pytest.mark.parametrize("trials, rungs", [(1, 1), (1, 3), (3, 3), (27, 3)])
def test_the_last_rung_is_never_empty(tmp_path, trials, rungs):
    made = climb(tmp_path, rungs)
    run_trials(made, tmp_path, trials, points(trials))
    counts = [len(one.study.get_trials()) for one in made]
    assert counts[0] == trials
    assert all(upper >= max(1, lower // 3) for lower, upper in pairwise(counts))
    assert made[-1].study.best_value == (trials - 1) / trials
    assert not made[-1].has(TrialState.WAITING, TrialState.RUNNING)


def test_where_the_best_fails_above_the_next_goes_up(tmp_path):
    low, high = made = climb(tmp_path, 2, failing=0.75)
    run_trials(made, tmp_path, 4, points(4))
    assert len(low.study.get_trials()) == 4
    assert high.study.best_params == {"x": 0.5}


def test_what_a_dead_worker_began_goes_on_with_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_STARTING", 0)
    low, high = made = climb(tmp_path, 2)
    run_trials(made[:1], tmp_path, 3, points(3))
    assert promote(low.study, high.study)
    assert not high.study.ask().params  # it dies before it asks for anything
    run_trials(made, tmp_path, 3, points(3))
    dead, again = high.study.get_trials()
    assert dead.state == TrialState.FAIL
    assert again.params == {"x": 2 / 3}


def drawing(folder: Path, sampler: str) -> Rung:
    """Return a study as a new process opens it; a trial's score follows from what it draws."""

    def objective(trial: optuna.Trial) -> float:
        score = sum(trial.suggest_float(name, 0, 1) for name in "abc")
        trial.set_user_attr("settings", trial.params)
        return score

    storage = str(folder / "study.log")
    return Rung(open_study("s", storage, sampler, read_space(), RunConfig(), {}), objective)


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_killed_study_draws_what_it_would_have_drawn(tmp_path, monkeypatch, sampler):
    monkeypatch.setattr(workers, "_STARTING", 0)
    drawn = []
    for name, kills in (("whole", {}), ("killed", {2: 0, 5: 2, 11: 1})):
        folder = tmp_path / name
        folder.mkdir()
        for done, answers in kills.items():
            run_trials([drawing(folder, sampler)], folder, done)
            dying = drawing(folder, sampler).study.ask()
            for parameter in "abc"[:answers]:  # it dies as it draws them
                dying.suggest_float(parameter, 0, 1)
        one = drawing(folder, sampler)
        run_trials([one], folder, 13)
        trials = one.study.get_trials(states=[TrialState.COMPLETE])
        drawn.append([trial.params for trial in trials])
    assert drawn[0] == drawn[1]
    assert len({params["a"] for params in drawn[0]}) == 13


def test_workers_of_several_machines_draw_differently(tmp_path):
    asked = [drawing(tmp_path, "random").study.ask() for _ in range(4)]
    assert len({trial.suggest_float("a", 0, 1) for trial in asked}) == 4


def test_workers_try_each_setting_once(tmp_path):
    grid = points(30)
    threads = [
        threading.Thread(target=lambda: run_trials(climb(tmp_path, 3), tmp_path, 30, grid))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second, third = (one.study.get_trials() for one in climb(tmp_path, 3))
    assert sorted(trial.params["x"] for trial in first) == [point["x"] for point in grid]
    for upper in (second, third):
        assert len({trial.params["x"] for trial in upper}) == len(upper)
    assert len(second) >= 10
    assert len(third) >= 3
    assert 29 / 30 in {trial.params["x"] for trial in third}
