"""Pretraining on tiny phantoms: resumed, taken in training, refused; masks, scores and probes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from compkit.begin import start_run
from compkit.cli import main as compkit
from compkit.config import InputConfig, ModelConfig, RunConfig
from compkit.data.store import open_store
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.folds import Folds
from compkit.models.checkpoint import warm_start
from compkit.models.network import Network
from compkit.training.command import parse
from compkit.training.command import run_command as train
from compkit_research.pretrain.images import (
    Pairs,
    Puzzles,
    hidden_count,
    hidden_windows,
    images_of,
    split_images,
)
from compkit_research.pretrain.job import pretrain_encoder
from compkit_research.pretrain.methods import Options
from compkit_research.pretrain.probe import cross_validated, probed
from compkit_research.pretrain.reconstruct import Reconstruction, explained_variance, sums
from compkit_research.pretrain.run import start_pretraining
from compkit_research.pretrain.simclr import chance, contrastive_accuracy

DATA = "phantom:size=64,labelled=6,unlabelled=4,test=4,seed=2"
ENCODER = "resnet10t"
SETTINGS = {
    "--data": DATA,
    "--encoders": f"[{ENCODER}]",
    "--model.weights": "none",
    "--folds.k": "2",
    "--input.batch": "4",
    "--training.steps": "6",
    "--training.steps_per_epoch": "2",
    "--training.warmup": "1",
    "--augment.blur": "1",
}


def settings(run: str, **changed: str) -> list[str]:
    chosen = SETTINGS | {"--run": run}
    chosen |= {f"--{name.replace('__', '.')}": value for name, value in changed.items()}
    return [word for pair in chosen.items() for word in pair]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with finished pretrainings `simclr`, `mae` and `autoencoder`."""
    path = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPKIT_CACHE", str(path / "cache"))
        patch.chdir(path)
        assert compkit(["pretrain", "simclr", *settings("simclr")]) == 0
        assert compkit(["pretrain", "mae", *settings("mae"), "--mask-window", "8"]) == 0
        assert compkit(["pretrain", "autoencoder", *settings("autoencoder")]) == 0
        yield path


def weights(part: Path) -> dict[str, torch.Tensor]:
    return torch.load(part / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_interrupted_and_resumed_equals_uninterrupted(workplace, method, capsys):
    argv = settings(f"stopped-{method}")
    options = Options(mask_window=8)

    def stop(epoch: int, score: float) -> None:
        raise TimeoutError

    run = start_pretraining(f"stopped-{method}", method, options, parse(argv)[1], DATA)
    with pytest.raises(TimeoutError):
        pretrain_encoder(run, ENCODER, watch=stop)
    part, whole = run.part(ENCODER), Path("runs") / method / ENCODER
    assert len(pd.read_csv(part / "metrics.csv")) == 1
    assert not (part / "fit.json").exists()
    extra = ["--mask-window", "8"] if method == "mae" else []
    assert compkit(["pretrain", method, *argv, *extra, "--machine.workers", "1"]) == 0
    expected, got = weights(whole), weights(part)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (part / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    told = [json.loads((p / "fit.json").read_text())["probe"] for p in (part, whole)]
    assert told[0] == told[1]
    before = (part / "last.ckpt").stat().st_mtime_ns
    assert compkit(["pretrain", method, *argv, *extra]) == 0
    assert "done (score" in capsys.readouterr().err
    assert (part / "last.ckpt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_what_is_written_and_told(workplace, capsys, monkeypatch):
    monkeypatch.setattr(Folds, "doubts", lambda _: ["cut groups"])
    for method, own in {"simclr": "encoder.safetensors", "mae": "reconstructions.png"}.items():
        part = workplace / "runs" / method / ENCODER
        for name in ("best.ckpt", "curve.png", "environment.json", own):
            assert (part / name).is_file(), name
        made = yaml.safe_load((part.parent / "pretrain.yaml").read_text())
        assert made["method"] == method
        assert ("temperature" in made, "mask_ratio" in made) == (
            method == "simclr",
            method == "mae",
        )
        assert made["config"]["encoders"] == [ENCODER]
        result = json.loads((part / "fit.json").read_text())
        assert {"begun", "pretrained"} == result["probe"].keys()
        assert result["probe"]["begun"] != result["probe"]["pretrained"]
    assert compkit(["pretrain", "simclr", *settings("simclr")]) == 0
    shown = capsys.readouterr()
    assert "as it began" in shown.out
    assert re.search(r"0\.\d{4}\* ", shown.out) and "* cut groups" in shown.out
    assert f"accuracy of {1 / 3:.4f}" in shown.err  # two images held back, four views


@pytest.mark.slow
def test_train_takes_the_encoder_of_simclr(workplace, capsys):
    path = f"runs/simclr/{ENCODER}/encoder.safetensors"
    network = Network(ENCODER, 2, ModelConfig(weights=path))
    own, given = network.encoder.model.state_dict(), load_file(path)
    assert own.keys() == given.keys()
    assert all(torch.equal(own[name], given[name]) for name in own)
    said = capsys.readouterr().err
    assert f"{path}: all {len(own)} weights of the encoder are loaded by name" in said
    with pytest.raises(CompkitError, match="does not fit the encoder"):
        Network(ENCODER, 2, ModelConfig(weights=path), channels=3)
    with pytest.raises(CompkitError, match=r"give model\.weights the encoder\.safetensors"):
        warm_start(network, Path(f"runs/simclr/{ENCODER}/last.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["true", "false"])
def test_train_starts_from_a_reconstruction(workplace, capsys, frozen):
    name = f"started-{frozen}"
    start = {"model__start": "runs/mae/{encoder}/last.ckpt", "training__freeze_encoder": frozen}
    argv = settings(name, training__steps="2", **start)
    assert guarded(lambda: train([*argv, "--fold", "0"])) == 0
    said = capsys.readouterr().err
    assert f"runs/mae/{ENCODER}/last.ckpt: " in said
    assert "without model.segmentation_head.0.weight, model.segmentation_head.0.bias" in said
    before = torch.load(f"runs/mae/{ENCODER}/last.ckpt", weights_only=True)["state_dict"]
    after = weights(Path(f"runs/{name}/{ENCODER}/fold0"))
    shared = [k for k in before if k != "grey" and "segmentation_head" not in k]
    same = {k: torch.equal(after[k], before[k]) for k in shared}
    encoder = {k: v for k, v in same.items() if ".encoder." in k}
    assert all(encoder.values()) == (frozen == "true")
    assert not all(v for k, v in same.items() if ".decoder." in k)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"model__decoder": "fpn"},
        {"encoders": "[resnet18]", "model__start": f"runs/mae/{ENCODER}/last.ckpt"},
    ],
)
def test_another_network_does_not_start_from_it(workplace, capsys, changed):
    shutil.rmtree("runs/other", ignore_errors=True)
    start = {"model__start": "runs/mae/{encoder}/last.ckpt"} | changed
    assert guarded(lambda: train([*settings("other", **start), "--fold", "0"])) == 2
    assert "does not fit the network" in capsys.readouterr().err
    assert not Path("runs/other").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name", "changed", "expected"),
    [
        ("mae", "mae", {"mask-window": "16"}, "mask_window: 8 → 16"),
        ("simclr", "mae", {}, "method: mae → simclr"),
        ("mae", "mae", {"mask-window": "8", "training__lr": "0.1"}, "training.lr: 0.001 → 0.1"),
        ("mae", "mae", {"mask-window": "8", "data": DATA + "0"}, "made on other data"),
        ("mae", "new", {"mask-ratio": "1"}, "--mask-ratio must be above 0 and under 1, not 1.0"),
        ("mae", "new", {"mask-ratio": "-0.1"}, "--mask-ratio must be above 0"),
        ("mae", "new", {"mask-window": "80"}, "of the 1 windows of 80 pixels in an input of 64"),
        ("mae", "new", {"input__crop": "16"}, "of the 1 windows of 16 pixels in an input of 16"),
        ("mae", "new", {"input__crop": "80"}, "input.crop is 80, but the images are 64 pixels"),
        ("mae", "new", {"mask-window": "0"}, "--mask-window must be at least 1"),
        ("mae", "new", {"temperature": "1"}, "there is no setting '--temperature'"),
        ("mae", "new", {"mask-ratios": "1"}, "did you mean '--mask-ratio'"),
        ("simclr", "new", {"temperature": "0"}, "--temperature must be positive"),
        ("simclr", "new", {"held-back": "0.99"}, "leave too few to pretrain on"),
        ("simclr", "new", {"input__batch": "64"}, "there are 12 images to pretrain on"),
        ("simclr", "new", {"model__start": "x.ckpt"}, "takes no model.start"),
        ("mae", "new", {"encoders": "[resnet10tt]"}, "did you mean 'resnet10t'"),
        ("mae", "new", {"data": "absent"}, "absent"),
        ("mae", "new", {"model__weights": "no.safetensors"}, "no weights file no.safetensors"),
    ],
)
def test_bad_input_is_one_sentence(workplace, capsys, method, name, changed, expected):
    assert compkit(["pretrain", method, *settings(name, **changed)]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said
    assert not Path("runs/new").exists()


def test_help_lists_the_settings_of_a_run_and_the_methods_own(capsys):
    with pytest.raises(SystemExit, match="0"):
        compkit(["pretrain", "mae", "--help"])
    said = capsys.readouterr().out
    assert all(option in said for option in ("--training.lr", "--mask-ratio", "--runs DIR"))


def test_no_such_method(capsys):
    assert compkit(["pretrain", "mea", "--config", "x"]) == 2
    assert "choose from" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_of_one_kind_do_not_take_each_others_place(workplace, capsys):
    assert guarded(lambda: train(settings("mae"))) == 2
    assert "is a pretraining: take another name" in capsys.readouterr().err
    start_run("trained", parse(settings("trained"))[1], DATA)
    assert compkit(["pretrain", "mae", *settings("trained")]) == 2
    assert "is a run of compkit train" in capsys.readouterr().err


@given(st.integers(16, 100), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**31))
def test_hidden_windows_are_whole_aligned_counted_and_seeded(side, window, ratio, seed):
    mask = hidden_windows(side, window, ratio, np.random.default_rng(seed))
    assert mask.shape == (side, side)
    cells = -(-side // window)
    corners = mask[::window, ::window]
    assert corners.shape == (cells, cells)
    assert corners.sum() == hidden_count(side, window, ratio)
    assert abs(corners.mean() - ratio) <= 0.5 / cells**2 + 1e-9
    place = np.arange(side) // window
    assert np.array_equal(mask, corners[place][:, place])
    again = hidden_windows(side, window, ratio, np.random.default_rng(seed))
    assert np.array_equal(mask, again)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_store(DATA)


def test_all_images_are_split_by_the_seed(store):
    training, held_back = split_images(store, 0.3, 0)
    assert sorted([*training, *held_back]) == list(range(14))
    assert len(held_back) == 4
    assert not np.array_equal(held_back, split_images(store, 0.3, 1)[1])
    grey = images_of(store, [0, 10, 13])
    assert np.array_equal(grey[1], store.test_images[0])
    assert np.array_equal(grey[2], store.test_images[3])


def test_examples_depend_on_place_and_image_alone(store):
    config = RunConfig(input=InputConfig(crop=32))
    pairs = Pairs(store, [0, 1, 12], config, training=True)
    first = pairs[5, 2]
    pairs[6, 1]
    assert torch.equal(first["one"], pairs[5, 2]["one"])
    assert not torch.equal(first["one"], first["other"])
    assert not torch.equal(first["one"], pairs[6, 2]["one"])
    puzzles = Puzzles(store, [0, 1, 12], config, training=True, window=8, ratio=0.5)
    one, again, other = puzzles[5, 2], puzzles[5, 2], puzzles[6, 2]
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["hidden"], other["hidden"])
    assert not (one["counted"] & ~one["hidden"]).any()
    shown = Puzzles(store, [0], config, training=False, window=8, ratio=0.5)[0, 0]
    assert torch.equal(shown["images"][0] * 255, torch.tensor(np.array(store.images[0])).float())


def test_a_network_sees_nothing_of_what_is_hidden():
    torch.manual_seed(0)
    config = RunConfig(encoders=(ENCODER,), model=ModelConfig(weights="none"))
    module = Reconstruction(config, ENCODER, 40, pretrained=False).eval()
    images, hidden = torch.rand(2, 1, 40, 40), torch.rand(2, 1, 40, 40) < 0.5
    changed = torch.where(hidden, torch.rand(2, 1, 40, 40), images)
    one, other = (
        module({"images": seen, "hidden": hidden, "counted": hidden}) for seen in (images, changed)
    )
    assert one.shape == images.shape
    assert torch.equal(one, other)


def test_contrastive_accuracy_of_perfect_and_of_random_views():
    torch.manual_seed(0)
    views = torch.randn(20, 8)
    assert contrastive_accuracy(views, 3 * views) == 1
    guesses = [float(contrastive_accuracy(*torch.randn(2, 5, 8))) for _ in range(2000)]
    assert chance(5) == pytest.approx(1 / 9)
    assert np.mean(guesses) == pytest.approx(chance(5), abs=0.01)


def test_explained_variance_of_the_truth_and_of_its_mean():
    torch.manual_seed(0)
    truth, counted = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16) < 0.5
    mean = torch.full_like(truth, float(truth[counted].mean()))
    for answer, expected in ((truth, 1), (mean, 0)):
        halves = [sums(truth[i], answer[i], counted[i]) for i in range(3)]
        assert float(explained_variance(torch.stack(halves).sum(0))) == pytest.approx(
            expected, abs=1e-6
        )
    wrong = torch.where(counted, truth, 9)  # what does not count is free
    assert explained_variance(sums(truth, wrong, counted)) == 1


def test_a_probe_tells_signal_from_noise():
    rng = np.random.default_rng(0)
    fold = np.arange(3000) % 5
    # Folds differ in how much of them is region, which must not pass for knowledge.
    targets = rng.random(3000) < 0.1 * (1 + fold)
    noise = rng.standard_normal((10, 3000, 8)).astype(np.float32)
    none = [cross_validated(features, targets, fold) for features in noise]
    assert np.mean([probe.auc for probe in none]) == pytest.approx(0.5, abs=0.02)
    assert none[0].majority == pytest.approx(1 - targets.mean())
    noise[0, :, 3] = targets
    full = cross_validated(noise[0], targets, fold)
    assert (full.auc, full.accuracy, full.cells) == (1, 1, 3000)
    assert cross_validated(noise[0], np.zeros(3000, bool), fold) is None


def test_the_deepest_map_of_enough_cells_is_probed():
    maps = [torch.zeros(1, c, s, s) for c, s in ((8, 32), (16, 16), (32, 8), (64, 4))]
    assert probed(maps).shape[1] == 32
    assert probed(maps[3:]).shape[1] == 64
    assert probed([torch.zeros(1, c, 6, 6) for c in (1, 2)]).shape[1] == 2
