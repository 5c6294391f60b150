"""What is beyond chance in a study, on made-up scores whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from compkit.tuning.evidence import chance_of_best, effect


def points(x: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"number": range(len(x)), "x": x, "score": score})


def test_trials_within_noise_of_the_best_are_tied_and_worse_ones_are_not():
    rng = np.random.default_rng(0)
    best = rng.uniform(0.6, 0.9, 40)
    noise = rng.normal(0, 0.03, 40)
    trials = [best, best - 0.002 + noise - noise.mean(), best - 0.05 + noise, best - 0.01]
    p = chance_of_best(np.array(trials), 0)
    assert p[0] == 1
    assert p[1] > 0.5
    assert p[2] < 0.001
    assert p[3] == 0  # worse by the same in every image
    assert chance_of_best(np.full((3, 5), 0.5), 0).tolist() == [1, 1, 1]
    assert chance_of_best(np.array([[0.6], [0.5]]), 0).tolist() == [1, 1]
    assert chance_of_best(np.array([[0.6, 0.7]]), 0).tolist() == [1]


def test_a_truly_best_trial_is_seldom_left_out():
    rng = np.random.default_rng(0)
    left_out = 0
    for _ in range(400):
        scores = rng.normal(0, 0.1, 30) + rng.normal(0, 0.03, (15, 30))  # any of them is best
        left_out += chance_of_best(scores, int(scores.mean(axis=1).argmax()))[0] < 0.05
    assert left_out <= 400 * 0.05


def test_copies_of_images_are_no_evidence():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, 12) + rng.normal(0, 0.03, (6, 12))
    best = int(scores.mean(axis=1).argmax())
    copies, groups = np.repeat(scores, 20, axis=1), np.repeat([f"p{n}" for n in range(12)], 20)
    p = chance_of_best(scores, best)
    assert chance_of_best(copies, best, groups) == pytest.approx(p)
    assert (chance_of_best(copies, best) < p)[p < 1].all()
    assert chance_of_best(scores, best, np.zeros(12)).tolist() == [1] * 6


def test_a_truly_best_trial_is_seldom_left_out_for_groups_that_differ_by_chance():
    rng = np.random.default_rng(0)
    left_out, groups = np.zeros(2), np.repeat(np.arange(12), 10)
    for _ in range(200):
        scores = rng.normal(0, 0.03, (8, 12))[:, groups] + rng.normal(0, 0.01, (8, 120))
        best = int(scores.mean(axis=1).argmax())
        for kind, given in enumerate((groups, None)):
            left_out[kind] += chance_of_best(scores, best, given)[0] < 0.05
    assert left_out[0] <= 200 * 0.05
    assert left_out[1] > 200 * 0.2


def test_an_effect_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(0, np.log(128), 40))
    noise = rng.normal(0, 0.01, 40)
    rising = effect("κ", points(x, 0.01 * np.log(x) + noise))
    assert rising.visible
    assert rising.rank > 0.5
    peaked = effect("κ", points(x, -0.02 * abs(np.log(x / 11)) + noise))
    assert peaked.visible
    assert peaked.p_rank > 0.025  # an optimum in between is no trend
    best = peaked.bins.loc[peaked.bins["mean"].idxmax()]
    assert best["low"] < 15
    assert best["high"] > 7
    assert "κ mattered, over 40 trials" in peaked.sentence()


def test_chance_seldom_is_an_effect():
    rng = np.random.default_rng(0)
    found = [effect("κ", points(rng.random(30), rng.normal(0, 1, 30))) for _ in range(200)]
    assert sum(one.visible for one in found) <= 14
    assert "No effect of κ beyond chance over 30 trials" in found[0].sentence()
    assert "would not show" in found[0].sentence()


def test_what_cannot_be_told_is_said():
    x = np.arange(1.0, 21)
    assert "Too few trials" in effect("κ", points(x[:5], x[:5])).sentence()
    assert "hardly varied" in effect("κ", points(np.full(20, 8.0), x)).sentence()
    assert "score the same" in effect("κ", points(x, np.full(20, 0.7))).sentence()
    two = effect("κ", points(np.repeat([1.0, 64.0], 10), x))
    assert two.visible
    assert two.bins["count"].tolist() == [10, 10]
