"""Labelled images of other data, in every batch beside a run's own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from compkit.cli import main
from compkit.config import ExternalConfig, FoldsConfig, InputConfig, ModelConfig, RunConfig
from compkit.config import TrainingConfig as Training
from compkit.config.check import check
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.leak import seen_by
from compkit.training.callbacks import LAST
from compkit.training.external import open_external
from compkit.training.job import train

DATA = "phantom:size=48,labelled=6,unlabelled=2,test=2,seed=4"
OTHER = "phantom:size=64,labelled=5,unlabelled=1,test=1,seed=5"
BASE = RunConfig(
    encoders=("plain_unet16",),
    folds=FoldsConfig(k=2),
    model=ModelConfig(weights="none"),
    input=InputConfig(batch=2, size=32),
    training=Training(steps=4, steps_per_epoch=2, warmup=1),
)
BESIDE = replace(BASE, external=ExternalConfig(OTHER, batch=3))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_networks_learn_of_both_and_validate_on_their_own(tmp_path):
    train(BASE, DATA, "alone", fold=0)
    train(BESIDE, DATA, "both", fold=0)
    own, other = open_store(DATA), open_store(OTHER)
    parts = [tmp_path / "runs" / name / "plain_unet16" / "fold0" for name in ("alone", "both")]
    seen = [set(seen_by(part / LAST)) for part in parts]
    assert seen[1] - seen[0] == set(other.digests(other.labelled.tolist()))
    assert seen[0] < set(own.digests(own.labelled.tolist()))
    losses = [(part / "metrics.csv").read_text().splitlines()[0] for part in parts]
    assert "external_loss" not in losses[0] and "external_loss" in losses[1]
    with pytest.raises(CompkitError, match=r"another configuration \(external.weight"):
        train(replace(BESIDE, external=ExternalConfig(OTHER, 2.0, 3)), DATA, "both", fold=1)


@pytest.mark.slow
def test_the_background_of_a_run_s_own_images_may_weigh_less(tmp_path):
    """Where nothing is learnt, losses are of the same network."""
    still = replace(BESIDE, training=Training(steps=1, steps_per_epoch=1, warmup=0, lr=1e-30))
    losses = {}
    for name, weight in (("full", 1.0), ("tenth", 0.1), ("none", 0.0)):
        config = replace(still, external=replace(still.external, background=weight))
        train(config, DATA, name, fold=0)
        table = pd.read_csv(tmp_path / "runs" / name / "plain_unet16/fold0/metrics.csv")
        losses[name] = (table.loss[0], table.external_loss[0])
    assert len({round(own, 6) for own, _ in losses.values()}) == 3
    assert len({round(other, 6) for _, other in losses.values()}) == 1


@pytest.mark.slow
def test_a_run_is_bound_to_the_other_data(tmp_path):
    folder = tmp_path / "other"
    words = "--layout folder --size 48 --labelled 4 --unlabelled 0 --test 1 --seed 6"
    assert main(["phantom", "--out", str(folder), *words.split()]) == 0
    beside = replace(BASE, external=ExternalConfig(str(folder), batch=2))
    train(beside, DATA, "bound", fold=0)
    next((folder / "images").iterdir()).unlink()
    for label in (folder / "labels").iterdir():
        if not any(p.stem == label.stem for p in (folder / "images").iterdir()):
            label.unlink()
    with pytest.raises(CompkitError, match="which was changed since: restore it"):
        train(beside, DATA, "bound", fold=1)
    shutil.rmtree(folder)
    with pytest.raises(CompkitError, match="no competition's data"):
        train(beside, DATA, "bound", fold=1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (DATA, "holds 6 of the images of these data"),
        ("deep", "images of 1 channel\\(s\\) of 16 bits, but these data 1 channel\\(s\\) of 8"),
        ("nowhere", "no competition's data"),
    ],
)
def test_what_cannot_teach_is_refused(data, sentence):
    for kind in ("images", "labels"):
        Path("deep", kind).mkdir(parents=True)
        cv2.imwrite(f"deep/{kind}/a.png", np.eye(32, dtype=np.uint16) * 999)
    with pytest.raises(CompkitError, match=sentence):
        open_external(replace(BASE, external=ExternalConfig(data)), open_store(DATA))


def test_without_other_data_there_is_none():
    assert open_external(BASE, open_store(DATA)) is None
    assert BASE.batches == (2,) and BESIDE.batches == (2, 3)
    for wrong, sentence in (
        (ExternalConfig(OTHER, 0.0), "weight must be positive"),
        (ExternalConfig(OTHER, background=1.5), "background must be from 0 to 1"),
    ):
        with pytest.raises(CompkitError, match=rf"external\.{sentence}"):
            check(replace(BESIDE, external=wrong))
