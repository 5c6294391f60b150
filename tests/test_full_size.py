"""The configurations for the challenge's size: they fit their networks, and run to their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compkit.config import RunConfig
from compkit.entry import guarded
from compkit.heads import make_head
from compkit.models.network import Network, check_names
from compkit.run import open_run
from compkit.training.command import parse, run_command

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = "phantom:size=64,labelled=4,unlabelled=2,test=1"


def config_of(name: str) -> RunConfig:
    return parse(["--config", str(CONFIGS / f"{name}.yaml"), "--data", "x", "--run", "x"])[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raidium", "raidium-large"])
def test_networks_are_built_without_padding_a_crop(name):
    config = config_of(name)
    check_names(config.encoders, config.model)
    for encoder in config.encoders:
        outputs = len(make_head(config, 512).outputs)
        network = Network(encoder, outputs, config.model, pretrained=False).eval()
        assert (config.input.crop or 512) % network.stride == 0
        side = 2 * network.stride
        with torch.no_grad():
            assert network(torch.rand(1, 1, side, side)).shape == (1, outputs, side, side)


#: In place of the configuration's: smaller ones of its two kinds.
SMALL = {"convnext_atto": "unet", "vit_tiny_patch16_dinov3_qkvb": "dpt"}


def train(name: str, **settings: object) -> int:
    tiny = {
        "folds.file": "null", "folds.k": 2, "folds.grouped": "false", "input.batch": 4,
        "training.steps": 4, "training.steps_per_epoch": 2, "training.validation_images": 1,
        "training.warmup": 1, "machine.device": "cpu", "model.weights": "none",
        "head": "foreground",
    }  # fmt: skip
    tiny |= {key.replace("__", "."): value for key, value in settings.items()}
    words = [f"--{key}={value}" for key, value in tiny.items()]
    where = ["--config", str(CONFIGS / f"{name}.yaml"), "--data", DATA, "--run", name]
    return guarded(lambda: run_command([*where, *words]))


@pytest.mark.slow
def test_both_run_to_their_end_the_second_as_the_firsts_student(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train("raidium", encoders="[tf_efficientnet_lite0]", input__crop=32) == 0
    decoders = ", ".join(f"{encoder}: {decoder}" for encoder, decoder in SMALL.items())
    student = {
        "encoders": f"[{', '.join(SMALL)}]", "model__decoder": f"{{{decoders}}}",
        "unlabelled__batch": 2, "machine__batch": 4,
    }  # fmt: skip
    assert train("raidium-large", **student) == 0
    assert "raidium-large: out-of-fold scores" in capsys.readouterr().out
    run = open_run("raidium-large")
    assert not run.unfinished()
    assert {e: run.config.model.decoder_of(e) for e in run.config.encoders} == SMALL
    assert replace(run.config.unlabelled, batch=8) == config_of("raidium-large").unlabelled
