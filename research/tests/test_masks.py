"""Masks that overlap, and the label map made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compkit_research.sam.masks import Runs, label_map, read_masks, write_masks


def box(top: int, left: int, bottom: int, right: int, size: int = 8) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_no_mask_is_background():
    labels = label_map(np.zeros((0, 5, 4), bool))
    assert labels.shape == (5, 4)
    assert labels.dtype == np.int32
    assert not labels.any()


def test_a_nested_mask_lies_above_and_the_rest_of_the_outer_one_stays_a_region():
    outer, inner = box(1, 1, 7, 7), box(3, 3, 5, 5)
    labels = label_map(np.array([inner, outer]))
    assert len(np.unique(labels[inner])) == len(np.unique(labels[outer & ~inner])) == 1
    assert labels[3, 3] != labels[1, 1]
    assert not labels[~outer].any()


def test_of_overlapping_masks_the_smaller_keeps_its_pixels():
    large, small = box(1, 1, 6, 6), box(4, 4, 7, 7)
    labels = label_map(np.array([small, large]))
    assert len(np.unique(labels[small])) == 1
    assert labels[5, 5] == labels[6, 6] != labels[1, 1]


def test_a_mask_parted_by_smaller_ones_stays_one_region():
    labels = label_map(np.array([box(2, 1, 5, 7), box(1, 3, 7, 4)]))
    assert labels[2, 1] == labels[4, 6] != 0
    assert len(np.unique(labels)) == 3


def test_copies_of_a_mask_are_one_region():
    labels = label_map(np.array([box(1, 1, 4, 4)] * 3))
    assert len(np.unique(labels[1:4, 1:4])) == 1
    assert np.count_nonzero(labels) == 9


def test_air_around_the_body_is_background_whatever_lies_in_it():
    body, bed = box(2, 2, 6, 6), box(7, 2, 8, 6)
    air = ~body
    labels = label_map(np.array([body, air, bed]))
    assert not labels[air & ~bed].any()
    assert len({labels[2, 2], labels[7, 2], 0}) == 3


def test_a_surrounding_is_background_also_where_a_larger_mask_holds_it():
    everything, air = np.ones((8, 8), bool), ~box(1, 1, 7, 7)
    assert not label_map(np.array([everything, air])).any()


def test_half_of_the_border_makes_a_surrounding():
    half, less = np.zeros((2, 8, 8), bool)
    half[:4] = True  # 14 of 28 border pixels
    less[:4] = True
    less[3, 7] = False
    assert not label_map(half[None]).any()
    assert label_map(less[None])[less].all()


some_masks = st.integers(0, 6).flatmap(lambda count: arrays(bool, (count, 5, 4)))


@given(masks=some_masks, data=st.data())
def test_the_order_of_the_masks_does_not_matter(masks, data):
    order = np.array(data.draw(st.permutations(range(len(masks)))), int)
    np.testing.assert_array_equal(label_map(masks[order]), label_map(masks))


@given(masks=some_masks)
def test_every_pixel_belongs_to_the_smallest_mask_that_holds_it(masks):
    labels = label_map(masks)
    areas = masks.sum(axis=(1, 2))
    for place in np.ndindex(labels.shape):
        if holding := [i for i in range(len(masks)) if masks[i][place]]:
            least = min(areas[i] for i in holding)
            if labels[place]:
                region = labels == labels[place]
                assert any(not (region & ~masks[i]).any() for i in holding if areas[i] == least)
        else:
            assert labels[place] == 0


def runs_of(masks: np.ndarray) -> Runs:
    """Encode masks, (M, H, W), the slow and plain way."""
    counts = []
    for mask in masks:
        flat = [False, *mask.T.ravel().tolist()]
        edges = [i for i in range(1, len(flat)) if flat[i] != flat[i - 1]]
        places = [0, *(i - 1 for i in edges), mask.size]
        counts.append(np.diff(places).astype(np.uint32))
    return Runs(masks.shape[1:], tuple(counts))


@given(masks=some_masks)
def test_masks_come_back_from_their_runs(masks):
    np.testing.assert_array_equal(runs_of(masks).masks(), masks)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_masks_come_back_from_the_disk(tmp_path, count):
    masks = np.random.default_rng(0).random((count, 7, 9)) < 0.5
    path = tmp_path / "new" / "masks.npz"
    assert read_masks(path) is None
    write_masks(path, runs_of(masks))
    np.testing.assert_array_equal(read_masks(path).masks(), masks)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def pickled(path):
    np.savez(path, shape=[2, 2], lengths=[1], counts=np.array([{}], object))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"lengths", b"_engths")),
        lambda path: np.savez(path, shape=[2, 2], lengths=[2], counts=[1, 2]),
        lambda path: np.savez(path, shape=[2, 2], lengths=[1], counts=[4, 1]),
        lambda path: np.savez(path, shape=4, lengths=[1], counts=[4]),
        pickled,
    ],
    ids=["empty", "text", "cut", "renamed", "short", "long", "shapeless", "pickled"],
)
def test_a_damaged_file_is_as_none_and_said(tmp_path, capsys, spoil):
    path = tmp_path / "masks.npz"
    write_masks(path, runs_of(np.ones((2, 6, 6), bool)))
    spoil(path)
    assert read_masks(path) is None
    assert "is damaged" in capsys.readouterr().err
