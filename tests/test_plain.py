"""The plain U-Net."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compkit.config import ModelConfig
from compkit.errors import CompkitError
from compkit.models.network import Network, check_names
from compkit.models.plain import PlainEncoder


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_plain_unet_is_the_papers():
    network = Network("plain_unet64", 2, ModelConfig())
    encoder, decoder = network.model.encoder, network.model.decoder
    assert network.stride == 16
    features = encoder(torch.rand(1, 1, 32, 32))
    assert [f.shape[1:] for f in features[1:]] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1024, 2, 2),
    ]  # fmt: skip
    assert encoder.out_channels == [f.shape[1] for f in features]
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [
        w for w in (64, 128, 256, 512, 1024) for _ in "ab"
    ]
    # Every stage takes the features that it follows and those of its own size, the finest too.
    assert [block.conv1[0].in_channels for block in decoder.blocks] == [1536, 768, 384, 192]
    assert [block.conv2[0].out_channels for block in decoder.blocks] == [512, 256, 128, 64]
    assert parameters(network) == pytest.approx(31e6, rel=0.02)  # the paper's with one channel


@pytest.mark.parametrize("channels", [1, 3])
def test_a_plain_unet_gives_maps_of_the_inputs_size(channels):
    network = Network("plain_unet16", 3, ModelConfig(), channels=channels).eval()
    assert network(torch.rand(2, channels, 32, 48)).shape == (2, 3, 32, 48)


def test_a_plain_unet_takes_weights_from_a_file(tmp_path, capsys):
    given = PlainEncoder(16).model.state_dict()
    save_file(given, tmp_path / "w.safetensors")
    weights = str(tmp_path / "w.safetensors")
    own = Network("plain_unet16", 2, ModelConfig(weights=weights))
    state = own.model.encoder.model.state_dict()
    assert torch.equal(state["1.1.weight"], given["1.1.weight"])
    assert torch.allclose(state["0.0.weight"], given["0.0.weight"].sum(1, keepdim=True))
    capsys.readouterr()
    Network("plain_unet16", 2, ModelConfig())
    assert not capsys.readouterr().err  # there are no other weights of it than one's own


@pytest.mark.parametrize(
    ("encoder", "config", "expected"),
    [
        ("plain_unet", ModelConfig(), "did you mean 'plain_unet64'"),
        ("plain_unet64", ModelConfig("fpn"), "under the decoder 'fpn': take unet, or"),
        ("plain_unet64", ModelConfig(weights="hub"), r"no hub has .*: give model\.weights a file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(encoder, config, expected):
    with pytest.raises(CompkitError, match=expected) as caught:
        Network(encoder, 2, config)
    assert "\n" not in str(caught.value)


def test_a_plain_unet_is_refused_before_it_is_built():
    with pytest.raises(CompkitError, match="'plain_unet16' does not fit"):
        check_names(("resnet18", "plain_unet16"), ModelConfig("deeplabv3plus"))
