"""Run lengths: what is written is read back, and what is wrong is told with its line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compkit.errors import CompkitError
from compkit.labels.paint import paint, parted
from compkit.labels.run_lengths import RunLengths, read_runs, rows_of, seems_turned, write_runs
from compkit.regions import numbered

ways = st.builds(RunLengths, down=st.booleans(), first=st.sampled_from([0, 1]))
label_maps = hnp.arrays(
    "u2",
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 3, 999]),
)


def by_id(labels: np.ndarray) -> np.ndarray:
    """Number regions by their ids, as rows are in that order."""
    return np.searchsorted(np.unique(np.append(labels, 0)), labels)


@settings(max_examples=100, deadline=None)
@given(st.lists(label_maps, min_size=1, max_size=3), ways)
def test_label_maps_are_read_as_they_were_written(tmp_path_factory, maps, how):
    path = tmp_path_factory.mktemp("runs") / "x.csv"
    names = [f"image {number}" for number in range(len(maps))]
    write_runs(path, names, maps, how)
    found = read_runs(path, how, {n: m.shape for n, m in zip(names, maps, strict=True)})
    assert list(found) == names
    for name, labels in zip(names, maps, strict=True):
        np.testing.assert_array_equal(found[name].labels, by_id(labels))
        assert (found[name].overlapping, found[name].lost) == (0, 0)


@settings(max_examples=50)
@given(label_maps, ways)
def test_runs_are_those_of_pixels_counted_one_by_one(labels, how):
    rows = rows_of(labels, how)
    pixels = (labels.T if how.down else labels).ravel().tolist()
    for region, runs in zip(sorted({*pixels} - {0}), rows, strict=True):
        numbers = list(map(int, runs.split()))
        covered = [
            start + step - how.first
            for start, length in zip(numbers[::2], numbers[1::2], strict=True)
            for step in range(length)
        ]
        assert covered == [place for place, value in enumerate(pixels) if value == region]
        # Runs are as long as can be.
        pairs = numbers[::2], numbers[1::2], numbers[2::2]
        assert all(a + n < b for a, n, b in zip(*pairs, strict=False))


def test_as_kaggle_has_it():
    labels = np.zeros((4, 3), int)
    labels[1:3, 0], labels[0, 1], labels[3, 2] = 5, 2, 2
    assert rows_of(labels, RunLengths()) == ["5 1 12 1", "2 2"]
    assert rows_of(labels, RunLengths(down=False, first=0)) == ["1 1 11 1", "3 1 6 1"]


BAD = {
    "of no image": ("b,1 2", "line 3: there is no image 'b'"),
    "odd": ("a,1 2 3", "line 3 has 3 numbers"),
    "words": ("a,1 2 x 4", "line 3: runs must be whole numbers with a space between them, not 'x'"),
    "negative": ("a,-1 2", "line 3: runs must be whole numbers"),
    "fractional": ("a,1.5 2", "line 3: runs must be whole numbers"),
    "before the first": ("a,0 2", "the start 0 and the length 2, .* counted from 0"),
    "of no length": ("a,1 0", "line 3: a run has the start 1 and the length 0"),
    "beyond the last": ("a,12 2", r"line 3: a run ends at pixel 13 of an image of 3×4 \(12 pixels"),
    "over one another": ("a,1 3 2 1", "line 3: runs of the region overlap one another"),
    "nothing beside something": ("a,", "line 3: 'a' has a row without runs"),
    "repeated": ("a,1 2", "line 3 repeats line 2, the same runs of 'a': remove one of them"),
    "nothing twice": ("b,\nb,", r"line 4: 'b' has a row without runs, .* \(line 3\)"),
    "cut short": ("b", "the last row has fewer cells than the header"),
    "huge": ("a,99999999999999999999 2", "line 3: runs must be whole numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(tmp_path, case):
    row, sentence = BAD[case]
    shapes = "a" if case == "of no image" else "ab"
    path = tmp_path / "x.csv"
    path.write_text(f"ImageId,EncodedPixels\na,1 2\n{row}\n\n")
    with pytest.raises(CompkitError, match=sentence):
        read_runs(path, RunLengths(), dict.fromkeys(shapes, (4, 3)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ImageId,EncodedPixels\na,1 2,\n", "has rows of more cells than its header"),
        ("", "is no CSV"),
        ("Image,EncodedPixels\n", "has no column ImageId"),
        ("ImageId,EncodedPixels\na,1 2,3\na,1 2,3,4\n", "is no CSV"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, text, sentence):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(CompkitError, match=sentence):
        read_runs(path, RunLengths(), {"a": (4, 3)})


def test_the_smaller_of_two_regions_has_what_both_claim():
    large, small, hidden = np.arange(12), np.array([4, 5]), np.array([4, 5])
    found = paint((3, 4), [large, small, hidden])
    assert found.labels.tolist() == [[1] * 4, [2, 2, 1, 1], [1] * 4]
    assert (found.overlapping, found.lost) == (2, 1)


def test_many_regions_keep_their_numbers():
    pixels = [np.array([i]) for i in range(70_000)]
    labels = paint((350, 200), pixels).labels
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels.ravel(), np.arange(1, 70_001))


def test_parts_that_touch_at_a_corner_are_one():
    labels = np.array([[7, 0, 0, 7], [0, 7, 0, 7], [0, 0, 0, 9]], np.uint16)
    wanted = [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 3]]
    assert numbered(parted(labels)).tolist() == wanted


@pytest.mark.parametrize("down", [True, False])
def test_runs_that_are_counted_the_other_way_are_noticed(tmp_path, down):
    labels = np.zeros((40, 64), np.uint8)
    labels[3:20, 5:30], labels[25:38, 20:60] = 1, 2
    path, how = tmp_path / "x.csv", RunLengths(down=down)
    write_runs(path, ["a"], [labels], how)
    for read_as in (True, False):
        found = read_runs(path, RunLengths(down=read_as), {"a": labels.shape})
        assert seems_turned(found, RunLengths(down=read_as)) == (read_as != down)
    assert not seems_turned({}, how)
    square = {"a": paint((4, 4), [np.arange(4)])}
    assert not seems_turned(square, how)


def test_commas_in_a_quoted_header_cut_nothing_short(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('"Image, Id",EncodedPixels\na,1 2\n')
    found = read_runs(path, RunLengths(image="Image, Id"), {"a": (4, 3)})
    assert found["a"].labels.sum() == 2
