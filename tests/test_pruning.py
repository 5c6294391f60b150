"""Trials that are stopped early, and those that are not."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import create_trial

from compkit.tuning.study import FoldPruner
from compkit.tuning.trial import hopeless


def pruned(others: list[float], value: float, step: int) -> bool:
    study = optuna.create_study(direction="maximize", pruner=FoldPruner())
    for other in others:
        for value_there, length in ((other, 10), (0.9, 20)):
            study.add_trial(
                create_trial(value=value_there, intermediate_values={step: value_there},
                             user_attrs={"epochs": length})
            )  # fmt: skip
    trial = study.ask()
    trial.set_user_attr("epochs", 10)
    trial.report(value, step)
    return trial.should_prune()


def test_only_equals_are_compared_and_only_late():
    others = [0.5, 0.6, 0.7, 0.8]
    assert pruned(others, 0.4, step=18)  # epoch 8 of the second fold
    assert not pruned(others, 0.75, step=18)
    assert not pruned(others, 0.4, step=12)  # too early in the fold
    assert not pruned(others[:3], 0.4, step=18)  # too few have come so far


def test_a_trial_is_given_up_only_beyond_chance():
    study = optuna.create_study(direction="maximize")
    images = [f"{number}.png" for number in range(8)]
    assert not hopeless(study, images, np.zeros(8))  # nothing to compare with
    known = dict.fromkeys([*images, "later.png"], 0.8)
    study.add_trial(create_trial(value=0.8, user_attrs={"plain_scores": known}))
    noise = np.tile([0.1, -0.1], 4)
    assert hopeless(study, images, 0.6 + noise)
    assert not hopeless(study, images, 0.78 + noise)
    assert not hopeless(study, images, 0.9 + noise)
    assert hopeless(study, images, np.repeat([0.6, 0.7], 4), np.repeat(["a", "b"], 4))
    assert not hopeless(study, images, 0.6 + noise, ["a"] * 8)  # one group may be odd
    swung = 0.75 + np.repeat([0.1, -0.1], 4)  # of two groups one is better, one is worse
    assert not hopeless(study, images, swung, np.repeat(["a", "b"], 4))
