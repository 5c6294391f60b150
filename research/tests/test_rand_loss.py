"""The soft Rand loss and the set cross entropy: exact where slots are hard, and learnt from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax, one_hot

from compkit.metrics.named import image_scores
from compkit_research.losses.rand import soft_rand_loss
from compkit_research.losses.set_cross_entropy import set_cross_entropy

SEEDS = st.integers(0, 2**32 - 1)
VARIANTS = [
    {"adjusted": adjusted, "background": background, "window": window}
    for adjusted in (True, False)
    for background in (True, False)
    for window in (None, 5)
]


def drawn(seed: int, regions: int = 6, slots: int = 5, shape=(2, 12, 14)):
    """Return labels, ids of slots and pixel weights, at random."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, regions + 1, shape, generator=rng, dtype=torch.int32)
    ids = torch.randint(0, slots, shape, generator=rng)
    return labels, ids, torch.rand(shape, generator=rng)[:, None]


def hard(ids: torch.Tensor, slots: int) -> torch.Tensor:
    return one_hot(ids.long(), slots).movedim(-1, 1).double()


def blocks(side: int, count: int) -> torch.Tensor:
    """Return one label map (1, side, side) of count² square regions, the first of background."""
    places = torch.arange(side) * count // side
    return (places[:, None] * count + places)[None].int()


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, noise=st.floats(0, 1))
def test_hard_slots_have_the_indices_of_the_metrics(seed, noise):
    labels = blocks(40, 3)
    wrong = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < noise
    ids = torch.where(wrong, labels * 7 % 5, labels)
    scores = image_scores(labels[0].numpy(), ids[0].numpy())
    slots, weights = hard(ids, 9), torch.ones(1, 1, 40, 40, dtype=torch.float64)
    expected = {
        "adjusted_all": soft_rand_loss(slots, labels, weights, background=True),
        "adjusted_foreground": soft_rand_loss(slots, labels, weights),
        "plain_foreground": soft_rand_loss(slots, labels, weights, adjusted=False),
    }
    for name, loss in expected.items():
        assert 1 - loss.item() == pytest.approx(scores[name], abs=10 / 40**2), name


@pytest.mark.parametrize("options", VARIANTS)
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_numbers_of_slots_and_regions_do_not_matter(options, seed):
    labels, _, weights = drawn(seed)
    rng = np.random.default_rng(seed)
    slots = torch.from_numpy(rng.dirichlet(np.ones(5), (2, 12, 14))).movedim(-1, 1)
    names = torch.from_numpy(np.r_[0, 1 + rng.permutation(200)]).int()
    order = torch.from_numpy(rng.permutation(5))
    loss = soft_rand_loss(slots, labels, weights.double(), **options)
    same = soft_rand_loss(slots[:, order], names[labels.long()], weights.double(), **options)
    assert same.item() == pytest.approx(loss.item(), abs=1e-9)
    log, other = slots.log(), slots[:, order].log()
    assert set_cross_entropy(log, labels, weights).item() == pytest.approx(
        set_cross_entropy(other, names[labels.long()], weights).item(), abs=1e-9
    )


@pytest.mark.parametrize("options", VARIANTS)
def test_a_whole_weight_is_that_many_pixels(options):
    labels, ids, _ = drawn(3, shape=(1, 10, 10))
    options = options | {"window": None}
    twice = torch.ones(1, 1, 10, 10, dtype=torch.float64)
    twice[..., :5] = 2
    columns = torch.cat([torch.arange(5), torch.arange(10)])
    weighted = soft_rand_loss(hard(ids, 5), labels, twice, **options)
    repeated = soft_rand_loss(
        hard(ids, 5)[..., columns], labels[..., columns], torch.ones(1, 1, 10, 15), **options
    )
    assert weighted.item() == pytest.approx(repeated.item(), abs=1e-9)


def test_windows_add_up_what_their_tiles_count():
    labels, ids, weights = drawn(5, shape=(1, 8, 8))
    slots, weights = hard(ids, 5), weights.double()
    apart, pairs = 0.0, 0.0
    for top, left in ((0, 0), (0, 5), (5, 0), (5, 5)):
        tile = (..., slice(top, top + 5), slice(left, left + 5))
        loss = soft_rand_loss(slots[tile], labels[tile], weights[tile], adjusted=False)
        size = (weights[tile] * (labels[tile] > 0)[:, None]).sum().item() ** 2
        apart, pairs = apart + loss.item() * size, pairs + size
    windowed = soft_rand_loss(slots, labels, weights, adjusted=False, window=5)
    assert windowed.item() == pytest.approx(apart / pairs, abs=1e-4)


def test_a_window_forgives_what_is_fused_far_apart():
    labels = blocks(32, 4)
    weights = torch.ones(1, 1, 32, 32)
    losses = {}
    for name, fused in {"near": 6, "far": 15}.items():
        ids = hard(torch.where(labels == 5, fused, labels), 16).float()
        losses[name] = [soft_rand_loss(ids, labels, weights, window=w).item() for w in (None, 12)]
    assert losses["near"][0] == pytest.approx(losses["far"][0])
    assert losses["near"][1] > 0.01
    assert losses["far"][1] < 1e-3


@pytest.mark.parametrize("options", VARIANTS)
def test_nothing_to_learn_from_gives_zero(options):
    logits = torch.randn(2, 5, 9, 9, requires_grad=True)
    labels, slots = torch.ones(2, 9, 9, dtype=torch.int32), logits.softmax(1)
    soft_rand_loss(slots, labels, torch.zeros(2, 1, 9, 9), **options).backward()
    assert (logits.grad == 0).all()
    logits.grad = None
    losses = [
        soft_rand_loss(logits.softmax(1), 0 * labels, torch.ones(2, 1, 9, 9)),
        set_cross_entropy(log_softmax(logits, 1), 0 * labels, torch.ones(2, 1, 9, 9)),
        set_cross_entropy(log_softmax(logits, 1), labels, torch.zeros(2, 1, 9, 9)),
    ]
    torch.stack(losses).sum().backward()
    assert [loss.item() for loss in losses] == [0, 0, 0]
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("options", VARIANTS)
def test_an_image_without_pixels_does_not_dilute_the_others(options):
    labels, ids, weights = drawn(11)
    weights[1] = 0
    both = soft_rand_loss(hard(ids, 5), labels, weights.double(), **options)
    one = soft_rand_loss(hard(ids, 5)[:1], labels[:1], weights[:1].double(), **options)
    assert both.item() == pytest.approx(one.item(), abs=1e-9)


@pytest.mark.parametrize("options", VARIANTS)
def test_free_logits_learn_a_small_label_map(options):
    bands = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3])
    labels = (bands[:, None] + 4 * (bands > 1) * (bands[:, None] > 0))[None].int()
    logits = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.2)
    for _ in range(200):
        loss = soft_rand_loss(logits.softmax(1), labels, torch.ones(1, 1, 12, 12), **options)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.02


def test_the_set_cross_entropy_takes_the_best_assignment():
    labels = torch.tensor([[[7, 7, 3, 0]]])
    slots = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]).T[None, :, None]
    # Both regions prefer the first slot; together they cost least if 3 has it.
    expected = -((math.log(0.4) + math.log(0.5)) / 2 + math.log(0.9)) / 2
    loss = set_cross_entropy(slots.log(), labels, torch.ones(1, 1, 1, 4))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_regions_beyond_the_slots_take_their_cheapest():
    labels = torch.tensor([[[1, 1, 1, 2, 2, 3]]])
    slots = torch.tensor([[0.7, 0.3]] * 3 + [[0.9, 0.1]] * 2 + [[0.8, 0.2]]).T[None, :, None]
    expected = -(math.log(0.3) + math.log(0.9) + math.log(0.8)) / 3
    loss = set_cross_entropy(slots.log(), labels, torch.ones(1, 1, 1, 6))
    # 1 and 2 share out the two slots; 3, the smallest, goes where it is cheapest.
    other = -(math.log(0.7) + math.log(0.1) + math.log(0.8)) / 3
    assert expected < other
    assert loss.item() == pytest.approx(expected, abs=1e-6)
