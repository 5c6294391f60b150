"""Training examples depend on seed, place and image alone; geometry is exact."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compkit.config import AugmentConfig, InputConfig, ModelConfig, RunConfig
from compkit.data.augment import Augment, random_window
from compkit.data.dataset import Draws, labelled_set
from compkit.data.store import open_store
from compkit.heads import make_head
from compkit.inference.predict import Predictor
from compkit.models.network import Network
from compkit.resample import shrunk, shrunk_labels

NONE = AugmentConfig(hflip=0, rotate=0, scale=0, shift=0, contrast=0, noise=0)
EVERYTHING = AugmentConfig(
    hflip=0.5, vflip=0.5, rot90=0.5, rotate=20, scale=0.2, shift=0.1, elastic=2, contrast=0.3,
    noise=0.05, blur=1,
)  # fmt: skip


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 6), st.integers(0, 3))
def test_draws_use_every_image_equally_and_epochs_join(images, batch, steps, seed):
    draws = Draws(images, batch * steps, seed)
    places, drawn = [], []
    for epoch in range(4):
        draws.set_epoch(epoch)
        epochs_own = list(draws)
        assert len(epochs_own) == len(draws) == batch * steps
        places += [place for place, _ in epochs_own]
        drawn += [image for _, image in epochs_own]
    assert places == list(range(4 * steps * batch))
    rounds = [drawn[i : i + images] for i in range(0, len(drawn), images)]
    assert all(sorted(r) == list(range(images)) for r in rounds if len(r) == images)
    counts = Counter(drawn)
    assert max(counts.values()) - min(counts[i] for i in range(images)) <= 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_store("phantom:size=64,labelled=4,unlabelled=1,test=1,seed=3")


def example(store, place: int, index: int, config: RunConfig) -> dict:
    dataset = labelled_set(store, store.labelled, config, make_head(config, 64))
    return dataset[(place, index)]


def test_an_example_does_not_depend_on_what_came_before(store):
    config = RunConfig(
        augment=EVERYTHING,
        input=InputConfig(crop=48, focus=0.5),
    )
    dataset = labelled_set(store, store.labelled, config, make_head(config, 64))
    first = [dataset[(place, place % 4)] for place in range(6)]
    for place in (5, 2, 0):
        fresh = example(store, place, place % 4, config)
        assert all(fresh[key].equal(first[place][key]) for key in fresh)
    assert not first[0]["images"].equal(first[4]["images"])


def test_another_seed_or_place_changes_it(store):
    config = RunConfig(augment=EVERYTHING)
    one = example(store, 0, 0, config)
    assert not one["images"].equal(example(store, 4, 0, config)["images"])
    assert not one["images"].equal(example(store, 0, 0, replace(config, seed=1))["images"])


def test_without_augmentation_nothing_changes(store):
    item = example(store, 0, 1, RunConfig(augment=NONE))
    index = int(store.labelled[1])
    assert np.array_equal((item["images"][0] * 255).round().numpy(), store.images[index])
    assert np.array_equal(item["labels"].numpy(), store.labels_of(index))
    assert (item["weights"] == 1).all()


def test_image_and_labels_move_together():
    labels = np.zeros((64, 64), np.uint16)
    labels[20:44, 12:40] = 300
    image = (labels > 0).astype(np.uint8) * 255
    moves = replace(
        NONE, hflip=0.5, vflip=0.5, rot90=0.5, rotate=30, scale=0.2, shift=0.2, elastic=1
    )
    augment = Augment(moves, 64, crop=48)
    for seed in range(10):
        moved, moved_labels, place = augment(image, labels, np.ones_like(image), seed)
        inside = place > 0
        assert moved.shape == moved_labels.shape == inside.shape == (48, 48)
        assert set(np.unique(moved_labels)) <= {0, 300}
        disagree = ((moved > 127) != (moved_labels > 0)).mean()
        assert disagree < 0.02
        assert not moved_labels[~inside].any()


@pytest.mark.parametrize("kind", ["affine", "elastic", "contrast", "noise", "blur"])
def test_a_change_is_as_frequent_as_it_says(kind):
    grey = np.random.default_rng(0).integers(50, 200, (32, 32), np.uint8)
    flat = np.ones((32, 32), np.uint8)
    names = ("rotate", "scale", "shift") if kind == "affine" else (kind,)
    strength = replace(NONE, **{name: getattr(EVERYTHING, name) for name in names})

    def share(probability: float) -> float:
        augment = Augment(replace(strength, **{f"{kind}_p": probability}), 32, None)
        changed = [(augment(grey, flat, flat, seed)[0] != grey).any() for seed in range(120)]
        return float(np.mean(changed))

    assert share(0) == 0
    assert share(1) > 0.7  # the weakest change nothing
    assert share(0.5) == pytest.approx(share(1) / 2, abs=0.15)


@pytest.mark.parametrize("side", [64, 128])
def test_elastic_displaces_by_what_it_says(side):
    ramp = np.tile(np.arange(side, dtype=np.uint8), (side, 1))
    augment = Augment(replace(NONE, elastic=2), side, None)
    flat = np.zeros((side, side), np.uint8)
    moved = [augment(ramp, flat, flat, seed)[0].astype(float) - ramp for seed in range(40)]
    inner = slice(side // 4, -side // 4)
    spread = np.std([m[inner, inner] for m in moved if m.any()])
    assert spread == pytest.approx(2 * side / 128, rel=0.25)


def test_pixels_from_outside_are_invalid():
    augment = Augment(replace(NONE, shift=0.5), 32, None)
    full = np.ones((32, 32), np.uint8)
    shares = [augment(full, full, full, seed)[2].mean() for seed in range(8)]
    assert min(shares) < 0.95


@pytest.mark.parametrize("side", [28, 32, 96])
def test_resizing_keeps_the_centre_of_mass(side):
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = 7
    shape = (side, side)
    for small in (shrunk_labels(labels, shape) > 0, shrunk(labels * 36, shape) / 252):
        rows, columns = np.indices(small.shape) + 0.5
        assert (small * rows).sum() / small.sum() == pytest.approx(side / 2, abs=0.02 * side)
        assert (small * columns).sum() / small.sum() == pytest.approx(side / 2, abs=0.02 * side)


def test_a_focused_crop_finds_regions_as_often_whatever_their_area():
    labels = np.zeros((64, 96), np.uint16)
    labels[:, :48] = 2
    labels[61:63, 90:92] = 900

    def share(region: int, focus: float) -> float:
        rng = np.random.default_rng(0)
        windows = [random_window(labels, 16, focus, rng) for _ in range(400)]
        crops = [labels[window] for window in windows]
        assert all(crop.shape == (16, 16) for crop in crops)
        return float(np.mean([(crop == region).any() for crop in crops]))

    assert share(900, 1.0) == pytest.approx(0.5, abs=0.08)
    assert share(900, 0.0) < 0.06
    assert share(2, 1.0) == pytest.approx(0.5, abs=0.08)
    labels[labels == 2] = 0
    assert share(900, 1.0) == 1


def test_unfocused_crops_reach_every_corner():
    labels = np.zeros((6, 7), np.uint8)  # and no region to focus on
    rng = np.random.default_rng(0)
    windows = [random_window(labels, 4, 1.0, rng) for _ in range(300)]
    assert {(r.start, c.start) for r, c in windows} == {(r, c) for r in range(3) for c in range(4)}


class Heard(Network):
    def forward(self, images):
        self.images = images
        return super().forward(images)


@pytest.mark.parametrize("size", [None, 32, 96])
def test_training_and_prediction_see_the_same_image(store, size):
    config = RunConfig(head="foreground", augment=NONE, input=InputConfig(size=size))
    network = Heard("resnet10t", 2, ModelConfig()).eval()
    predictor = Predictor(network, make_head(config, 64), ("identity",), size)
    chosen = [int(i) for i in store.labelled[:2]]
    predictor(np.stack([store.images[i] for i in chosen]))
    trained = torch.stack([example(store, 0, i, config)["images"] for i in (0, 1)])
    # Training images are rounded to 8 bits when they are resized.
    atol = 0.51 / 255 if size else 1e-7
    assert torch.allclose(network.images, trained, rtol=0, atol=atol)
