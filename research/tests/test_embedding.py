"""Embeddings: the discriminative loss by hand, and distances as affinities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from compkit.config import PartitionConfig
from compkit.heads.partition import Truth
from compkit.phantom.slices import draw_slice
from compkit_research.heads.embedding import Embedding
from compkit_research.losses.discriminative import PULL, PUSH, discriminative_loss

ONES = torch.ones(1, 1, 1, 5)

# Region 4 at 0 and 2 (mean 1), region 9 at 3 (twice); a background pixel that does not count.
LINE = torch.tensor([[[[0.0, 2.0, 3.0, 3.0, 50.0]]]])
LABELS = torch.tensor([[[4, 4, 9, 9, 0]]])


def well_apart(labels: np.ndarray, dims: int) -> torch.Tensor:
    """Return embeddings (1, D, H, W) for which the loss, but for the means' size, is 0."""
    rng = np.random.default_rng(0)
    means = np.zeros((labels.max() + 1, dims))
    for region, place in enumerate(rng.permutation(6**dims)[: len(means)]):
        means[region] = np.unravel_index(place, (6,) * dims)
    around = rng.normal(size=(*labels.shape, dims))
    around *= PULL / np.linalg.norm(around, axis=-1, keepdims=True)
    return torch.from_numpy(2 * PUSH * means[labels] + around).float().movedim(-1, 0)[None]


def test_the_discriminative_loss_by_hand():
    pull = (0.5**2 + 0.0) / 2  # both pixels of 4 lie 1 from their mean
    push = (3 - 2) ** 2
    size = 1e-3 * (1 + 3) / 2
    loss = discriminative_loss(LINE, LABELS, ONES)
    assert loss.item() == pytest.approx(pull + push + size, abs=1e-6)


def test_weights_count_pixels_and_images_count_alike():
    weights = torch.tensor([[[[3.0, 1.0, 1.0, 0.0, 1.0]]]])
    pull = ((0.75 * 0.0 + 0.25 * 1.0**2) + 0.0) / 2  # region 4 has its mean at 0.5
    expected = pull + 0.5**2 + 1e-3 * (0.5 + 3) / 2
    loss = discriminative_loss(LINE, LABELS, weights)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    # A second image of one region at the origin, and a third without any, cost nothing.
    lines = torch.cat([LINE, 0 * LINE, LINE])
    labels = torch.cat([LABELS, 0 * LABELS + 1, 0 * LABELS])
    three = discriminative_loss(lines, labels, weights.expand(3, -1, -1, -1))
    assert three.item() == pytest.approx(expected / 2, abs=1e-6)


def test_nothing_to_learn_from_gives_zero():
    line = LINE.clone().requires_grad_()
    loss = discriminative_loss(line, 0 * LABELS, ONES) + discriminative_loss(line, LABELS, 0 * ONES)
    loss.backward()
    assert loss.item() == 0
    assert (line.grad == 0).all()


def test_equal_embeddings_have_a_finite_gradient():
    line = torch.zeros(1, 2, 1, 5, requires_grad=True)
    discriminative_loss(line, LABELS, ONES).backward()
    assert torch.isfinite(line.grad).all()


def test_regions_that_are_well_apart_are_told_apart():
    labels = draw_slice(7, "train", 1, 64).labels
    head = Embedding(PartitionConfig(), 64)
    embeddings = well_apart(labels, len(head.outputs))
    truth = Truth(torch.from_numpy(labels)[None].int(), torch.zeros(1, 0, 64, 64), torch.ones(1))
    loss = discriminative_loss(embeddings, truth.labels, torch.ones(1, 1, 64, 64))
    assert loss < 1e-3 * math.sqrt(embeddings.square().sum(1).max())
    affinities = head.activate(embeddings)[0].numpy()
    inside = head.ideal(labels) > 0
    assert affinities[inside].min() > 0.9
    labelled = np.stack([np.broadcast_to(labels > 0, inside.shape[1:])] * len(inside))
    assert affinities[labelled & ~inside].max() < 0.1


def test_the_head_learns_a_small_label_map():
    labels = torch.arange(4).repeat_interleave(4).expand(1, 16, 16)
    head = Embedding(PartitionConfig(reach=(3.0,)), 128)
    logits = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        truth = Truth(labels, torch.zeros(1, 0, 16, 16), torch.ones(1, 1, 16, 16))
        loss = head.loss(logits, truth, torch.ones(1, 1, 16, 16))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.01
