"""Every head: maps made from labels decode into the same regions; parameters do what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_fill_holes

from compkit.config import LossConfig
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head
from compkit.metrics.rand import rand_scores

PLAIN = {"threshold": 0.5, "opening": 0, "holes": 0.0, "smallest": 0.0}


@pytest.fixture
def head():
    return make_head("foreground", LossConfig())


def separate(mask: np.ndarray) -> np.ndarray:
    """Give every 4-connected component of a mask an arbitrary id."""
    import cc3d

    labels = cc3d.connected_components(mask, connectivity=4)
    ids = np.random.default_rng(0).permutation(np.arange(1, 1000))[: labels.max()]
    return np.concatenate([[0], ids])[labels].astype(np.uint16)


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_separate_regions_survive_the_round_trip(mask):
    head = make_head("foreground", LossConfig())
    labels = separate(mask)
    logits = torch.from_numpy(head.targets(labels))[None] * 40 - 20
    maps = head.activate(logits)[0].numpy()
    assert rand_scores(labels, head.decode(maps, PLAIN))["adjusted_all"] == 1.0


@pytest.mark.parametrize("name", HEADS)
def test_shapes_names_and_defaults(name):
    head = make_head(name, LossConfig())
    labels = np.zeros((8, 10), np.uint8)
    labels[2:5, 3:7] = 4
    targets = torch.from_numpy(head.targets(labels))[None]
    logits = torch.randn(1, len(head.outputs), 8, 10, requires_grad=True)
    valid = torch.ones(1, 1, 8, 10, dtype=torch.bool)
    head.loss(logits, targets, valid).backward()
    assert logits.grad.abs().sum() > 0
    maps = head.activate(logits.detach())
    assert maps.shape == (1, len(head.maps), 8, 10)
    assert maps.min() >= 0
    assert maps.max() <= 1
    decoded = head.decode(maps[0].numpy(), head.defaults)
    assert decoded.dtype == np.int32
    assert set(np.unique(decoded)) == set(range(decoded.max() + 1)) | {0}


def test_threshold_counts_as_inside(head):
    maps = np.array([[[0.5, 0.49]]], np.float32)
    assert head.decode(maps, PLAIN).tolist() == [[1, 0]]
    assert head.decode(maps, PLAIN | {"threshold": 0.4}).tolist() == [[1, 1]]


def test_diagonal_neighbours_are_apart(head):
    maps = np.eye(2, dtype=np.float32)[None]
    assert sorted(head.decode(maps, PLAIN).ravel()) == [0, 0, 1, 2]


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


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(3, 12), st.integers(3, 12))))
def test_filling_every_hole_agrees_with_scipy(mask):
    head = make_head("foreground", LossConfig())
    filled = head.decode(mask[None].astype(np.float32), PLAIN | {"holes": 2.0}) > 0
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
    head.observe(maps, labels)
    head.end_validation()
    kappa = head.state()["kappa"]
    assert kappa.tolist() == pytest.approx([32 * 2 * 8 / (8 + 12), 32 * 2 * 4 / (4 + 8)])
    other = make_head("foreground", LossConfig())
    other.load_state(head.state())
    assert torch.equal(other.state()["kappa"], kappa)


def test_unknown_head_is_refused_with_the_nearest():
    with pytest.raises(CompkitError, match="did you mean 'foreground'"):
        make_head("forground", LossConfig())
