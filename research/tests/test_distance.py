"""The head distance: flows lead to centres, views turn them, and following them gives regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compkit.config import PartitionConfig
from compkit.heads.partition import Truth
from compkit_research.heads.distance import Distance
from compkit_research.heads.flow import centre_flow


def made(side: int = 128) -> Distance:
    return Distance(PartitionConfig(), side)


def two_squares() -> np.ndarray:
    labels = np.zeros((13, 22), np.uint8)
    labels[3:10, 3:10] = 7
    labels[3:10, 10:17] = 200
    return labels


def decoded(labels: np.ndarray, maps: np.ndarray, side: int = 128, **params) -> np.ndarray:
    head, mask = made(side), labels > 0
    defaults = {name: param.values[0] for name, param in head.space.items()}
    return head.decode(mask.astype(np.float32), mask, maps, defaults | params)


def crescent() -> np.ndarray:
    rows, columns = np.indices((40, 40)) - 20
    away = np.hypot(rows, columns)
    return ((away < 18) & (away > 12) & (columns < 6)).astype(np.int32)


@pytest.mark.parametrize("cell", [1, 2])
def test_the_flow_of_a_square_points_to_its_centre(cell):
    labels = two_squares().astype(np.int32)
    down, right = centre_flow((labels > 0).astype(np.int32) + (labels > 7), cell)
    assert right[6, 3] == pytest.approx(1, abs=0.3)
    assert right[6, 9] == pytest.approx(-1, abs=0.3)
    assert right[6, 10] == pytest.approx(1, abs=0.3)  # the next region's first column
    assert down[3, 6] == pytest.approx(1, abs=0.3)
    assert down[9, 6] == pytest.approx(-1, abs=0.3)
    norm = np.hypot(down, right)
    assert not norm[labels == 0].any()
    assert np.sum(np.abs(norm[labels > 0] - 1) > 1e-5) == (2 if cell == 1 else 0)  # centres


@pytest.mark.parametrize("cell", [1, 2])
def test_the_flow_follows_a_bent_region_and_does_not_leave_it(cell):
    labels = crescent()
    down, right = centre_flow(labels, cell)
    top = np.argwhere(labels)[0]
    assert abs(right[top[0] + 2, 24]) > 0.8  # along the arm, though the centre lies below
    assert right[top[0] + 2, 24] < 0
    maps = np.stack([labels, (down + 1) / 2, (right + 1) / 2]).astype(np.float32)
    assert len(np.unique(decoded(labels, maps)[labels > 0])) == 1


def test_a_ring_flows_to_one_place():
    rows, columns = np.indices((41, 41)) - 20
    away = np.hypot(rows, columns)
    ring = ((away < 15) & (away > 9)).astype(np.uint8)
    assert decoded(ring, made().ideal(ring)).max() == 1


def test_the_distance_is_one_where_a_region_is_deepest():
    distance = made().targets(two_squares())[0]
    assert distance[6].round(2).tolist() == (
        [0] * 3 + [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25] * 2 + [0] * 5
    )


def test_a_mirrored_flow_changes_its_sign():
    maps = torch.zeros(1, 3, 2, 2)
    maps[:, 1:] = torch.tensor([0.9, 0.6])[:, None, None]
    mirrored = made().reorient(maps, np.diag([1, -1]))
    assert mirrored[0, :, 0, 0].tolist() == pytest.approx([0, 0.9, 0.4])
    # rot90 takes (down, right) offsets of the image to (−right, down) of the view.
    turned = made().reorient(maps, np.array([[0, -1], [1, 0]]))
    assert turned[0, :, 0, 0].tolist() == pytest.approx([0, 0.6, 0.1])


@pytest.mark.parametrize("follow", [True, False])
def test_two_touching_squares_come_apart(follow):
    labels = two_squares()
    found = decoded(labels, made().ideal(labels), follow=follow)
    assert len(np.unique(found[labels == 7])) == len(np.unique(found[labels == 200])) == 1
    assert found[6, 4] != found[6, 15]


def test_ends_within_gather_are_one_region():
    labels = two_squares()  # their centres are 7 pixels apart
    maps = made().ideal(labels)
    assert decoded(labels, maps, gather=4.0).max() == 1
    assert decoded(labels, maps, gather=0.5, side=1024).max() == 1


def test_clusters_of_few_ends_are_left_for_the_nearest_region():
    labels = np.zeros((8, 20), np.uint8)
    labels[1:7, 1:13] = 1
    labels[3:5, 13:15] = 2
    maps = made().ideal(labels)
    maps[:, :, 13:15] = maps[:, :, 13:15] * 0 + np.array([1, 0.5, 0.5])[:, None, None]
    found = decoded(labels, maps)  # the four pixels end where they are
    assert found[3, 14] not in (0, found[3, 5])
    assert decoded(labels, maps, ends=5 / labels.size)[3, 14] == 0


def test_a_part_of_the_mask_without_a_seed_is_a_region_of_its_own():
    labels = np.zeros((8, 20), np.uint8)
    labels[1:7, 1:8], labels[1:7, 12:19] = 1, 2
    maps = made().ideal(labels)
    maps[0, labels == 2] = 0
    found = decoded(labels, maps, follow=False)
    assert len({0, found[3, 3], found[3, 15]}) == 3


def test_flows_that_leave_each_other_part_pixels():
    labels, head = two_squares(), made()
    near, far = head.affinities(head.ideal(labels), ((0, 1), (0, 3)))
    assert near[6, 9] < 0.1
    assert near[6, 4] > 0.9
    assert far[6, 8] < 0.1
    assert far[6, 4] > 0.9


def test_the_loss_is_least_at_the_targets_and_counts_weights():
    labels, head = two_squares(), made()
    targets = torch.from_numpy(head.targets(labels))[None]
    weights = torch.ones(1, 1, *labels.shape)
    weights[..., 10:] = 0
    truth = Truth(torch.from_numpy(labels.astype(np.int32))[None], targets, weights)
    near = targets.clamp(-0.999, 0.999)
    logits = torch.cat([near[:, :1].clamp_min(0.001).logit(), near[:, 1:].atanh()], dim=1)
    assert head.loss(logits, truth, weights) < 1e-4
    changed = logits.clone()
    changed[..., 10:] += 3
    assert head.loss(logits, truth, weights) == head.loss(changed, truth, weights)
    assert head.loss(-logits, truth, weights) > 1
