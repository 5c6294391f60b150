"""Losses against hand-worked values, their gradients, and their conventions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import one_hot

from compkit.config import LossConfig
from compkit.errors import CompkitError
from compkit.losses import (
    LOSSES,
    ClassLoss,
    class_cosine,
    class_overlap,
    cross_entropy,
    dice_loss,
    normalised_dice_loss,
    tvmf_dice_loss,
    tvmf_similarity,
)

# Two pixels, two classes: p(class 1) = 0.8 and 0.4; the truth is class 1, then class 0.
P = torch.tensor([[[[0.2, 0.6]], [[0.8, 0.4]]]], dtype=torch.float64)
T = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]], dtype=torch.float64)
ALL = torch.ones(1, 1, 1, 2, dtype=torch.bool)
COS_0, COS_1 = 0.6 / math.sqrt(0.4), 0.8 / math.sqrt(0.8)


def phi(cosine: float, kappa: float) -> float:
    return (1 + cosine) / (1 + kappa * (1 - cosine)) - 1


def test_dice_by_hand():
    expected = 1 - ((2 * 0.6 + 1) / (0.4 + 1 + 1) + (2 * 0.8 + 1) / (0.8 + 1 + 1)) / 2
    assert dice_loss(P, T, ALL).item() == pytest.approx(expected, abs=1e-12)


def test_normalised_dice_by_hand():
    expected = 1 - (COS_0 + COS_1) / 2
    assert normalised_dice_loss(P, T, ALL).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kappa", [0.0, 2.0, 32.0])
def test_tvmf_by_hand(kappa):
    expected = ((1 - phi(COS_0, kappa)) ** 2 + (1 - phi(COS_1, kappa)) ** 2) / 2
    assert tvmf_dice_loss(P, T, ALL, kappa).item() == pytest.approx(expected, abs=1e-12)


def test_tvmf_takes_a_kappa_per_class():
    kappa = torch.tensor([4.0, 16.0], dtype=torch.float64)
    expected = ((1 - phi(COS_0, 4)) ** 2 + (1 - phi(COS_1, 16)) ** 2) / 2
    assert tvmf_dice_loss(P, T, ALL, kappa).item() == pytest.approx(expected, abs=1e-12)


def test_tvmf_similarity_without_concentration_is_the_cosine():
    cosine = torch.linspace(-1, 1, 21)
    assert torch.allclose(tvmf_similarity(cosine, 0.0), cosine, atol=1e-6)
    assert (tvmf_similarity(cosine, 8.0)[1:-1] < cosine[1:-1]).all()


def test_cross_entropy_by_hand():
    expected = -(math.log(0.8) + math.log(0.6)) / 2
    assert cross_entropy(P.log(), T, ALL).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES.names())
def test_gradients(name):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    targets = one_hot(torch.randint(2, (2, 3, 4)), 2).movedim(-1, 1).double()
    valid = torch.rand(2, 1, 3, 4) > 0.3
    # The sum computes in 32 bits, too coarse for finite differences: check its term in 64.
    own = {"kappa": torch.tensor([29.0, 13.0]).double()} if "tvmf" in name else {}
    term = lambda z: LOSSES.get(name)(z, targets, valid, **own)  # noqa: E731
    assert torch.autograd.gradcheck(term, (logits,))


@pytest.mark.parametrize("name", LOSSES.names())
def test_perfect_is_zero_and_worse_is_more(name):
    targets = one_hot(torch.tensor([[[0, 1], [1, 1]]]), 2).movedim(-1, 1).float()
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    loss = ClassLoss(LossConfig(terms={name: 1.0}), classes=2)
    perfect, poor = loss(60 * targets, targets, valid), loss(-targets, targets, valid)
    assert perfect.item() == pytest.approx(0, abs=1e-6)
    assert poor > perfect + 0.1


@pytest.mark.parametrize("name", LOSSES.names())
def test_invalid_pixels_do_not_count(name):
    torch.manual_seed(1)
    logits = torch.randn(1, 2, 4, 4)
    targets = one_hot(torch.randint(2, (1, 4, 4)), 2).movedim(-1, 1).float()
    valid = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    valid[..., :2] = True
    loss = ClassLoss(LossConfig(terms={name: 1.0}), classes=2)
    before = loss(logits, targets, valid)
    logits[..., 2:] = 50
    targets[..., 2:] = targets[..., 2:].flip(1)
    assert torch.allclose(loss(logits, targets, valid), before)


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_pixel_of_weight_two_counts_as_two(name):
    torch.manual_seed(2)
    logits = torch.randn(1, 2, 1, 4)
    targets = one_hot(torch.tensor([[[0, 1, 1, 0]]]), 2).movedim(-1, 1).float()
    loss = ClassLoss(LossConfig(terms={name: 1.0}), classes=2)
    weighed = loss(logits, targets, torch.tensor([1.0, 2.0, 1.0, 0.0])[None, None, None])
    twice, every = torch.tensor([0, 1, 1, 2]), torch.ones(1, 1, 1, 4)
    assert torch.allclose(weighed, loss(logits[..., twice], targets[..., twice], every))


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize("sure", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("labels", [[0, 1, 1, 1], [0, 0, 0, 0]])
def test_gradients_are_finite_however_sure_and_however_wrong(name, sure, labels):
    targets = one_hot(torch.tensor([[labels]]), 2).movedim(-1, 1).float()
    logits = (sure * targets).requires_grad_()
    loss = ClassLoss(LossConfig(terms={name: 1.0}), classes=2)
    value = loss(logits, targets, torch.ones(1, 1, 1, 4))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES.names())
def test_nothing_valid_is_zero_with_zero_gradient(name):
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    targets = torch.ones(1, 2, 2, 2) / 2
    loss = ClassLoss(LossConfig(terms={name: 1.0}), classes=2)
    value = loss(logits, targets, torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_an_absent_class_is_ignored():
    targets = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]], dtype=torch.float64)
    cosine = class_cosine(P, targets, ALL)
    assert cosine[1] == 0
    ignored = normalised_dice_loss(P, targets, ALL)
    assert ignored.item() == pytest.approx(1 - cosine[0].item())


def test_overlap_adds_up_over_batches_to_dice():
    predicted = torch.tensor([[[[1, 1, 0, 0]]], [[[1, 0, 0, 0]]]], dtype=torch.bool)
    targets = torch.tensor([[[[1, 0, 0, 0]]], [[[1, 1, 0, 0]]]], dtype=torch.bool)
    whole = class_overlap(predicted, targets)
    parts = class_overlap(predicted[:1], targets[:1]) + class_overlap(predicted[1:], targets[1:])
    assert torch.equal(whole, parts)
    assert (whole[0] / whole[1]).item() == pytest.approx(2 * 2 / 6)


def test_a_sum_weighs_its_terms():
    logits = torch.randn(1, 2, 3, 3)
    targets = one_hot(torch.randint(2, (1, 3, 3)), 2).movedim(-1, 1).float()
    valid = torch.ones(1, 1, 3, 3, dtype=torch.bool)

    def of(**terms: float) -> float:
        return ClassLoss(LossConfig(terms=terms), 2)(logits, targets, valid).item()

    expected = 0.5 * of(dice=1.0) + 2 * of(cross_entropy=1.0)
    assert of(dice=0.5, cross_entropy=2.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [torch.ones(2), 3.0, None])
def test_what_is_no_scalar_is_no_loss(monkeypatch, value):
    loss = ClassLoss(LossConfig(terms={"dice": 1.0}), classes=2)
    monkeypatch.setitem(loss._terms, "dice", lambda *_: value)
    with pytest.raises(CompkitError, match="the loss 'dice' returns no scalar"):
        loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 2, 2))


def test_kappa_follows_validation_dice():
    loss = ClassLoss(LossConfig(adaptive_lambda=32.0), classes=2)
    assert loss.kappa.tolist() == [0, 0]
    loss.adapt(torch.tensor([1.0, 0.25]))
    assert loss.kappa.tolist() == [32, 8]


def test_unknown_loss_is_refused_with_the_nearest():
    with pytest.raises(CompkitError, match="did you mean 'tvmf_dice'"):
        ClassLoss(LossConfig(terms={"tvmf_dise": 1.0}), 2)
    with pytest.raises(CompkitError, match="positive weight"):
        ClassLoss(LossConfig(terms={"dice": 0.0}), 2)
