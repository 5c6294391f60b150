"""Images without labels: what a teacher makes of them, and what it may not have seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compkit.config import (
    AugmentConfig,
    FoldsConfig,
    InputConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    UnlabelledConfig,
)
from compkit.config.check import check
from compkit.data.augment import Distort
from compkit.data.dataset import UnlabelledSet
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.losses.consistency import consistency_loss
from compkit.run import open_run, start_run
from compkit.training.fit import fit_fold
from compkit.training.job import train
from compkit.training.pseudo import open_teacher, pseudo_labelled

DATA = "phantom:size=48,labelled=6,unlabelled=3,test=2,seed=4"
BASE = RunConfig(
    encoders=("resnet10t",),
    model=ModelConfig(weights="none"),
    folds=FoldsConfig(k=2),
    input=InputConfig(batch=2, size=32),
    training=TrainingConfig(steps=6, steps_per_epoch=2, warmup=1),
)
TAUGHT = replace(BASE, unlabelled=UnlabelledConfig(weight=1.0, teacher="teacher", batch=2))
LONE = replace(BASE, unlabelled=UnlabelledConfig(weight=1.0, batch=2))
MEAN_TAUGHT = replace(LONE, unlabelled=replace(LONE.unlabelled, test=True))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with the finished run `teacher`, of two encoders."""
    path = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("COMPKIT_CACHE", str(path / "cache"))
        train(replace(BASE, encoders=("resnet10t", "resnet18")), DATA, "teacher")
        yield path


def maps(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=20)
@given(st.floats(0.5, 0.99), st.integers(0, 100))
def test_the_teachers_own_maps_are_the_best_answer(confidence, seed):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.rand(2, 3, 4, 4, generator=generator)
    everywhere = torch.ones(2, 1, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)
    answer = teacher.clone().requires_grad_()
    loss = consistency_loss(answer, teacher, *everywhere, confidence)
    (gradient,) = torch.autograd.grad(loss, answer)
    assert gradient.abs().max() < 1e-5
    other = torch.rand(2, 3, 4, 4, generator=generator)
    assert consistency_loss(other, teacher, *everywhere, confidence) >= loss


def test_unsure_outside_and_meaningless_values_count_nothing():
    teacher = torch.full((1, 2, 2, 2), 0.9)
    teacher[0, 0, 0, 0] = 0.6
    weights, known = torch.ones(1, 1, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool)
    weights[0, 0, 0, 1] = 0
    known[1, 1, 0] = False
    answer = maps(1, 2, 2, 2).requires_grad_()
    loss = consistency_loss(answer, teacher, weights, known, 0.8)
    counted = torch.autograd.grad(loss, answer)[0][0] != 0
    assert counted.tolist() == [[[False, False], [True, True]], [[False, False], [False, True]]]


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_distortion_is_seeded_and_moves_nothing(seed):
    image = np.zeros((32, 32), np.uint8)
    image[:, 16:] = 200
    distort = Distort()
    one = distort(image, seed)
    assert one.dtype == np.uint8
    assert one.shape == image.shape
    assert np.array_equal(one, Distort()(image, seed))
    # Away from the edge, whose blur reaches some pixels, the right stays brighter but for holes.
    left, right = one[:, :10].astype(float), one[:, 22:].astype(float)
    assert np.median(right[right > 0]) > np.median(left)


def test_unlabelled_examples_are_those_of_their_place(workplace):
    store = open_store(DATA)
    config = replace(BASE, augment=AugmentConfig(shift=0.4), input=InputConfig(size=32, crop=16))
    images = [store.images[i] for i in store.unlabelled]
    assert len(images) == 3
    first = UnlabelledSet(images, config)
    kept = [first[(place, place % 3)] for place in range(6)]
    again = UnlabelledSet(images, config)[(4, 1)]
    assert all(again[key].equal(kept[4][key]) for key in again)
    assert again["images"].shape == again["distorted"].shape == (1, 16, 16)
    assert not kept[1]["images"].equal(kept[4]["images"])
    assert any((one["weights"] == 0).any() for one in kept)


@pytest.mark.slow
def test_a_fold_learns_only_from_its_own_teachers(workplace):
    # So short a training makes nobody sure.
    unsure = replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, confidence=0.5))
    run = start_run("student", unsure, DATA)
    teacher = open_run("teacher")
    labels = pseudo_labelled(run, run.head(), 0)
    assert len(labels) == 3
    for encoder in teacher.config.encoders:
        assert (teacher.part(encoder, 0) / "unlabelled/maps.json").is_file()
        assert not (teacher.part(encoder, 1) / "unlabelled").exists()
    decoder = json.loads((teacher.directory / "decoder.json").read_text())
    _, opened = open_teacher("teacher", run.store, run.folds)
    assert opened.fold_params["0"] == decoder["fold_params"]["0"]
    # Another validation fold's network says something else.
    other = pseudo_labelled(run, run.head(), 1)
    pairs = [(labels[(0, i)], other[(0, i)]) for i in range(3)]
    assert any(not torch.equal(a["weights"] * a["labels"], b["weights"] * b["labels"])
               for a, b in pairs)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("config", [TAUGHT, MEAN_TAUGHT], ids=["pseudo", "mean"])
def test_stopped_and_resumed_equals_uninterrupted(workplace, config):
    def stop(epoch: int, score: float) -> None:
        if epoch == 2:
            raise InterruptedError

    name = config.unlabelled.teacher
    whole, stopped = (start_run(f"{kind}-{name}", config, DATA) for kind in ("whole", "stopped"))
    fit_fold(whole, "resnet10t", 0)
    with pytest.raises(InterruptedError):
        fit_fold(stopped, "resnet10t", 0, watch=stop)
    fit_fold(stopped, "resnet10t", 0)
    states = [
        torch.load(run.part("resnet10t", 0) / "last.ckpt", weights_only=True)["state_dict"]
        for run in (whole, stopped)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    plain = start_run("plain", BASE, DATA)
    fit_fold(plain, "resnet10t", 0)
    without = torch.load(plain.part("resnet10t", 0) / "last.ckpt", weights_only=True)
    assert any(not torch.equal(states[0][k], v) for k, v in without["state_dict"].items())
    header = (whole.part("resnet10t", 0) / "metrics.csv").read_text().splitlines()[0]
    assert "unlabelled_loss" in header


@pytest.mark.slow
def test_a_teacher_that_may_not_teach_is_refused_and_leaves_no_run(workplace):
    cases = {
        "other folds": (replace(TAUGHT, folds=FoldsConfig(k=3)), DATA),
        "other data": (TAUGHT, DATA.replace("seed=4", "seed=5")),
        "no run 'teahcer'": (
            replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, teacher="teahcer")), DATA,
        ),
        "every training image is labelled": (LONE, DATA.replace("unlabelled=3", "unlabelled=0")),
    }  # fmt: skip
    for sentence, (config, data) in cases.items():
        with pytest.raises(CompkitError, match=sentence):
            train(config, data, "refused")
        assert not (workplace / "runs/refused").exists()
    shutil.copytree(workplace / "runs/teacher", workplace / "runs/begun")
    (workplace / "runs/begun/resnet18/fold1/fit.json").unlink()
    begun = replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, teacher="begun"))
    with pytest.raises(CompkitError, match="not finished"):
        train(begun, DATA, "refused")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("weight", -1.0), ("confidence", 0.4), ("confidence", 1.0), ("ramp", 1.5), ("batch", 1)],
)
def test_settings_that_cannot_work_are_named(setting, value):
    u = replace(UnlabelledConfig(), **{setting: value})
    with pytest.raises(CompkitError, match=rf"unlabelled\.{setting}"):
        check(RunConfig(unlabelled=u))


def test_a_mean_teacher_needs_a_mean():
    config = RunConfig(training=TrainingConfig(ema=0), unlabelled=UnlabelledConfig(weight=1))
    with pytest.raises(CompkitError, match="mean needs"):
        check(config)
