"""Variants of the Dice loss against hand-worked values, and where they are the Dice loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import one_hot

from compkit.losses import dice_loss
from compkit_research.losses.dice_variants import (
    focal_dice_loss,
    focal_tversky_loss,
    generalised_dice_loss,
    noise_robust_dice_loss,
)

# Two pixels, two classes: p(class 1) = 0.8 and 0.4; the truth is class 1, then class 0.
P = torch.tensor([[[[0.2, 0.6]], [[0.8, 0.4]]]], dtype=torch.float64)
T = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]], dtype=torch.float64)
ALL = torch.ones(1, 1, 1, 2, dtype=torch.bool)


def test_generalised_dice_by_hand():
    assert generalised_dice_loss(P, T, ALL).item() == pytest.approx(1 - 2 * 1.4 / 4, abs=1e-12)
    # Three pixels of class 0 against one of class 1, which weighs nine times as much.
    p = torch.tensor([0.9, 0.7, 0.6, 0.2], dtype=torch.float64)
    t = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    p, t = (torch.stack([x, 1 - x])[None, :, None] for x in (p, t))
    expected = 1 - 2 * (2.2 / 9 + 0.8) / ((3 + 2.4) / 9 + 1 + 1.6)
    found = generalised_dice_loss(p, t, torch.ones(1, 1, 1, 4))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_focal_dice_by_hand():
    expected = 1 - (math.sqrt(2.2 / 2.4) + math.sqrt(2.6 / 2.8)) / 2
    assert focal_dice_loss(P, T, ALL).item() == pytest.approx(expected, abs=1e-12)


def test_focal_tversky_by_hand():
    wrong_0, wrong_1 = 2 * (0.7 * 0.4 + 0.3 * 0.2), 2 * (0.7 * 0.2 + 0.3 * 0.4)
    of_0, of_1 = wrong_0 / (2 * 0.6 + wrong_0 + 1), wrong_1 / (2 * 0.8 + wrong_1 + 1)
    expected = (of_0**0.75 + of_1**0.75) / 2
    assert focal_tversky_loss(P, T, ALL).item() == pytest.approx(expected, abs=1e-12)


def test_noise_robust_dice_by_hand():
    wrong = 0.2**1.5 + 0.4**1.5
    expected = (wrong / (0.4 + 1 + 1) + wrong / (0.8 + 1 + 1)) / 2
    assert noise_robust_dice_loss(P, T, ALL).item() == pytest.approx(expected, abs=1e-12)


def some(hard: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random probabilities, targets and weights, of which some are 0."""
    torch.manual_seed(4)
    p = torch.randn(2, 3, 5, 6, dtype=torch.float64).softmax(dim=1)
    if hard:
        p = one_hot(p.argmax(dim=1), 3).movedim(-1, 1).double()
    t = one_hot(torch.randint(3, (2, 5, 6)), 3).movedim(-1, 1).double()
    return p, t, (torch.rand(2, 1, 5, 6) * 2 - 0.5).clamp_min(0).double()


@pytest.mark.parametrize("hard", [False, True])
def test_variants_reduce_to_dice(hard):
    p, t, v = some(hard)
    dice = dice_loss(p, t, v)
    assert torch.allclose(focal_dice_loss(p, t, v, beta=1.0), dice)
    assert torch.allclose(noise_robust_dice_loss(p, t, v, gamma=2.0), dice)
    tversky = focal_tversky_loss(p, t, v, alpha=0.5, beta=0.5, gamma=1.0)
    overlap, size = 2 * (p * t * v).sum((0, 2, 3)), ((p + t) * v).sum((0, 2, 3))
    assert torch.allclose(tversky, (1 - (overlap + 1) / (size + 1)).mean())
    assert torch.allclose(tversky, dice) == hard  # where sizes are squared or not alike


def test_generalised_dice_of_classes_of_one_size_is_dice_without_smoothing():
    p, t, v = some(hard=True)[0][:, :2], T.new_zeros(2, 2, 5, 6), T.new_ones(2, 1, 5, 6)
    t[:, 0, :, :3], t[:, 1, :, 3:] = 1, 1
    overlap, size = (p * t).sum(), (p + t).sum()
    assert torch.allclose(generalised_dice_loss(p, t, v), 1 - 2 * overlap / size)


def test_focal_tversky_minds_what_is_missed_more_than_what_is_too_much():
    t = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]]])
    more = torch.tensor([[[[0.0, 0.5, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]]])
    less = torch.tensor([[[[0.0, 0.0, 0.5, 1.0]], [[1.0, 1.0, 0.0, 0.0]]]])
    every = torch.ones(1, 1, 1, 4)
    assert focal_tversky_loss(less, t, every) > focal_tversky_loss(more, t, every)
