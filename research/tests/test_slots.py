"""Slots: perfect ones are perfect affinities, too few still work, settings are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compkit.config import PartitionConfig
from compkit.heads.partition import Truth
from compkit.phantom.slices import draw_slice
from compkit.regions import numbered
from compkit_research.heads.slots import TERMS, Slots
from compkit_research.losses.rand import soft_rand_loss

BANDS = torch.arange(5).repeat_interleave(4).expand(1, 20, 20)  # background and four regions


def truth_of(labels: torch.Tensor) -> Truth:
    empty = torch.zeros(len(labels), 0, *labels.shape[1:])
    return Truth(labels, empty, torch.ones(len(labels), 1, *labels.shape[1:]))


def perfect(labels: np.ndarray, slots: int) -> torch.Tensor:
    """Return logits (1, K, H, W) that give each region a slot of its own."""
    ids = torch.from_numpy(numbered(labels).astype(np.int64))
    return 50.0 * torch.nn.functional.one_hot(ids, slots).movedim(-1, 0)[None]


def learnt(head: Slots, labels: torch.Tensor, steps: int = 150) -> tuple[torch.Tensor, float]:
    """Return the logits and the loss that gradient descent ends with."""
    shape = (1, len(head.outputs), *labels.shape[1:])
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.2)
    foreground = (labels > 0)[:, None].float()
    for _ in range(steps):
        loss = head.loss(logits, truth_of(labels), foreground)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return logits.detach(), loss.item()


def test_perfect_slots_have_perfect_affinities():
    labels = draw_slice(7, "train", 1, 64).labels
    head = Slots(PartitionConfig(), 64)
    affinities = head.activate(perfect(labels, 48))[0].numpy()
    labelled = np.broadcast_to(labels > 0, affinities.shape)
    assert np.abs(affinities - head.ideal(labels))[labelled].max() < 1e-6


@pytest.mark.parametrize("term", TERMS)
def test_perfect_slots_cost_nothing(term):
    labels = draw_slice(7, "train", 1, 64).labels
    head = Slots(PartitionConfig(), 64, terms={term: 1.0})
    truth = truth_of(torch.from_numpy(labels.astype(np.int32))[None])
    foreground = (truth.labels > 0)[:, None].float()
    assert head.loss(perfect(labels, 48), truth, foreground).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_learns_a_small_label_map(term):
    head = Slots(PartitionConfig(), 128, 6, 1.0, {term: 1.0}, window=10)
    assert learnt(head, BANDS)[1] < 0.02


@pytest.mark.parametrize("term", TERMS)
def test_too_few_slots_are_shared(term):
    """Some regions share one, and every region keeps to one; only a Rand index charges for it."""
    head = Slots(PartitionConfig(), 128, 3, 1.0, {term: 1.0})
    logits, loss = learnt(head, BANDS)
    assert (0.02 < loss < 1) == (term != "set_cross_entropy")
    ids = logits.argmax(1)
    owners = [ids[region == BANDS].unique() for region in range(1, 5)]
    assert [len(owner) for owner in owners] == [1] * 4
    assert len(torch.cat(owners).unique()) == 3


def test_terms_are_added_with_their_weights():
    logits, foreground = torch.randn(1, 6, 20, 20), torch.rand(1, 1, 20, 20)

    def loss(terms: dict[str, float]) -> float:
        head = Slots(PartitionConfig(), 64, 6, terms=terms)
        return head.loss(logits, truth_of(BANDS), foreground).item()

    ones = {name: loss({name: 1.0}) for name in TERMS}
    mixed = {name: 0.5 + number for number, name in enumerate(TERMS)}
    expected = sum(weight * ones[name] for name, weight in mixed.items())
    assert loss(mixed) == pytest.approx(expected, rel=1e-5)


def test_the_adjusted_index_sees_the_foreground():
    head = Slots(PartitionConfig(), 64, 6, terms={"soft_rand_adjusted": 1.0})
    logits = perfect(BANDS[0].numpy(), 6)
    assert head.loss(logits, truth_of(BANDS), torch.full((1, 1, 20, 20), 0.5)) > 0.1
    joint = torch.cat([torch.zeros(1, 1, 20, 20), logits.softmax(1)], dim=1)
    expected = soft_rand_loss(joint, BANDS, torch.ones(1, 1, 20, 20), background=True)
    assert head.loss(logits, truth_of(BANDS), torch.ones(1, 1, 20, 20)).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_temperature_divides_logits():
    logits = torch.randn(1, 9, 20, 20)
    hot, cold = (Slots(PartitionConfig(), 64, 9, t) for t in (2.0, 1.0))
    assert torch.allclose(hot.activate(2 * logits), cold.activate(logits))
