"""Tuning whatever cuts images, cross-fitted."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compkit.crossfit import Evaluation, cross_fit
from compkit.ensemble.decoder import Decoder
from compkit.metrics.rand import METRICS
from compkit.parameters import Param, defaults_of
from compkit.schema import read_record

SPACE = {
    "a": Param((0, 1, 2)),
    "b": Param(("x", "y")),
    "c": Param((0.5, 0.25), 0, 1),
}
VALUES = product(*(param.values for param in SPACE.values()))
SETTINGS = [dict(zip(SPACE, each, strict=True)) for each in VALUES]
FOLDS = np.array([0, 0, 1, 1, 2, 2])


def tables():
    shape = (len(SETTINGS), len(FOLDS), len(METRICS))
    return hnp.arrays(float, shape, elements=st.floats(0, 1, width=16))


def fitted(table: np.ndarray, starts=({},), folds=FOLDS, groups=None):
    def evaluate(params, _):
        return table[SETTINGS.index(dict(params))]

    return cross_fit(SPACE, evaluate, folds, METRICS[0], "", starts, groups)


@given(tables())
def test_what_is_chosen_is_of_the_space_and_kept_only_if_it_helps(table):
    fit = fitted(table)
    for params in (fit.params, *fit.fold_params.values()):
        assert params in SETTINGS
    assert fit.tuned or fit.params == defaults_of(SPACE)
    if fit.tuned:
        for fold in range(3):
            inside = fold == FOLDS
            row = table[SETTINGS.index(fit.fold_params[str(fold)])]
            np.testing.assert_array_equal(fit.honest[inside], row[inside])


@given(tables(), tables())
def test_what_is_only_told_changes_nothing_that_is_tuned(table, other):
    def evaluate(params, _):
        index = SETTINGS.index(dict(params))
        return np.concatenate([table[index], other[index, :, :1]], axis=1)

    fit, alone = cross_fit(SPACE, evaluate, FOLDS, METRICS[0], "", told=["v_rand"]), fitted(table)
    assert (fit.params, fit.fold_params) == (alone.params, alone.fold_params)
    assert fit.metrics == (*METRICS, "v_rand")
    np.testing.assert_array_equal(fit.honest[:, : len(METRICS)], alone.honest)


@given(tables(), st.permutations(range(len(SETTINGS))), st.integers(0, 2))
def test_no_fold_is_tuned_by_its_own_images(table, order, fold):
    """Whatever its images score, a fold's parameters come from the others."""
    inside, chosen = fold == FOLDS, []
    for codes in (np.arange(len(SETTINGS)), np.array(order)):
        table[:, inside] = codes[:, None, None]  # the score says which setting it is of
        (code,) = set(fitted(table).honest[inside].ravel())
        chosen.append(int(np.flatnonzero(codes == code)[0]))
    assert chosen[0] == chosen[1]


@given(st.integers(0, 2**32 - 1))
def test_an_image_of_which_what_ranks_says_nothing_is_not_tuned_by(seed):
    rng = np.random.default_rng(seed)
    table = rng.random((len(SETTINGS), len(FOLDS) + 2, len(METRICS)))
    table[:, -2:, 0] = np.nan
    without, fit = fitted(table[:, :-2]), fitted(table, folds=np.append(FOLDS, [0, 1]))
    assert (fit.params, fit.fold_params) == (without.params, without.fold_params)
    kept = fit.record(METRICS[0], [])
    assert kept["scores"][METRICS[0]] == pytest.approx(
        without.record(METRICS[0], [])["scores"][METRICS[0]]
    )


def test_a_record_holds_null_where_a_metric_says_nothing(tmp_path):
    table = np.random.default_rng(0).random((len(SETTINGS), len(FOLDS), len(METRICS)))
    table[:, 1, 0] = np.nan
    made = Decoder(head="boundary", **fitted(table).record(METRICS[0], list("abcdef")))
    made.save(tmp_path / "decoder.json")
    assert (
        json.loads((tmp_path / "decoder.json").read_text())["image_scores"][METRICS[0]][1] is None
    )
    read = read_record(Decoder, tmp_path / "decoder.json", "")
    np.testing.assert_equal(read.image_scores, made.image_scores)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_copies_of_images_in_their_group_change_nothing(seed, times):
    table = np.random.default_rng(seed).random((len(SETTINGS), len(FOLDS), len(METRICS)))
    images = np.repeat(np.arange(len(FOLDS)), times)
    once, many = fitted(table), fitted(table[:, images], folds=FOLDS[images], groups=images)
    assert (many.params, many.fold_params) == (once.params, once.fold_params)
    names = [str(image) for image in images]
    kept = many.record(METRICS[0], names)
    assert kept["image_groups"] == names
    for metric, ends in once.record(METRICS[0], ["n"] * len(FOLDS))["intervals"].items():
        assert kept["intervals"][metric] == pytest.approx(ends, abs=1e-12)


def test_a_gain_over_one_group_is_no_gain_and_has_no_interval():
    table = np.zeros((len(SETTINGS), len(FOLDS), len(METRICS)))
    table[1:] = 0.5  # whatever is moved helps in all images
    fit = fitted(table, groups=np.zeros(len(FOLDS)))
    assert fit.params == defaults_of(SPACE)
    assert set(fit.record(METRICS[0], [])["intervals"].values()) == {None}
    assert fitted(table).tuned


def test_a_second_start_finds_what_one_path_misses():
    worth = {(0, "x"): 0.5, (1, "x"): 0.6, (0, "y"): 0.4, (2, "y"): 0.9}
    rows = [worth.get((each["a"], each["b"]), 0.2) for each in SETTINGS]
    table = np.tile(np.array(rows)[:, None, None], (1, len(FOLDS), len(METRICS)))
    assert fitted(table).params["a"] == 1
    assert fitted(table, ({}, {"b": "y"})).params == {"a": 2, "b": "y", "c": 0.5}


def test_cheap_parameters_are_decoded_together_and_score_the_same():
    truths = [np.arange(16).reshape(4, 4) // (2 + index) for index in range(3)]
    seen = []

    def decode(index, params):
        seen.append((index, params["a"], params["b"]))
        return truths[index] * (truths[index] > params["a"])

    together = Evaluation(decode, truths, 0, {"a": SPACE["a"]})
    alone = Evaluation(decode, truths, 0)
    wanted = {repr(params): alone(params) for params in SETTINGS}
    seen.clear()
    for params in SETTINGS:
        np.testing.assert_array_equal(together(params), wanted[repr(params)])
    assert len(seen) == len(set(seen)) * 2  # once a value of c, no more
    assert seen[:3] == [(0, 0, "x"), (0, 1, "x"), (0, 2, "x")]


@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("most", [5, 7, 1000])
def test_a_part_of_many_images_is_tuned_on_and_all_are_scored(count, most):
    rng = np.random.default_rng(count)
    folds = rng.permutation(np.repeat(np.arange(5), count))
    table = rng.random((len(SETTINGS), len(folds), len(METRICS)))
    asked = []

    def evaluate(params, images):
        asked.append(images)
        return np.where(images[:, None], table[SETTINGS.index(dict(params))], np.nan)

    fit = cross_fit(SPACE, evaluate, folds, METRICS[0], "", most=most)
    assert np.isfinite(fit.kept).all() and len(fit.kept) == len(folds)
    tuned_on = asked[0]
    assert tuned_on.sum() == min(most, 5 * count)
    assert np.ptp(np.bincount(folds[tuned_on], minlength=5)) <= 1
    for images in asked:
        inside = len(set(folds[images])) == 1  # what a fold scores by parameters of the others
        assert inside or images.all() or (images == tuned_on).all()


def test_only_images_that_are_asked_for_are_decoded():
    truths, seen = [np.eye(4, dtype=int)] * 3, []

    def decode(index, params):
        seen.append(index)
        return truths[index]

    evaluate, some = Evaluation(decode, truths, 0), np.array([True, False, True])
    assert np.isnan(evaluate(SETTINGS[0], some)[1]).all()
    assert evaluate(SETTINGS[0])[:, 0].tolist() == [1, 1, 1]
    assert seen == [0, 2, 1]
