"""The head boundary: what its border is, what counts in its loss, and how seeds grow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compkit.config import PartitionConfig, RunConfig
from compkit.config.check import check
from compkit.errors import CompkitError
from compkit.heads.boundary import Boundary, highest_between, with_every_part
from compkit.heads.partition import Truth

DEFAULTS = {"seed": 0.6, "seed_size": 0.0}


def made(side: int = 128, **settings) -> Boundary:
    return Boundary(PartitionConfig(**settings), side)


def two_squares(gap: int = 0) -> np.ndarray:
    labels = np.zeros((12, 20), np.uint8)
    labels[3:9, 2:8] = 7
    labels[3:9, 8 + gap : 14 + gap] = 200
    return labels


def decoded(labels: np.ndarray, border: np.ndarray, **params) -> np.ndarray:
    mask = labels > 0
    maps = border[None].astype(np.float32)
    return made().decode(mask.astype(np.float32), mask, maps, DEFAULTS | params)


def test_the_border_lies_on_both_sides_of_a_change_of_label():
    border, touching = made().targets(two_squares())
    # Row 5: background, rim, edge, interior…, the two edges that touch, interior…, edge, rim.
    assert border[5].astype(int).tolist() == [0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1] + [0] * 5
    assert touching[5].astype(int).tolist() == [0] * 7 + [1, 1] + [0] * 11
    assert touching[:3].sum() == touching[9:].sum() == 0


def test_background_between_two_regions_touches_them():
    _, touching = made().targets(two_squares(gap=1))
    assert np.flatnonzero(touching[5]).tolist() == [8]


@pytest.mark.parametrize(("side", "reach"), [(64, 1), (128, 1), (256, 2), (512, 4)])
def test_the_border_grows_with_the_image_and_is_never_under_a_pixel(side, reach):
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 1
    border = made(side).targets(labels)[0]
    assert np.flatnonzero(border[0]).tolist() == list(range(32 - reach, 32 + reach))


def test_a_waist_that_is_all_border_keeps_a_line_that_joins_its_region():
    labels = np.zeros((9, 21), np.uint8)
    labels[1:8, 1:8] = labels[1:8, 13:20] = labels[4, 8:13] = 1
    border = made().ideal(labels)[0]
    assert not border[4, 8:13].any()
    assert decoded(labels, border).max() == 1


def test_touching_pixels_count_more():
    labels = two_squares()
    logits = torch.full((1, 1, *labels.shape), -2.0, requires_grad=True)

    def gradient(touching: float) -> torch.Tensor:
        head = made(touching=touching)
        targets = torch.from_numpy(head.targets(labels))[None]
        weights = torch.ones(1, 1, *labels.shape)
        truth = Truth(torch.from_numpy(labels.astype(np.int32))[None], targets, weights)
        loss = head.loss(logits, truth, torch.ones(1, 1, *labels.shape))
        return torch.autograd.grad(loss, logits)[0][0, 0].abs()

    plain, heavy = gradient(1.0), gradient(4.0)
    assert plain[5, 7] == pytest.approx(plain[5, 13].item())  # touching, and at the background
    assert heavy[5, 7] == pytest.approx(4 * heavy[5, 13].item(), rel=1e-4)
    assert plain[0, 0] == 0  # background away from regions


def test_pixels_without_weight_do_not_matter():
    labels, head = two_squares(), made()
    weights = torch.ones(1, 1, *labels.shape)
    weights[..., 8:] = 0
    targets = torch.from_numpy(head.targets(labels))[None]
    truth = Truth(torch.from_numpy(labels.astype(np.int32))[None], targets, weights)
    logits = torch.randn(1, 1, *labels.shape)
    changed = logits.clone()
    changed[..., 8:] += 3
    assert head.loss(logits, truth, weights) == head.loss(changed, truth, weights)


def test_a_part_of_the_mask_without_a_seed_is_a_region_of_its_own():
    labels = two_squares(gap=2)
    border = np.ones(labels.shape)
    border[labels == 7] = 0
    found = decoded(labels, border)
    assert len(np.unique(found[labels == 7])) == 1
    assert len(np.unique(found[labels == 200])) == 1
    assert found[5, 3] != found[5, 12]
    assert found[5, 12] > 0
    assert not found[labels == 0].any()


def test_a_higher_seed_parts_what_a_weak_border_fuses():
    labels = two_squares()
    border = 0.3 * made().ideal(labels)[0]
    assert decoded(labels, border, seed=0.6).max() == 1
    assert decoded(labels, border, seed=0.8).max() == 2


def test_seeds_under_the_least_size_are_dropped():
    labels = two_squares()
    border = made().ideal(labels)[0]
    border[4:8, 4] = 1  # cuts a seed of 4 pixels and one of 8 off, beside one of 16
    assert decoded(labels, border).max() == 3
    parted = decoded(labels, border, seed_size=5 / labels.size)
    assert len(np.unique(parted[parted > 0])) == 2


def test_affinities_see_a_border_between_pixels_that_lie_in_none():
    labels = two_squares()
    near, far, inside = made().affinities(made().ideal(labels), ((0, 1), (0, 6), (0, 3)))
    assert near[5, 4] == 1
    assert near[5, 7] == 0
    assert far[5, 4] == 0
    assert inside[5, 3] == 1
    assert far[5, 7] == 1  # an end in the border may lie on either side of it


def test_the_highest_value_between_two_pixels_leaves_the_ends_out():
    values = np.array([[9.0, 1.0, 5.0, 2.0, 8.0]])
    assert highest_between(values, (0, 4), 1.0)[0, 0] == 5
    assert with_every_part(np.zeros((2, 2), np.int32), np.eye(2, dtype=bool)).tolist() == [
        [1, 0],
        [0, 2],
    ]


def test_settings_that_cannot_be_are_refused():
    for settings, name in (({"border": 0.0}, "border"), ({"touching": -1.0}, "touching")):
        with pytest.raises(CompkitError, match=f"partition.{name}"):
            check(RunConfig(partition=PartitionConfig(**settings)))
