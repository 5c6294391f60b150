"""The foreground, and what every head does with it: thresholds, holes, fragments, filling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_fill_holes

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.metrics.named import image_scores

PLAIN = {"threshold": 0.5, "opening": 0, "holes": 0.0, "smallest": 0.0, "fill": False}


@pytest.fixture
def head():
    return make_head(RunConfig(head="foreground"), 32)


def separate(mask: np.ndarray) -> np.ndarray:
    """Give every 4-connected component of a mask an arbitrary id."""
    import cc3d

    labels = cc3d.connected_components(mask, connectivity=4)
    ids = np.random.default_rng(0).permutation(np.arange(1, 1000))[: labels.max()]
    return np.concatenate([[0], ids])[labels].astype(np.uint16)


@settings(max_examples=40)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_separate_regions_survive_the_round_trip(mask):
    head = make_head(RunConfig(head="foreground"), 32)
    labels = separate(mask)
    assert image_scores(labels, head.decode(head.ideal(labels), PLAIN))["adjusted_all"] == 1.0


def test_threshold_counts_as_inside(head):
    maps = np.array([[[0.5, 0.49]]], np.float32)
    assert head.decode(maps, PLAIN).tolist() == [[1, 0]]
    assert head.decode(maps, PLAIN | {"threshold": 0.4}).tolist() == [[1, 1]]


def test_diagonal_neighbours_are_apart(head):
    maps = np.eye(2, dtype=np.float32)[None]
    assert sorted(head.decode(maps, PLAIN).ravel()) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "decoded", [np.ones((16, 16)), np.ones((5, 5), int), -np.ones((16, 16), int), None]
)
def test_what_is_no_label_map_is_no_decoding(monkeypatch, decoded):
    head = make_head(RunConfig(head="boundary"), 16)
    monkeypatch.setattr(head.partitions[0], "decode", lambda *_: decoded)
    with pytest.raises(CompkitError, match="where a map of region ids"):
        head.decode(np.ones((len(head.maps), 16, 16), np.float32), head.defaults)


def test_small_regions_are_dropped_and_the_rest_renumbered(head):
    maps = np.zeros((1, 10, 10), np.float32)
    maps[0, 0, 0] = maps[0, 4:8, 4:8] = 1
    assert head.decode(maps, PLAIN).max() == 2
    kept = head.decode(maps, PLAIN | {"smallest": 0.02})
    assert kept[0, 0] == 0
    assert kept[5, 5] == 1


def test_only_small_holes_are_filled(head):
    maps = np.ones((1, 20, 20), np.float32)
    maps[0, 2, 2] = 0
    maps[0, 10:16, 10:16] = 0
    filled = head.decode(maps, PLAIN | {"holes": 0.01})
    assert filled[2, 2] == 1
    assert filled[12, 12] == 0


@settings(max_examples=40)
@given(arrays(bool, st.tuples(st.integers(3, 12), st.integers(3, 12))))
def test_filling_every_hole_agrees_with_scipy(mask):
    head = make_head(RunConfig(head="foreground"), 32)
    filled = head.decode(mask[None].astype(np.float32), PLAIN | {"holes": 1.0}) > 0
    assert np.array_equal(filled, binary_fill_holes(mask))


def test_opening_cuts_a_thin_bridge(head):
    maps = np.zeros((1, 9, 21), np.float32)
    maps[0, 1:8, 1:8] = maps[0, 1:8, 13:20] = maps[0, 4, 8:13] = 1
    assert head.decode(maps, PLAIN).max() == 1
    assert head.decode(maps, PLAIN | {"opening": 1}).max() == 2


def test_nothing_found_is_all_background(head):
    assert not head.decode(np.zeros((1, 5, 5), np.float32), PLAIN | {"holes": 0.1}).any()


def test_observed_dice_becomes_kappa_and_is_state(head):
    labels = torch.zeros(1, 4, 4, dtype=torch.int32)
    labels[0, :2] = 3
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, :1] = 1  # half of the foreground
    foreground = head.foreground
    foreground.observe(maps, labels)
    foreground.end_validation()
    kappa = foreground.state()["kappa"]
    assert kappa.tolist() == pytest.approx([32 * 2 * 8 / (8 + 12), 32 * 2 * 4 / (4 + 8)])
    other = make_head(RunConfig(head="foreground"), 32)
    other.foreground.load_state(foreground.state())
    assert torch.equal(other.foreground.state()["kappa"], kappa)


def test_unknown_head_is_refused_with_the_nearest():
    with pytest.raises(CompkitError, match="did you mean 'foreground'"):
        make_head(RunConfig(head="forground"), 32)


def test_every_pixel_goes_to_its_nearest_region_on_request(head):
    maps = np.zeros((1, 5, 9), np.float32)
    maps[0, 2, 1] = maps[0, 2, 7] = 1
    filled = head.decode(maps, PLAIN | {"fill": True})
    assert (filled[:, :4] == 1).all()
    assert (filled[:, 5:] == 2).all()
    assert not head.decode(np.zeros((1, 5, 5), np.float32), PLAIN | {"fill": True}).any()


def test_maps_of_a_smaller_grid_decode_at_the_images_size(head):
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 2:6, 2:6] = maps[0, 10:14, 8:12] = 1
    labels = head.decode(maps, PLAIN, (64, 64))
    assert labels.shape == (64, 64)
    assert labels.max() == 2
    assert (labels == 1).sum() == pytest.approx(256, rel=0.1)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"thresold": 0.5}, "did you mean 'threshold'"),
        ({"threshold": 1.5}, "threshold is 1.5: take a number from 0 to 1"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"opening": -1}, "opening is -1"),
        ({"fill": "perhaps"}, "take one of False, True"),
    ],
)
def test_bad_decoder_parameters_are_named(head, params, told):
    with pytest.raises(CompkitError, match=told):
        head.decode(np.zeros((1, 4, 4), np.float32), PLAIN | params)


def test_a_missing_parameter_or_channel_is_named(head):
    maps = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(CompkitError, match="smallest is missing"):
        head.decode(maps, {k: v for k, v in PLAIN.items() if k != "smallest"})
    with pytest.raises(CompkitError, match="decodes 1 channels"):
        head.decode(np.zeros((2, 4, 4), np.float32), PLAIN)
