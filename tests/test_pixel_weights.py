"""Weights of pixels: small regions, uncertain background, and background that is distrusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compkit.config import LossConfig, WeightsConfig
from compkit.data.weights import AIR, BODY, body, pixel_weights, places
from compkit.heads.foreground import Foreground


def regions() -> np.ndarray:
    labels = np.zeros((40, 40), np.uint16)
    labels[2:22, 2:22] = 1
    labels[25:35, 5:25] = 40
    labels[30:34, 30:34] = 300
    return labels


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0, 3.0])
def test_small_regions_count_more_and_the_mean_stays_one(exponent):
    labels = regions()
    place = np.full(labels.shape, AIR, np.uint8)
    weights = pixel_weights(labels, place, WeightsConfig(small_regions=exponent))
    assert weights.dtype == np.float32
    large, middle, small = (float(weights[labels == i].mean()) for i in (1, 40, 300))
    assert small > middle > large
    assert weights[labels > 0].mean() == pytest.approx(1, abs=1e-5)
    assert (weights[labels == 0] == 1).all()
    assert small / large <= 32


def test_an_exponent_of_one_gives_every_region_the_same_sum():
    labels = regions()
    labels[labels == 300] = 40  # the limits do not bind
    weights = pixel_weights(labels, np.ones(labels.shape, np.uint8), WeightsConfig(1.0))
    assert weights[labels == 1].sum() == pytest.approx(weights[labels == 40].sum(), rel=1e-5)


@pytest.mark.parametrize("labels", [regions(), np.zeros((8, 8), np.uint8)])
def test_off_by_default(labels):
    place = places(np.zeros(labels.shape, np.uint8), WeightsConfig())
    assert (pixel_weights(labels, place, WeightsConfig()) == 1).all()


def slice_of_a_body() -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a body, lungs in it and a table under it; and the body's mask."""
    rows, columns = np.indices((128, 128))
    inside = ((rows - 60) / 40) ** 2 + ((columns - 64) / 55) ** 2 < 1
    lungs = ((rows - 55) / 15) ** 2 + ((abs(columns - 64) - 25) / 12) ** 2 < 1
    image = np.where(inside & ~lungs, 110, 0)
    image[112:115, 20:108] = 90
    noise = np.random.default_rng(0).integers(0, 10, image.shape)
    return (image + noise).astype(np.uint8), inside


def test_the_body_is_the_largest_part_without_holes():
    image, inside = slice_of_a_body()
    assert np.array_equal(body(image), inside)


def test_an_image_of_nothing_has_no_body_and_one_of_tissue_is_all_body():
    assert not body(np.zeros((16, 16), np.uint8)).any()
    image = np.full((16, 16), 100, np.uint8)
    image[8, 8] = 0
    assert body(image).all()


def test_only_background_in_the_body_is_uncertain():
    image, inside = slice_of_a_body()
    labels = np.zeros(image.shape, np.uint8)
    labels[50:70, 60:68] = 3
    config = WeightsConfig(background=0.25)
    place = places(image, config)
    assert np.array_equal(place == BODY, inside)
    place[:, :20] = 0  # as an augmentation leaves what comes from outside
    weights = pixel_weights(labels, place, config)
    assert (weights[:, :20] == 0).all()
    assert (weights[labels == 3] == 1).all()
    assert (weights[inside & (labels == 0) & (place > 0)] == 0.25).all()
    assert (weights[~inside & (place > 0)] == 1).all()


@pytest.mark.parametrize("terms", [{"dice": 1.0}, {"adaptive_tvmf_dice": 1.0, "cross_entropy": 1}])
def test_distrusted_background_has_no_gradient(terms):
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 2, 8, 8)
    labels = torch.randint(0, 3, (2, 8, 8))
    ones = torch.ones(2, 1, 8, 8)
    sure = logits.softmax(1)[:, 1] > 0.8
    ignored = (labels == 0) & sure
    assert ignored.any()

    def gradient(ignore_above: float, weights: torch.Tensor) -> torch.Tensor:
        z = logits.clone().requires_grad_()
        loss = Foreground(LossConfig(terms=terms, ignore_above=ignore_above))
        loss.loss(z, labels, weights).backward()
        return z.grad

    got = gradient(0.8, ones)
    assert (got.movedim(1, -1)[ignored] == 0).all()
    assert (got.movedim(1, -1)[sure & (labels > 0)] != 0).any()
    assert torch.equal(got, gradient(1.0, ones * ~ignored[:, None]))
    assert (gradient(1.0, ones).movedim(1, -1)[ignored] != 0).any()
