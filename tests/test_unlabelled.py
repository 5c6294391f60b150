"""Images without labels: what a teacher makes of them, and what it may not have seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from compkit.begin import start_run
from compkit.config import (
    FoldsConfig,
    InputConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    UnlabelledConfig,
)
from compkit.config.check import check
from compkit.errors import CompkitError
from compkit.run import open_run
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


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with the finished run `teacher`, of two encoders."""
    path = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("COMPKIT_CACHE", str(path / "cache"))
        train(replace(BASE, encoders=("resnet10t", "resnet18")), DATA, "teacher")
        yield path


@pytest.mark.slow
def test_a_fold_learns_only_from_its_own_teachers(workplace):
    # So short a training makes nobody sure.
    unsure = replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, confidence=0.5))
    run = start_run("student", unsure, DATA)
    teacher = open_run("teacher")
    others = [teacher.part(encoder, 1) / "last.ckpt" for encoder in teacher.config.encoders]
    for path in others:
        path.rename(path.with_name("away"))
    labels = pseudo_labelled(run, run.head(), 0)
    with pytest.raises(CompkitError, match="no checkpoint"):
        pseudo_labelled(run, run.head(), 1)
    for path in others:
        path.with_name("away").rename(path)
    assert len(labels) == 3
    decoder = json.loads((teacher.directory / "decoder.json").read_text())
    _, opened = open_teacher("teacher", run.store, run.folds)
    assert opened.fold_params["0"] == decoder["fold_params"]["0"]
    # Another validation fold's network says something else.
    other = pseudo_labelled(run, run.head(), 1)
    pairs = [(labels[(0, i)], other[(0, i)]) for i in range(3)]
    assert any(not torch.equal(a["weights"] * a["labels"], b["weights"] * b["labels"])
               for a, b in pairs)  # fmt: skip


@pytest.mark.slow
def test_stopped_and_resumed_equals_uninterrupted(workplace):
    def stop(epoch: int, score: float) -> None:
        if epoch == 2:
            raise InterruptedError

    config = replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, test=True))
    whole, stopped = (start_run(name, config, DATA) for name in ("whole", "stopped"))
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
        "no run or ensemble 'teahcer'": (
            replace(TAUGHT, unlabelled=replace(TAUGHT.unlabelled, teacher="teahcer")), DATA,
        ),
        "every training image is labelled": (TAUGHT, DATA.replace("unlabelled=3", "unlabelled=0")),
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


def test_a_weight_needs_a_teacher():
    with pytest.raises(CompkitError, match=r"unlabelled\.weight needs unlabelled\.teacher"):
        check(RunConfig(unlabelled=UnlabelledConfig(weight=1)))
