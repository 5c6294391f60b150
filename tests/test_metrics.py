"""The leaderboard replica: exact to scikit-learn, invariant to names, explicit at the edges."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sklearn_metrics

from compkit.errors import CompkitError
from compkit.metrics.bootstrap import interval, mean, standard_error
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS, adjusted_rand_index, contingency, rand_index
from compkit.metrics.regions import MEASURES, match_regions, pixel_scores
from compkit.regions import keep_largest
from compkit.submission.report import report_of, score_image, score_maps

many = settings(max_examples=150)
ids = st.sampled_from([0, 1, 2, 3, 7, 255])
far_ids = st.sampled_from([-5, 0, 1, 65535, 1 << 20, 1 << 40])


@st.composite
def pairs(draw: st.DrawFn, elements=ids, dtype="u1") -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(0, 60))
    # Runs, because label maps are counted by runs and noise is not.
    repeat = draw(st.sampled_from([1, 20]))
    arrays = [draw(hnp.arrays(dtype, size, elements=elements)) for _ in range(2)]
    return np.repeat(arrays[0], repeat), np.repeat(arrays[1], repeat)


def blobs(seed: int, regions: int, size: int) -> np.ndarray:
    """Return a label map of smooth regions over background, uint8."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.uint8)
    rows, columns = np.ogrid[:size, :size]
    for region, (y, x, radius) in enumerate(rng.random((regions, 3)), 1):
        far = (rows - y * size) ** 2 + (columns - x * size) ** 2
        labels[far < (radius * size / 8) ** 2] = region
    return labels


def assert_equals_sklearn(truth: np.ndarray, prediction: np.ndarray) -> None:
    truth, prediction = truth.ravel(), prediction.ravel()
    inside = truth != 0
    wanted = (
        sklearn_metrics.adjusted_rand_score(truth, prediction),
        sklearn_metrics.adjusted_rand_score(truth[inside], prediction[inside]),
        sklearn_metrics.rand_score(truth[inside], prediction[inside]),
    )
    found = image_scores(truth, prediction)
    assert tuple(found) == METRICS
    np.testing.assert_allclose(list(found.values()), wanted, rtol=0, atol=1e-12)
    table = contingency(truth, prediction)
    assert rand_index(table) == pytest.approx(
        sklearn_metrics.rand_score(truth, prediction), abs=1e-12
    )


@many
@given(pairs())
def test_equal_to_sklearn(pair):
    assert_equals_sklearn(*pair)


@many
@given(pairs(elements=far_ids, dtype="i8"))
def test_equal_to_sklearn_with_any_integers(pair):
    assert_equals_sklearn(*pair)


CASES = {
    "single region": (np.ones((8, 8), int), np.ones((8, 8), int)),
    "single region against its halves": (np.ones((8, 8), int), np.arange(64).reshape(8, 8) // 32),
    "all background": (np.zeros((8, 8), int), np.zeros((8, 8), int)),
    "background against regions": (np.zeros((8, 8), int), np.arange(64).reshape(8, 8)),
    "every pixel its own": (np.arange(64).reshape(8, 8), np.arange(64)[::-1].reshape(8, 8)),
    "one pixel": (np.ones((1, 1), int), np.zeros((1, 1), int)),
    "no pixel": (np.ones((0, 0), int), np.zeros((0, 0), int)),
    "255 regions at 512": (blobs(0, 255, 512), blobs(1, 255, 512)),
    "256 ids of noise at 512": tuple(np.random.default_rng(0).integers(0, 256, (2, 512, 512))),
    "identical at 512": (blobs(0, 255, 512), blobs(0, 255, 512)),
    "two halves at 512": (np.indices((512, 512))[0] // 256, np.indices((512, 512))[1] // 256),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_sklearn_at_the_edges(case):
    assert_equals_sklearn(*CASES[case])


def test_pairs_counted_by_hand():
    truth, prediction = np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6])
    # Pairs: 1 together in both, 1 in the truth only, 2 in the prediction only, 2 in neither.
    table = contingency(truth, prediction)
    assert rand_index(table) == 3 / 6
    assert adjusted_rand_index(table) == (1 - 2 * 3 / 6) / ((2 + 3) / 2 - 2 * 3 / 6)


@many
@given(pairs(), st.permutations(range(1, 256)), st.permutations(range(1, 256)))
def test_names_of_regions_do_not_matter(pair, one, other):
    one, other = np.array([0, *one], np.uint8), np.array([0, *other], np.uint8)
    renamed = score_image(one[pair[0]], other[pair[1]])[0] if pair[0].size else {}
    wanted = score_image(*pair)[0] if pair[0].size else {}
    # Equal matchings may differ in the parts that make the same total IoU.
    exact = [name for name in wanted if not name.startswith("region_")] + ["region_iou"]
    assert [renamed.get(name) for name in exact] == pytest.approx([wanted.get(n) for n in exact])


@many
@given(pairs(elements=far_ids, dtype="i8"))
def test_contingency_counts_every_pixel(pair):
    table = contingency(*pair)
    assert table.dtype == np.int64
    assert table.sum() == pair[0].size
    assert table[0].sum() == np.count_nonzero(pair[0] == 0)
    assert table[:, 0].sum() == np.count_nonzero(pair[1] == 0)
    for axis, labels in ((1, pair[0]), (0, pair[1])):
        sizes = table.sum(axis=axis)[1:]
        wanted = np.unique(labels[labels != 0], return_counts=True)[1]
        np.testing.assert_array_equal(sizes[sizes > 0], wanted)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        contingency(np.zeros((2, 2), int), np.zeros(4, int))
    with pytest.raises(ValueError, match="shapes differ"):
        pixel_scores(np.zeros((2, 2), int), np.zeros(4, int))


@many
@given(pairs().filter(lambda pair: pair[0].any() and pair[1].any()))
def test_pixel_scores_equal_sklearn(pair):
    t, p = (labels != 0 for labels in pair)
    wanted = {
        "accuracy": sklearn_metrics.accuracy_score(t, p),
        "iou": sklearn_metrics.jaccard_score(t, p),
        "dice": sklearn_metrics.f1_score(t, p),
        "precision": sklearn_metrics.precision_score(t, p),
        "recall": sklearn_metrics.recall_score(t, p),
    }
    assert pixel_scores(*pair) == pytest.approx(wanted, abs=1e-12)


def test_empty_masks():
    empty, full = np.zeros(4, bool), np.array([True, False, False, False])
    assert set(pixel_scores(empty, empty).values()) == {1.0}
    for pair in ((empty, full), (full, empty)):
        assert pixel_scores(*pair) == dict.fromkeys(MEASURES, 0.0) | {"accuracy": 0.75}
        assert match_regions(contingency(*(mask.astype(int) for mask in pair))).scores["iou"] == 0
    assert set(
        match_regions(contingency(empty.astype(int), empty.astype(int))).scores.values()
    ) == {1.0}


def test_regions_matched_by_hand():
    truth = np.array([1] * 6 + [2] * 4 + [0] * 10)
    prediction = np.array([9] * 4 + [8] * 5 + [0] * 11)
    # Region 1 takes 9 (IoU 4/6), region 2 takes 8 (IoU 3/6).
    assert match_regions(contingency(truth, prediction)).scores == pytest.approx(
        {
            "accuracy": (18 / 20 + 17 / 20) / 2,
            "iou": (4 / 6 + 3 / 6) / 2,
            "dice": (8 / 10 + 6 / 9) / 2,
            "precision": (1 + 3 / 5) / 2,
            "recall": (4 / 6 + 3 / 4) / 2,
        }
    )


@settings(max_examples=60)
@given(pairs(elements=st.integers(0, 4)))
def test_matching_is_the_best_of_all(pair):
    table = contingency(*pair)
    table = table[np.ix_(*(np.r_[0, np.flatnonzero(table.sum(a)[1:]) + 1] for a in (1, 0)))]
    inner, rows, columns = table[1:, 1:], table.sum(1)[1:], table.sum(0)[1:]
    if not inner.size:
        return
    iou = inner / (rows[:, None] + columns - inner)
    iou = iou if iou.shape[0] <= iou.shape[1] else iou.T
    choices = itertools.permutations(range(iou.shape[1]), iou.shape[0])
    best = max(iou[range(len(iou)), choice].sum() for choice in choices)
    assert match_regions(table).scores["iou"] == pytest.approx(best / len(rows))


def test_interval_holds_the_mean_and_narrows():
    values = np.random.default_rng(0).random(400)
    low, high = interval(values)
    assert low < values.mean() < high
    # A normal approximation of the same interval.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    few = interval(values[:25])
    assert few[1] - few[0] > 2 * (high - low)
    assert interval(values) == (low, high) != interval(values, seed=1)
    wider = interval(values, confidence=0.99)
    assert wider[0] < low < high < wider[1]


@pytest.mark.parametrize("count", [2, 30])
def test_interval_of_equal_values_is_that_value(count):
    assert interval(np.full(count, 0.7)) == pytest.approx((0.7, 0.7), abs=1e-12)


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_groups_are_resampled_whatever_they_are_called(images, seed):
    rng = np.random.default_rng(seed)
    values, groups = rng.random(images), np.append([0, 1], rng.integers(0, 5, images - 2))
    alone = rng.permutation(images)
    assert interval(values, alone) == interval(values)
    assert standard_error(values, alone) == standard_error(values)
    names = np.array(["b", "c", "a", "10", "9"])[groups]
    assert interval(values, names) == interval(values, groups)
    assert standard_error(values, names.tolist()) == standard_error(values, groups)
    # Copies of an image in its group say nothing new.
    twice, of = np.tile(values, 2), np.tile(groups, 2)
    assert interval(twice, of) == pytest.approx(interval(values, groups), abs=1e-12)
    assert standard_error(twice, of) == pytest.approx(standard_error(values, groups))
    assert standard_error(twice) < standard_error(values)


def test_one_group_has_no_interval():
    values = np.random.default_rng(0).random(9)
    for args in ((values, np.zeros(9)), (values, ["p"] * 9), (values[:1],)):
        assert np.isnan(interval(*args)).all()
        assert np.isnan(standard_error(*args))


def test_the_standard_error_without_groups_is_the_usual_one():
    values = np.random.default_rng(0).random((3, 20))
    np.testing.assert_allclose(standard_error(values), stats.sem(values, axis=1))


@given(
    hnp.arrays(float, st.integers(3, 30), elements=st.floats(-1, 1, width=16)),
    st.integers(0, 2**32 - 1),
)
def test_an_image_of_which_a_metric_says_nothing_changes_nothing(values, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 6, len(values))
    places = np.sort(rng.integers(0, len(values) + 1, 5))
    more, of_more = np.insert(values, places, np.nan), np.insert(groups, places, 9)
    assert mean(more) == pytest.approx(mean(values))
    assert standard_error(more, of_more) == pytest.approx(
        standard_error(values, groups), nan_ok=True
    )
    assert interval(more, of_more) == pytest.approx(interval(values, groups), nan_ok=True)


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(CompkitError, match="says nothing of any of the images"):
        mean(np.array([[0.5, np.nan], [0.25, np.nan]]), axis=0)


def test_intervals_of_groups_hold_the_truth_as_often_as_they_say():
    """40 groups of 1 to 12 images, alike within a group: 95 % of groups, half of images."""
    rng = np.random.default_rng(0)
    held, means, errors = np.zeros(2), [], []
    for _ in range(200):
        groups = np.repeat(np.arange(40), rng.integers(1, 13, 40))
        values = rng.normal(0, 1, 40)[groups] + rng.normal(0, 0.3, len(groups))
        for kind, known in enumerate((groups, None)):
            low, high = interval(values, known, resamples=400)
            held[kind] += low < 0 < high
        means.append(values.mean())
        errors.append(standard_error(values, groups))
    assert 0.90 <= held[0] / 200 <= 0.98
    assert held[1] / 200 < 0.7
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def label_maps(count: int = 4) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    truth = {f"{seed}.png": blobs(seed, 9, 32) for seed in range(count)}
    return truth, {name: np.roll(each, 1, axis=0) for name, each in truth.items()}


def test_report_of_tables():
    truth, prediction = label_maps()
    report = score_maps(truth, prediction, "x.csv")
    assert list(report.scores)[:3] == list(METRICS)
    third = score_image(truth["2.png"], prediction["2.png"])[0]
    assert {name: values[2] for name, values in report.scores.items()} == third
    wanted = [
        sklearn_metrics.adjusted_rand_score(t.ravel(), p.ravel())
        for t, p in zip(truth.values(), prediction.values(), strict=True)
    ]
    assert report.means["adjusted_all"] == pytest.approx(np.mean(wanted), abs=1e-12)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["per_image"]["2.png"] == third
    for name, (low, high) in plain["intervals"].items():
        assert low <= plain["means"][name] <= high


def test_a_single_image_has_no_interval():
    report = score_maps(*label_maps(1), "x.csv").as_dict()
    assert set(report["intervals"].values()) == {None}
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("images", "size", "sentence"),
    [
        (["0.png", "1.png", "2.png"], 32, r"x\.csv has no column 3\.png"),
        ([*(f"{i}.png" for i in range(6))], 32, r"column 4\.png and 1 more"),
        (["0.png", "2.png", "1.png", "3.png"], 32, r"column 2 is 2\.png where 1\.png is wanted"),
        (["0.png", "1.png", "2.png", "3.png"], 16, "16×16 pixels.*32×32"),
    ],
)
def test_report_refuses_other_images(images, size, sentence):
    truth, _ = label_maps()
    prediction = dict.fromkeys(images, np.zeros((size, size), np.uint8))
    with pytest.raises(CompkitError, match=sentence):
        score_maps(truth, prediction, "x.csv")


@many
@given(hnp.arrays("i4", (6, 6), elements=st.integers(0, 9)), st.integers(0, 12))
def test_keep_largest(labels, limit):
    kept, dropped = keep_largest(labels, limit)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    wanted = sorted(sizes[sizes > 0], reverse=True)
    assert dropped == max(0, len(wanted) - limit)
    assert kept.dtype == labels.dtype
    np.testing.assert_array_equal(np.bincount(kept.ravel())[1:], wanted[:limit])
    # What is kept is cut as before, and nothing else is touched.
    inside = kept > 0
    assert not (inside & (labels == 0)).any()
    assert adjusted_rand_index(contingency(labels[inside], kept[inside])) == 1


def test_regions_by_size():
    truth = np.zeros((40, 50), np.uint8)
    truth[0, 0], truth[2, :4], truth[10:30, 10:40] = 1, 2, 3  # 0.05 %, 0.2 % and 30 % of 2,000
    prediction = np.where(truth == 2, 9, 0)
    prediction[10:30, 10:25] = 5
    report = report_of(("a.png",), [(truth, prediction)])
    assert report.by_size == {
        "under 0.1 %": (1, 0.0), "0.1–0.3 %": (1, 1.0), "over 3 %": (1, 0.5),
    }  # fmt: skip
    assert report.as_dict()["region_iou_by_size"]["over 3 %"] == {"regions": 1, "iou": 0.5}
