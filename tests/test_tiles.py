"""Tiles: what they blend to, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compkit.competition.phantom import PhantomSettings, PhantomSource
from compkit.config import ModelConfig, RunConfig
from compkit.heads import make_head
from compkit.heads.base import Head
from compkit.inference.predict import Predictor
from compkit.inference.tiles import tiled
from compkit.models.network import Network

sides = st.integers(1, 70)


def everything(shape: tuple[int, int]) -> torch.Tensor:
    return torch.ones(1, *shape, dtype=torch.bool)


@given(sides, sides, st.integers(1, 80))
def test_tiles_cover_every_pixel_and_blend_to_the_image(height, width, side):
    x = torch.rand(2, 1, height, width)
    shapes = set()

    def shown(tile):
        shapes.add(tuple(tile.shape[-2:]))
        return tile

    assert torch.allclose(tiled(shown, x, side, everything), x, atol=1e-5)
    assert shapes == {(min(height, side), min(width, side))}


def test_a_tiles_edge_hardly_counts():
    """The network is worst where it sees least around a pixel."""

    def spoilt(tile):
        out = tile.clone()
        out[..., 0, :] = out[..., -1, :] = out[..., :, 0] = out[..., :, -1] = 9
        return out

    blended = tiled(spoilt, torch.zeros(1, 1, 96, 96), 32, everything)
    assert blended[..., 1:-1, 1:-1].max() < 0.1


@pytest.mark.parametrize("name", ["foreground", "affinity", "boundary", "affinity+boundary"])
def test_perfect_tiles_make_perfect_maps(name):
    source = PhantomSource(PhantomSettings(96, 1, 0, 1, 0))
    labels = source.labels().labels[0].astype(np.int32)
    head: Head = make_head(RunConfig(head=name), 96)

    def perfect(tile):
        return torch.from_numpy(head.ideal(tile[0, 0].numpy()))[None]

    # Half a tile is longer than the longest offset, so that some tile holds every pair.
    blended = tiled(perfect, torch.from_numpy(labels)[None, None], 56, head.known)[0]
    difference = (blended - torch.from_numpy(head.ideal(labels))).abs()
    assert difference.mean() < 0.005  # a waist may be a border in one tile and not in another
    if "boundary" not in name:
        assert difference.max() < 1e-4


def test_a_predictor_of_tiles_sees_tiles_only():
    torch.manual_seed(0)
    network = Network("resnet10t", 2, ModelConfig()).eval()
    head = make_head(RunConfig(head="foreground"), 64)
    seen = set()
    network.register_forward_pre_hook(lambda _, given: seen.add(given[0].shape[-2:]))
    images = np.random.default_rng(0).integers(0, 255, (2, 80, 80), np.uint8)
    views = ("identity", "rot90", "scale1.25")
    maps = Predictor(network, head, views, tile=64)(images)
    assert seen == {(64, 64)}
    assert maps.shape == (2, 1, 80, 80)
    whole = Predictor(network, head, views, tile=128)(images)
    assert torch.equal(whole, Predictor(network, head, views)(images))


@pytest.mark.parametrize(("length", "shown"), [(2048, 2048), (2049, 1024)])
def test_very_large_images_are_seen_in_tiles_by_themselves(length, shown):
    network = Network("plain_unet16", 2, ModelConfig()).eval()
    seen = set()
    network.register_forward_pre_hook(lambda _, given: seen.add(tuple(given[0].shape[-2:])))
    head = make_head(RunConfig(head="foreground"), 64)
    maps = Predictor(network, head, ["identity"])(np.zeros((1, 32, length), np.uint8))
    assert (maps.shape, seen) == ((1, 1, 32, length), {(32, shown)})
