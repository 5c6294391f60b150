"""Views: every one undoes itself, turns directions as it turns pixels, and refuses nonsense."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from compkit.config import ModelConfig, RunConfig
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.inference.predict import Predictor, batches, mean_of
from compkit.inference.tta import parse_view
from compkit.models.network import Network, padded
from compkit.resample import resized

RIGID = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270")
PAIRS = [f"{a}+{b}" for a, b in itertools.product(RIGID[1:], RIGID[1:])]


@pytest.mark.parametrize("name", [*RIGID, *PAIRS, "rot90+hflip+rot270+vflip"])
def test_rigid_views_undo_themselves_exactly(name):
    x = torch.rand(2, 3, 5, 7)
    assert torch.equal(parse_view(name).through(lambda y: y, x), x)


@pytest.mark.parametrize("name", ["scale1.25", "scale0.75", "hflip+scale1.5", "scale0.8+rot90"])
def test_scaled_views_keep_pixel_centres(name):
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    smooth = torch.sin(rows / 6) + torch.cos(columns / 8)
    back = parse_view(name).through(lambda y: y, smooth[None, None])[0, 0]
    inner = (slice(4, -4), slice(4, -4))
    assert (back - smooth)[inner].abs().max() < 0.03


@pytest.mark.parametrize("name", [*RIGID, *PAIRS])
def test_the_matrix_takes_offsets_as_the_view_takes_pixels(name):
    view = parse_view(name)
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4], image[0, 0, 3, 6] = 1, 2  # an offset of (-1, 2)
    seen = {}
    view.through(lambda y: seen.setdefault("view", y), image)
    centre, mark = ((seen["view"][0, 0] == v).nonzero()[0].numpy() for v in (1, 2))
    assert np.array_equal(mark - centre, view.matrix @ np.array([-1, 2]))


def test_through_shows_the_function_the_view():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    out = parse_view("hflip").through(lambda y: y + y[..., :1], x)
    assert out.tolist() == [[[[1, 2], [5, 6]]]]


@pytest.mark.parametrize("bad", ["hflop", "scale", "scale9", "scalex", "", "hflip+"])
def test_unknown_views_are_refused(bad):
    with pytest.raises(CompkitError, match=r"inference\.views"):
        parse_view(bad)


def test_padding_is_reflected_and_cut_off_again():
    x = torch.rand(1, 1, 33, 50)
    y, (height, width) = padded(32, x)
    assert y.shape == (1, 1, 64, 64)
    assert torch.equal(y[..., :height, :width], x)
    assert padded(32, torch.rand(1, 1, 3, 3))[0].shape == (1, 1, 32, 32)


def test_resizing_down_and_up_is_centred():
    x = torch.zeros(1, 1, 64, 64)
    x[..., 16:48, 16:48] = 1
    back = resized(resized(x, (28, 28)), (64, 64)) >= 0.5
    assert torch.equal(back, back.flip(-1))
    assert abs(int(back.sum()) - 32 * 32) <= 2 * 32


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network("resnet10t", 2, ModelConfig()).eval()


@pytest.mark.parametrize("side", [40, 64])
def test_maps_have_the_size_that_the_network_saw(network, side):
    images = np.random.default_rng(0).integers(0, 255, (3, side, side), np.uint8)
    head = make_head(RunConfig(head="foreground"), 32)
    for size in (None, 32):
        maps = Predictor(network, head, ("identity", "rot90", "scale1.25"), size)(images)
        assert maps.shape == (3, 1, size or side, size or side)
        assert maps.min() >= 0
        assert maps.max() <= 1


def test_all_eight_views_make_the_prediction_equivariant(network):
    """The mean over all flips and turns of an image turns with the image."""
    d4 = ("identity", "rot90", "rot180", "rot270", "hflip", "hflip+rot90", "hflip+rot180",
          "hflip+rot270")  # fmt: skip
    predictor = Predictor(network, make_head(RunConfig(head="foreground"), 32), d4)
    images = np.random.default_rng(1).integers(0, 255, (1, 64, 64), np.uint8)
    plain = predictor(images)
    turned = predictor(np.ascontiguousarray(np.rot90(images, 1, (1, 2))))
    assert torch.allclose(torch.rot90(plain, 1, (2, 3)), turned, atol=1e-5)
    assert not torch.allclose(torch.rot90(plain, 1, (2, 3)), plain, atol=1e-3)


def test_streaming_gives_what_one_batch_gives(network):
    images = np.random.default_rng(2).integers(0, 255, (5, 32, 32), np.uint8)
    predictor = Predictor(network, make_head(RunConfig(head="foreground"), 32), ("identity",))
    streamed = np.concatenate(
        [mean_of([predictor], stack) for stack in batches((images[i] for i in (4, 0, 2)), 2)]
    )
    assert np.allclose(streamed, predictor(images[[4, 0, 2]]).numpy(), atol=1e-5)
