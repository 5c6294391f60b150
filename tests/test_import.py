"""Slices of volumes as a competition: ``compkit data import``."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from compkit.cli import main
from compkit.competition.phantom import PhantomSettings, write_phantom
from compkit.config import RunConfig
from compkit.config.training import AugmentConfig, InputConfig, LossConfig
from compkit.data.dataset import labelled_set
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.heads import make_head
from compkit.phantom.volumes import write_volume
from compkit.volumes.cases import Volume, find_cases, read_case
from compkit.volumes.classes import class_map
from compkit.volumes.slices import TURNS, Look, body_of, cut_at, cuts, placed, turned

LIKE = "phantom:size=64,labelled=30,unlabelled=0,test=2"


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients in TotalSegmentator's layout."""
    folder = tmp_path_factory.mktemp("volumes")
    for number in range(3):
        write_volume(folder, 1, number, 64, 40)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))


def imported(volumes: Path, out: Path, *more: object) -> int:
    words = ["data", "import", volumes, "--out", out, "--slices", 6, *more]
    return main([str(word) for word in words])


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_volumes_become_a_competition_of_whole_patients(volumes: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    assert imported(volumes, out, "--size", 64, "--spacing", 6.25) == 0
    store = open_store(str(out))
    assert len(store.labelled) == len(store.train) == 18
    assert store.size == 64 and store.images.dtype == np.uint8
    with (out / "groups.csv").open() as file:
        groups = {row["image"]: row["patient"] for row in csv.DictReader(file)}
    assert set(groups) == set(store.train) and set(groups.values()) == {"s0000", "s0001", "s0002"}
    with (out / "regions.csv").open() as file:
        rows = list(csv.DictReader(file))
    named = {(row["image"], int(row["region"])): row["organ"] for row in rows}
    for index, name in enumerate(store.train):
        ids = np.unique(store.labels_of(index))
        assert {(name, i) for i in ids[ids > 0].tolist()} == {k for k in named if k[0] == name}
    assert {"liver", "vertebra"} <= set(named.values())


def test_what_is_imitated_is_what_the_volumes_were_made_with(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    write_phantom(PhantomSettings(64, 60, 0, 1), target)
    for path in (target / "X_train").iterdir():  # upside down, and larger
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        cv2.imwrite(str(path), image[::-1])
    assert imported(volumes, tmp_path / "new", "--like", target) == 0
    look = json.loads((tmp_path / "new" / "look.json").read_text())
    assert look["size"] == [64, 64]
    assert look["spacing"] == pytest.approx(400 / 64, rel=0.1)
    assert look["window"] == pytest.approx([-160, 240], abs=45)
    assert look["turn"] == "vflip"
    assert look["planes"]["axial"] > 0.9
    assert "orientation vflip" in capfd.readouterr().err


def test_slices_of_the_target_s_own_patients_are_left_out(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    look = ("--size", 64, "--spacing", 6.25, "--window", -160, 240, "--planes", 1, 0, 0)
    assert imported(volumes, first, *look) == 0
    shutil.rmtree(first / "cases" / "s0002")  # of the target are two of the three
    rows = (first / "groups.csv").read_text().splitlines()
    (first / "groups.csv").write_text("\n".join(r for r in rows if "s0002" not in r) + "\n")
    wholly = (*look, "--turn", "identity", "--like", first)
    assert imported(volumes, tmp_path / "new", *wholly) == 0
    told = {c.name: json.loads((c / "case.json").read_text()) for c in
            (tmp_path / "new" / "cases").iterdir()}  # fmt: skip
    assert told["s0000"]["near_duplicates"] == told["s0001"]["near_duplicates"] == 6
    assert (told["s0002"]["slices"], told["s0002"]["near_duplicates"]) == (6, 0)
    said = capfd.readouterr().err
    assert "12 slices are left out" in said and "no organ" not in said


def test_a_killed_import_goes_on_to_the_same_files(
    volumes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert imported(volumes, whole) == imported(volumes, killed) == 0
    shutil.rmtree(killed / "cases" / "s0001")
    (killed / "competition.yaml").unlink()
    before = (killed / "cases" / "s0000" / "case.json").stat().st_mtime_ns
    assert imported(volumes, killed) == 0
    assert files(whole) == files(killed)
    assert (killed / "cases" / "s0000" / "case.json").stat().st_mtime_ns == before
    for name in ("case.json", "regions.csv"):
        path = killed / "cases" / "s0000" / name
        held = path.read_text()
        for spoilt in ("{}", "[]", held[: len(held) // 2], ""):
            (killed / "competition.yaml").unlink(missing_ok=True)
            path.write_text(spoilt)
            capsys.readouterr()
            assert imported(volumes, killed) == 2
            assert f"delete {killed} and import again" in capsys.readouterr().err
        path.write_text(held)
    assert imported(volumes, killed) == 0


def test_organs_are_renamed_merged_and_dropped(volumes: Path, tmp_path: Path) -> None:
    classes = tmp_path / "map.yaml"
    classes.write_text("kidney: null\n'*bone': bone\nsacrum: bone\n")
    assert imported(volumes, tmp_path / "new", "--classes", classes) == 0
    with (tmp_path / "new" / "regions.csv").open() as file:
        organs = {row["organ"] for row in csv.DictReader(file)}
    assert "liver" in organs and not organs & {"kidney", "hip_bone", "sacrum"}


def test_a_body_is_ignored_where_an_organ_s_file_is_missing(volumes: Path, tmp_path: Path) -> None:
    some = tmp_path / "volumes"
    shutil.copytree(volumes, some)
    (some / "s0001" / "segmentations" / "liver.nii.gz").unlink()
    for name, unsure in (("missing", {"s0001"}), ("all", {"s0000", "s0001", "s0002"})):
        assert imported(some, tmp_path / name, "--unsure", name) == 0
        store = open_store(str(tmp_path / name))
        for index, image in enumerate(store.train):
            ignored, labels = store.ignored_of(index), store.labels_of(index)
            assert ignored is not None and 65535 not in labels
            assert ignored.any() == (image.split("-")[0] in unsure)
            assert not (ignored & (labels > 0)).any()
    config = RunConfig(input=InputConfig(crop=None))
    head = make_head(config, store.size)
    for share in (0.0, 0.4, 1.0):
        weighed = replace(
            config, loss=LossConfig(ignored=share), augment=AugmentConfig(0, affine_p=0)
        )
        example = labelled_set(store, [0], weighed, head)[0, 0]
        away = store.ignored_of(0)
        np.testing.assert_allclose(
            example["weights"][0].numpy(), np.where(away, share, 1), atol=0.01
        )


def test_a_broken_case_is_told_and_left_out(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "volumes"
    shutil.copytree(volumes, broken)
    shutil.copytree(volumes / "s0000", broken / "s0007")
    shutil.copy(broken / "s0000" / "ct.nii.gz", broken / "s0007" / "labels.nii.gz")
    ct = broken / "s0001" / "ct.nii.gz"
    ct.write_bytes(ct.read_bytes()[:2000])
    assert imported(broken, tmp_path / "new") == 0
    said = capfd.readouterr().err
    assert f"left out: {ct}" in said and "s0007/labels.nii.gz lies beside segmentations/" in said
    assert len(open_store(str(tmp_path / "new")).train) == 12


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--slices", 0), "--slices 0 is outside"),
        (("--spacing", -1), "--spacing -1.0 is outside"),
        (("--window", 5, 5), "is not from a lower to a higher"),
        (("--planes", 0, 0, 0), "are no shares"),
        (("--turn", "left"), "--turn left is none of identity"),
        (("--classes", "MAP"), "names no organ of the volumes (livver) (did you mean"),
        (("--like", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: tuple, said: str
) -> None:
    (tmp_path / "map.yaml").write_text("livver: liver\n")
    words = [tmp_path / "map.yaml" if word == "MAP" else word for word in more]
    assert imported(volumes, tmp_path / "new", *words) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_of_the_user_s_is_overwritten(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    assert imported(volumes, mine) == 2
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]
    assert imported(volumes, tmp_path / "new") == 0
    assert imported(volumes, tmp_path / "new", "--seed", 1) == 2
    assert "was imported otherwise" in capfd.readouterr().err


@pytest.mark.parametrize("turn", TURNS)
def test_image_and_labels_turn_together(volumes: Path, turn: str) -> None:
    volume = read_case(find_cases(volumes)[0])
    straight = Look((48, 48), 8.0, (-160, 240), {"axial": 1.0})
    other = Look((48, 48), 8.0, (-160, 240), {"axial": 1.0}, turn)
    one, two = (cut_at(volume, look, "axial", 20) for look in (straight, other))
    np.testing.assert_array_equal(turned(one.image, turn), two.image)
    np.testing.assert_array_equal(turned(one.labels, turn) > 0, two.labels > 0)


def test_slices_are_as_many_as_asked_of_each_plane(volumes: Path) -> None:
    volume = read_case(find_cases(volumes)[0])
    look = Look((64, 64), 8.0, (-160, 240), {"axial": 0.5, "coronal": 0.0, "sagittal": 0.5})
    planes = [cut.plane for cut in cuts(volume, look, 20, np.random.default_rng(0))]
    assert len(planes) == 20 and set(planes) == {"axial", "sagittal"}


def test_a_volume_of_which_all_organs_are_dropped_has_no_slice() -> None:
    nothing = np.zeros((3, 20, 20), np.uint8)
    volume = Volume(nothing.astype(np.int16), (1.0, 1.0, 1.0), (), nothing, 0)
    look = Look((20, 20), 1.0, (-160, 240), {"axial": 1.0})
    assert not list(cuts(volume, look, 5, np.random.default_rng(0)))


def test_no_organ_is_called_nothing(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("'*': ''\n")
    with pytest.raises(CompkitError, match="give each organ a line"):
        class_map(tmp_path / "map.yaml")


def test_regions_are_connected_parts_of_one_organ() -> None:
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 2:5, 2:5] = labels[0, 10:12, 10:12] = 1
    labels[0, 5:8, 2:5] = 2
    grey = np.full((1, 20, 20), 40, np.int16)
    volume = Volume(grey, (1.0, 1.0, 1.0), ("a", "b"), labels, 0)
    cut = cut_at(volume, Look((20, 20), 1.0, (-160, 240), {"axial": 1.0}), "axial", 0)
    assert sorted(cut.organs) == ["a", "a", "b"]
    for number, organ in enumerate(cut.organs, start=1):
        inside = labels[0][cut.labels == number]
        assert set(inside.tolist()) == {volume.organs.index(organ) + 1}


def test_a_slice_is_padded_and_cropped_about_a_pixel() -> None:
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    found = placed(image, (2, 3), (9, 3))
    assert found.shape == (9, 3)
    np.testing.assert_array_equal(found[2:7], image[:, 2:5])
    assert not found[:2].any() and not found[7:].any()


def test_a_body_is_filled_and_nothing_else() -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:15, 3:15] = True
    mask[6:10, 6:10] = False
    mask[18, :] = True
    body = body_of(mask)
    assert body[3:15, 3:15].all() and body.sum() == 144


def test_a_mistyped_groups_path_names_its_key(
    volumes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert imported(volumes, tmp_path / "new") == 0
    own = tmp_path / "new" / "competition.yaml"
    own.write_text(own.read_text().replace("groups.csv", "gruops.csv"))
    assert main(["data", "describe", "--data", str(tmp_path / "new")]) == 2
    told = capfd.readouterr().err
    assert "gruops.csv" in told and "correct groups in its YAML" in told
