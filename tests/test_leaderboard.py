"""What public scores tell of local ones, on synthetic scores whose answer is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from compkit.leaderboard.estimates import explain, gap, selection_optimism, shake_up

#: The mean of the highest of K standard normal numbers.
HIGHEST = {2: 0.564, 10: 1.539, 50: 2.249}


def test_gaps_are_exact_and_unknown_where_rows_are_few():
    local = np.array([0.5, 0.6, 0.7, 0.8])
    found = gap(local, local - np.array([0.01, 0.03, 0.01, 0.03]))
    assert found.mean == pytest.approx(-0.02)
    assert found.sd == pytest.approx(0.02 / 3**0.5)
    assert found.rank == pytest.approx(1)
    assert gap(local, -local).rank == pytest.approx(-1)
    assert np.isnan(gap(local[:2], local[:2]).rank)
    assert np.isnan(gap(local, np.full(4, 0.7)).rank)
    assert np.isnan(gap(np.full(4, 0.7), local).rank)
    assert np.isnan(gap(local[:1], local[:1]).sd)


@pytest.mark.parametrize("truth", range(3))
def test_the_metric_that_the_public_scores_follow_is_found(truth):
    rng = np.random.default_rng(truth)
    local = rng.normal(0.8, 0.01, (6, 3))
    public = local[:, truth] - 0.02 + rng.normal(0, 1e-4, 6)
    assert explain(local, public) == (truth, [])


def test_what_noise_cannot_tell_apart_is_said():
    rng = np.random.default_rng(0)
    shared = rng.normal(0.8, 0.02, 8)
    local = np.column_stack([shared, shared + rng.normal(0, 0.001, 8), rng.normal(0.8, 0.02, 8)])
    public = shared + rng.normal(0, 0.002, 8)
    best, rivals = explain(local, public)
    assert {best, *rivals} == {0, 1}  # neither the third nor a constant
    assert explain(local[:2], public[:2])[1]
    unrelated = rng.normal(0.8, 0.02, 8)
    assert 3 in explain(local, unrelated)[1]  # no metric beats a constant


def test_chance_hardly_ever_names_a_metric():
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(100):
        local = rng.normal(0, 0.01, (5, 1)) + rng.normal(0, 0.003, (5, 3))
        named += not explain(local, local.mean(axis=1))[1]
    assert named <= 5


def test_equal_spreads_are_told_apart_by_rank():
    public = np.array([0.70, 0.72, 0.74, 0.76])
    gaps = np.array([0.03, -0.01, -0.01, -0.01])
    local = public[:, None] - np.column_stack([gaps, gaps[[1, 2, 3, 0]]])
    best, rivals = explain(local, public)
    assert gap(local[:, 0], public).rank > gap(local[:, 1], public).rank
    assert (best, 1 in rivals) == (0, True)
    assert explain(local[:, ::-1], public)[0] == 1


def test_identical_submissions_are_no_evidence():
    best, rivals = explain(np.full((5, 3), 0.8), np.full((5,), 0.75))
    assert (best, rivals) == (0, [1, 2, 3])


def test_one_submission_is_not_selected():
    assert selection_optimism(np.random.default_rng(0).random((1, 50))) == 0


@pytest.mark.parametrize("count", HIGHEST)
def test_selection_among_equals_inflates_by_the_mean_of_the_highest(count):
    """What images have in common must not count, only what the submissions' noise does."""
    rng = np.random.default_rng(count)
    found = [
        selection_optimism(rng.normal(0, 1, (count, 100)) + rng.normal(0, 3, 100), resamples=200)
        for _ in range(30)
    ]
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(HIGHEST[count] / 10, abs=4 * error)


def test_a_clear_winner_owes_nothing_to_selection():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, (10, 100))
    scores[3] += 2
    assert selection_optimism(scores) == pytest.approx(0, abs=0.01)


def test_copies_of_images_in_their_group_change_nothing():
    scores = np.random.default_rng(0).random((5, 30))
    copies, groups = np.repeat(scores, 7, axis=1), np.repeat([f"p{n}" for n in range(30)], 7)
    assert selection_optimism(copies, groups) == pytest.approx(selection_optimism(scores))
    assert selection_optimism(copies) < selection_optimism(scores) / 2
    once, many = shake_up(scores, 20), shake_up(copies, 140, groups)
    assert (many.lost, many.swapped) == pytest.approx((once.lost, once.swapped))
    np.testing.assert_allclose(many.first, once.first)


def test_one_group_tells_nothing_of_selection():
    assert np.isnan(selection_optimism(np.random.default_rng(0).random((5, 30)), np.zeros(30)))


def test_two_images_are_enough():
    assert np.isfinite(selection_optimism(np.array([[0.1, 0.9], [0.8, 0.3]])))


def test_a_shake_up_ranks_as_chance_does():
    """One leads by as much as the standard deviation of the lead: it is first in 84 % of draws."""
    sign = np.tile([1.0, -1.0], 50)
    lead, size = 0.1, 100
    scores = np.stack([lead + sign, np.zeros(100), np.full(100, -5.0)])
    found = shake_up(scores, size)
    assert found.first == pytest.approx([0.84, 0.16, 0], abs=0.05)
    assert found.lost == pytest.approx(found.first[1], abs=0.05)
    assert found.swapped == pytest.approx(found.lost, abs=0.05)
    assert shake_up(scores, 100 * size).lost == 0


def test_equal_submissions_share_the_first_place():
    found = shake_up(np.tile(np.random.default_rng(0).random(30), (4, 1)), 15)
    assert found.first == pytest.approx([0.25] * 4)
    assert (found.lost, found.swapped) == (0, 0)


def test_results_are_seeded_and_quick():
    scores = np.random.default_rng(0).random((50, 400))
    start = time.process_time()
    optimism, ranks = selection_optimism(scores), shake_up(scores, 250)
    assert time.process_time() - start < 1
    assert selection_optimism(scores) == optimism
    assert np.array_equal(shake_up(scores, 250).first, ranks.first)
