"""Networks by name, weights from files, and refusals."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from compkit.config import ModelConfig
from compkit.errors import CompkitError
from compkit.models.network import DECODERS, Network


@pytest.mark.parametrize("decoder", ["unet", "unetplusplus", "fpn", "deeplabv3plus"])
def test_decoders_by_name_give_maps_of_the_inputs_size(decoder):
    network = Network("resnet10t", 3, ModelConfig(decoder=decoder)).eval()
    side = 2 * network.stride
    assert network(torch.rand(2, 1, side, side)).shape == (2, 3, side, side)


@pytest.mark.parametrize("encoder", ["mobilenetv3_small_050", "convnext_atto", "efficientnet_b0"])
def test_encoders_of_several_families(encoder):
    network = Network(encoder, 2, ModelConfig()).eval()
    assert network(torch.rand(1, 1, 64, 64)).shape == (1, 2, 64, 64)


@pytest.mark.parametrize(
    ("encoder", "decoder", "expected"),
    [
        ("resnet43", "unet", r"no timm encoder 'resnet43'; did you mean 'resnet\d+"),
        ("resnet18", "unnet", "no decoder 'unnet'; did you mean 'unet'"),
    ],
)
def test_unknown_names_suggest_the_nearest(encoder, decoder, expected):
    with pytest.raises(CompkitError, match=expected):
        Network(encoder, 2, ModelConfig(decoder=decoder))
    assert "unet" in DECODERS


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(3)
    return timm.create_model("resnet10t", pretrained=False, num_classes=5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_colour_classifier_load_from_a_file(tmp_path, classifier, suffix):
    path = tmp_path / f"resnet10t{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": classifier.state_dict()}, path)
    else:
        save_file(classifier.state_dict(), path)
    config = ModelConfig(weights={"resnet10t": str(path), "resnet18": "none"})
    own = Network("resnet10t", 2, config).model.encoder.model.state_dict()
    given = classifier.state_dict()
    assert torch.equal(own["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])
    folded = given["conv1.0.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(own["conv1.0.weight"], folded, atol=1e-6)


def test_the_same_network_under_other_names_loads_in_order(tmp_path, classifier, capsys):
    renamed = {f"other{i}": tensor for i, tensor in enumerate(classifier.state_dict().values())}
    torch.save(renamed, tmp_path / "renamed.pth")
    config = ModelConfig(weights=str(tmp_path / "renamed.pth"))
    own = Network("resnet10t", 2, config).model.encoder.model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in classifier.state_dict().items() if "layer" in k)
    assert "in order, as no name matches, 2 left aside" in capsys.readouterr().err


def test_weights_in_a_package(monkeypatch, tmp_path, classifier):
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier/__init__.py").touch()
    torch.save(classifier.state_dict(), tmp_path / "carrier/w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    own = Network("resnet10t", 2, ModelConfig(weights="package:carrier/w.pth"))
    weight = own.model.encoder.model.state_dict()["layer1.0.conv1.weight"]
    assert torch.equal(weight, classifier.state_dict()["layer1.0.conv1.weight"])
    assert "pip install no-such-carrier" in refuse("package:no_such_carrier/w.pth")


def refuse(path) -> str:
    with pytest.raises(CompkitError) as caught:
        Network("resnet10t", 2, ModelConfig(weights=str(path)))
    return str(caught.value)


class Bomb:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def test_bad_weights_files_are_refused(tmp_path, capsys):
    assert "no weights file" in refuse(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    assert "not a readable weights file" in refuse(tmp_path / "text.pth")
    torch.save({"x": Bomb()}, tmp_path / "bomb.pth")
    assert "not a readable weights file" in refuse(tmp_path / "bomb.pth")
    assert "ran" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    assert "does not hold a state dict" in refuse(tmp_path / "list.pth")
    other = timm.create_model("resnet18", pretrained=False)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    assert "does not fit the encoder" in refuse(tmp_path / "other.pth")


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CompkitError, match="weights of resnet18 cannot be had from the hub"):
        Network("resnet18", 2, ModelConfig(weights="hub"))
    with pytest.raises(CompkitError, match="resnet10t"):
        Network("resnet10t", 2, ModelConfig(weights="hub"))
