"""Which organs of volumes a competition's nameless regions are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from compkit.cli import main
from compkit.phantom.kinds import LABELLED
from compkit.phantom.volumes import write_volume
from compkit.volumes.organs import _expected_numbers, _rates, described

DATA = "phantom:size=64,labelled=60,unlabelled=40,test=2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))


def imported(volumes: Path, out: Path, *more: object) -> int:
    words = ["data", "import", volumes, "--out", out, "--slices", 6, "--organs", "shown", *more]
    return main([str(word) for word in words])


def test_organs_that_the_labels_do_not_show_are_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        write_volume(tmp_path / "volumes", 1, number, 64, 40)
    out = tmp_path / "new"
    assert imported(tmp_path / "volumes", out, "--like", DATA) == 0
    organs = pd.read_csv(out / "organs.csv", index_col="organ")
    labelled = organs.index.str.replace("_", " ").isin(LABELLED)
    # Rare organs are kept in doubt; of those that are labelled, hardly one is lost.
    assert organs.kept[labelled].mean() > 0.9
    assert (~organs.kept[~labelled]).mean() > 0.5
    assert organs.chance[["aorta", "lung", "vertebra"]].min() > 0.9
    assert organs.chance[["diaphragm", "mesenteric_vessel", "rib"]].max() < 0.05
    regions = pd.read_csv(out / "regions.csv")
    assert set(regions.organ) <= set(organs.index[organs.kept])
    held = json.loads((out / "look.json").read_text())
    assert set(held["dropped"]) == set(organs.index[~organs.kept])
    assert f"{organs.kept.sum()} organs are kept: " in capfd.readouterr().err


def test_without_a_target_no_organs_are_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_volume(tmp_path / "volumes", 1, 0, 32, 5)
    assert imported(tmp_path / "volumes", tmp_path / "new") == 2
    assert "--organs shown needs --like" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_target_without_regions_shows_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_volume(tmp_path / "volumes", 1, 0, 32, 10)
    for kind in ("images", "labels"):
        (tmp_path / "target" / kind).mkdir(parents=True)
    image = np.zeros((32, 32), np.uint8)
    image[4:28, 4:28] = 100
    for name in "ab":
        cv2.imwrite(str(tmp_path / "target" / "images" / f"{name}.png"), image)
        cv2.imwrite(str(tmp_path / "target" / "labels" / f"{name}.png"), image * 0)
    assert imported(tmp_path / "volumes", tmp_path / "new", "--like", tmp_path / "target") == 2
    assert "organs cannot be told, as no label is a region" in capfd.readouterr().err


def test_regions_that_are_no_organ_of_the_volumes_are_not_taken_for_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_volume(tmp_path / "volumes", 1, number, 64, 40)
    kept = tmp_path / "classes.yaml"  # of all that the target labels only a rare organ is left
    kept.write_text('gallbladder: gallbladder\npsoas: psoas\n"*": null\n')
    more = ("--like", DATA, "--classes", kept)
    assert imported(tmp_path / "volumes", tmp_path / "new", *more) == 2
    assert "seem unlike any organ of the volumes" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_frequencies_are_found_though_regions_are_taken_for_others() -> None:
    rng = np.random.default_rng(0)
    true = np.array([600, 0, 200])
    confusion = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    seen = [rng.choice(3, size=n, p=row) for n, row in zip(true, confusion, strict=True)]
    odds = confusion[:, np.concatenate(seen)].T  # of each class, that it looks so
    assert _expected_numbers(odds, np.ones(800)) == pytest.approx(true, abs=50)


def test_rates_scatter_as_groups_of_images_do() -> None:
    odds = np.tile([[1.0, 0.0]], (300, 1))
    image_of = np.repeat(np.arange(100), 3)  # three regions an image
    rng = np.random.default_rng(0)
    alone = _rates(odds, image_of, np.arange(100), rng)
    few = _rates(odds, np.repeat(np.arange(10), 30), np.repeat(np.arange(2), 5), rng)
    for drawn in (alone, few):
        assert drawn[:, 0].mean() == pytest.approx(300.5, rel=0.02)
        assert drawn[:, 1].mean() == pytest.approx(0.5, abs=0.2)
    assert drawn[:, 0].std() == pytest.approx(300**0.5, rel=0.2)
    uneven = _rates(odds[:100], np.arange(100) // 10 % 3, np.array([0, 1, 1, 2]), rng)
    assert uneven[:, 0].std() > 1.5 * uneven[:, 0].mean() ** 0.5


def test_a_region_is_described_by_its_size_place_and_shape() -> None:
    image = np.full((60, 60), 100, np.uint8)
    labels = np.zeros((60, 60), np.uint8)
    labels[27:33, 5:25], labels[10:14, 40:44] = 3, 7
    image[labels == 3] = 200
    wide, square = described(image, labels)
    assert wide[0] == pytest.approx(np.log(120 / 3600))
    assert wide[7] == pytest.approx(29.5 / 60) and square[8] == pytest.approx(41.5 / 60)
    assert wide[4] == pytest.approx(2 * np.log(20 / 6)) and square[4] == pytest.approx(0)
    assert wide[5] == pytest.approx(1)  # cosine of twice its angle: it lies along x
    assert wide[15:18] == pytest.approx(200) and square[12] == pytest.approx(0)
    assert described(image, np.zeros_like(labels)).shape == (0, 20)


@pytest.mark.parametrize("fill", [0, 100])
def test_any_region_is_described_by_numbers(fill: int) -> None:
    image = np.full((12, 12), fill, np.uint8)
    labels = np.zeros((12, 12), np.uint16)
    labels[3, 4], labels[:, 8], labels[8:, :4] = 1, 2, 65000
    assert np.isfinite(described(image, labels)).all()
    assert np.isfinite(described(image, np.ones_like(labels))).all()
