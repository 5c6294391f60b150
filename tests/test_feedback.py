"""The plain U-Net and the Feedback U-Net."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compkit.config import ModelConfig, RunConfig
from compkit.errors import CompkitError
from compkit.heads.partition import Truth
from compkit.models.checkpoint import CARD, card, load_checkpoint
from compkit.models.feedback import ConvLSTM, FeedbackUnet
from compkit.models.network import Network, check_names
from compkit.models.plain import PlainEncoder
from compkit.training.module import SegmentationModule

FEEDBACK = ModelConfig(decoder="feedback-unet")


def feedback(encoder: str = "plain_unet16", outputs: int = 3) -> Network:
    torch.manual_seed(5)
    config = ModelConfig(decoder="feedback-unet", weights="none")
    return Network(encoder, outputs, config)


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


@pytest.mark.parametrize("decoder", ["unet", "feedback-unet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_plain_unet_gives_maps_of_the_inputs_size(decoder, channels):
    network = Network("plain_unet16", 3, ModelConfig(decoder=decoder), channels=channels).eval()
    assert network(torch.rand(2, channels, 32, 48)).shape == (2, 3, 32, 48)


def test_a_plain_unet_takes_weights_from_a_file(tmp_path, capsys):
    given = PlainEncoder(16).model.state_dict()
    save_file(given, tmp_path / "w.safetensors")
    weights = str(tmp_path / "w.safetensors")
    own = Network("plain_unet16", 2, ModelConfig(weights=weights))
    state = own.model.encoder.model.state_dict()
    assert torch.equal(state["1.1.weight"], given["1.1.weight"])
    assert torch.allclose(state["0.0.weight"], given["0.0.weight"].sum(1, keepdim=True))
    fed = Network("plain_unet16", 2, ModelConfig("feedback-unet", weights))
    first = fed.model.encoder.model.state_dict()["0.0.weight"]
    assert torch.allclose(first[:, :1], given["0.0.weight"].sum(1, keepdim=True))
    assert not first[:, 1:].any()
    capsys.readouterr()
    Network("plain_unet16", 2, ModelConfig())
    assert not capsys.readouterr().err  # there are no other weights of it than one's own


@pytest.mark.parametrize(
    ("encoder", "config", "expected"),
    [
        ("plain_unet", ModelConfig(), "did you mean 'plain_unet64'"),
        ("plain_unet64", ModelConfig("fpn"), "under the decoder 'fpn': take unet or feedback-unet"),
        ("plain_unet64", ModelConfig(weights="hub"), r"no hub has .*: give model\.weights a file"),
        ("resnet18", ModelConfig("feedback"), "did you mean 'feedback-unet'"),
        ("vit_tiny_patch16_224", FEEDBACK, "does not fit under the decoder 'feedback-unet'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(encoder, config, expected):
    with pytest.raises(CompkitError, match=expected) as caught:
        Network(encoder, 2, config)
    assert "\n" not in str(caught.value)


def test_a_plain_unet_is_refused_before_it_is_built():
    with pytest.raises(CompkitError, match="'plain_unet16' does not fit"):
        check_names(("resnet18", "plain_unet16"), ModelConfig("deeplabv3plus"))


def test_a_cell_by_hand():
    cell = ConvLSTM(1)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.zero_()
        cell.of_input.weight[:, 0, 1, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        cell.of_state.weight[:, 0, 1, 1] = 0.5
    x = torch.full((1, 1, 1, 1), 0.3)
    h, c = cell(x, None)
    i, f, o, g = ((0.3 * k * torch.ones(1)) for k in (1, 2, 3, 4))
    assert torch.allclose(c, i.sigmoid() * g.tanh())
    assert torch.allclose(h, o.sigmoid() * c.tanh())
    again, memory = cell(x, (h, c))
    i, f, o, g = (gate + 0.5 * h for gate in (i, f, o, g))
    assert torch.allclose(memory, f.sigmoid() * c + i.sigmoid() * g.tanh())
    assert torch.allclose(again, o.sigmoid() * memory.tanh())
    # No state is a state of zeros.
    zeros = torch.zeros_like(x)
    assert torch.equal(cell(x, (zeros, zeros))[0], h)


@pytest.mark.parametrize(
    "encoder", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "plain_unet16"]
)
def test_the_second_round_is_the_answer_and_differs_from_the_first(encoder):
    network = feedback(encoder).eval()
    images = torch.rand(2, 1, 64, 64)
    first, second = network.rounds(images)
    assert first.shape == second.shape == (2, 3, 64, 64)
    assert not torch.allclose(first, second, rtol=0.1)
    assert torch.equal(network(images), second)


def test_nothing_is_carried_from_batch_to_batch():
    network = feedback().eval()
    one, other = torch.rand(2, 1, 32, 32), torch.rand(1, 1, 48, 32)
    before = network(one)
    network(other)
    assert torch.equal(network(one), before)
    assert torch.allclose(network(one[:1]), before[:1], atol=1e-5)


def test_the_second_round_sees_the_answer_and_the_states_of_the_first():
    network = feedback().eval()
    model, images = network.model, torch.rand(1, 1, 32, 32)
    first, second = network.rounds(images)
    with torch.no_grad():
        stem = model.encoder.model[0][0].weight
        seen = stem[:, 1:].clone()
        stem[:, 1:] = 0  # the answer is fed back no more
        blind, unseeing = network.rounds(images)
        stem[:, 1:] = seen
        for cell in model.cells:
            cell.of_state.weight.zero_()
            cell.of_input.bias.chunk(4)[1].fill_(-1e3)  # all is forgotten
        alike, forgetful = network.rounds(images)
    assert torch.equal(blind, first)
    assert torch.allclose(alike, first)
    assert not torch.allclose(unseeing, second, rtol=0.01)
    assert not torch.allclose(forgetful, second, rtol=0.01)


def test_gradients_flow_through_both_rounds():
    network = feedback()
    first, second = network.rounds(torch.rand(2, 1, 32, 32))
    first.retain_grad()
    second.square().mean().backward()
    assert first.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(cell.of_state.weight.grad.abs().max() > 0 for cell in network.model.cells)


def test_each_round_has_statistics_of_its_own():
    network = feedback()
    images = torch.rand(8, 1, 64, 64)
    for norm in [*network.model._norms, *network.model.first_norms]:
        norm.momentum = 1.0  # statistics are those of the last batch
    with torch.no_grad():
        training = network.rounds(images)
        validation = network.eval().rounds(images)
    for one, other in zip(training, validation, strict=True):
        assert (one - other).norm() < 0.05 * one.norm()
    norms = zip(network.model._norms, network.model.first_norms, strict=True)
    assert not any(torch.equal(a.running_var, b.running_var) for a, b in norms)


def test_probabilities_of_classes_and_of_other_outputs_are_fed_back():
    network = feedback(outputs=4).eval()
    seen = []
    network.model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    first, _ = network.rounds(torch.rand(1, 1, 32, 32))
    before, after = seen
    assert torch.equal(before[:, :1], after[:, :1])
    assert not before[:, 1:].any()
    assert torch.equal(after[:, 1:3], first[:, :2].softmax(dim=1))
    assert torch.equal(after[:, 3:], first[:, 2:].sigmoid())


@pytest.mark.parametrize("encoder", ["resnet10t", "plain_unet16"])
def test_parameters_are_a_unets_and_the_cells(encoder):
    plain = Network(encoder, 3, ModelConfig(weights="none"))
    network = feedback(encoder)
    stem = next(m for m in plain.model.encoder.modules() if isinstance(m, nn.Conv2d))
    more = 3 * stem.out_channels * 3 * 3
    for block in plain.model.decoder.blocks:
        channels = block.conv2[0].out_channels
        more += 8 * 9 * channels**2 + 4 * channels - 9 * channels**2
    assert parameters(network) == parameters(plain) + more


def test_an_equal_seed_gives_an_equal_network():
    one, other = feedback(), feedback()
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(one(images), other(images))


@pytest.mark.parametrize("encoder", ["resnet10t", "plain_unet16"])
def test_a_checkpoint_rebuilds_both_rounds(tmp_path, encoder):
    config = RunConfig(encoders=(encoder,), head="foreground", model=FEEDBACK)
    network = Network(encoder, 2, config.model)
    with torch.no_grad():
        network(torch.rand(4, 1, 32, 32))  # gathers statistics
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, CARD: card(config, encoder, 32, ())}, tmp_path / "best.ckpt")
    again, _, _ = load_checkpoint(tmp_path / "best.ckpt")
    assert isinstance(again.model, FeedbackUnet)
    images = torch.rand(2, 1, 32, 32)
    pairs = zip(again.rounds(images), network.eval().rounds(images), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("decoder", ["unet", "feedback-unet"])
def test_training_is_on_every_round_alike(decoder, monkeypatch):
    model = ModelConfig(decoder=decoder, weights="none")
    config = RunConfig(encoders=("plain_unet16",), head="boundary", model=model)
    module = SegmentationModule(config, "plain_unet16", 40, "adjusted_all")
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    labels = torch.randint(3, (2, 40, 40), dtype=torch.int32)
    targets = torch.stack([torch.from_numpy(module.head.targets(one)) for one in labels.numpy()])
    truth = Truth(labels, targets, torch.ones(2, 1, 40, 40))
    images = torch.rand(2, 1, 40, 40)
    batch = {"images": images, "labels": labels, "targets": targets, "weights": truth.weights}
    loss = module.eval().training_step({"labelled": batch}, 0)
    padded = torch.nn.functional.pad(images, (0, 8, 0, 8), mode="reflect")
    rounds = module.network.rounds(padded)
    assert len(rounds) == (2 if decoder == "feedback-unet" else 1)
    each = [module.head.loss(logits[..., :40, :40], truth) for logits in rounds]
    assert loss == torch.stack(each).mean()
