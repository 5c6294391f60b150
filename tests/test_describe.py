"""Statistics and pictures of a competition's data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layout import example, write_folder
from PIL import Image

from compkit.cli import main
from compkit.describe.colours import colour_numbers, coloured
from compkit.describe.statistics import measure, neighbours, summarise

DATA = "phantom:size=64,labelled=5,unlabelled=2,test=3,seed=2"


def maps():
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return hnp.arrays(np.uint8, shape, elements=st.integers(0, 6))


@given(maps(), st.permutations(range(1, 256)))
def test_ids_mean_nothing(labels, order):
    table = np.array([0, *order], np.uint8)
    one, other = measure(labels), measure(table[labels])
    np.testing.assert_array_equal(one.areas, other.areas)
    assert (one.touching, one.split, one.coverage) == (other.touching, other.split, other.coverage)


@given(maps())
def test_flips_and_turns_change_nothing_but_the_order(labels):
    wanted = measure(labels)
    for same in (labels.T, labels[::-1], np.rot90(labels)):
        found = measure(same)
        assert sorted(found.areas) == sorted(wanted.areas)
        assert (found.touching, found.split) == (wanted.touching, wanted.split)


@given(maps())
def test_statistics_of_one_image(labels):
    found = measure(labels)
    ids = set(labels[labels > 0].tolist())
    assert len(found.areas) == len(ids)
    assert math.isclose(found.coverage, np.count_nonzero(labels) / labels.size)
    assert 0 <= found.touching <= len(ids)
    assert 0 <= found.split <= len(ids)


def test_parts_and_neighbours_of_a_known_image():
    labels = np.array(
        [
            [1, 1, 2, 0, 5],
            [0, 0, 2, 0, 0],
            [7, 0, 0, 5, 0],
        ],
        np.uint8,
    )
    found = measure(labels)
    assert sorted(found.areas) == [1, 2, 2, 2]
    assert found.touching == 2  # 1 and 2; nothing else shares a pixel's edge
    assert found.split == 1  # of region 5
    assert neighbours(labels).tolist() == [[1, 2]]
    summary = summarise([found, measure(np.zeros((3, 5), np.uint8))])
    assert summary["regions_per_image"] == {
        "total": 4, "mean": 2.0, "sd": 2.0, "min": 0, "median": 2.0, "max": 4,
    }  # fmt: skip
    assert summary["coverage"]["mean"] == pytest.approx(7 / 30)
    assert summary["region_share"]["mean"] == pytest.approx(7 / 4 / 15)
    assert summary["large"]["images"] == 0.5
    assert summary["touching"] == {"regions": 2, "share": 0.5}
    assert summary["split"] == {"regions": 1, "share": 0.25}


@settings(max_examples=50)
@given(hnp.arrays(np.uint8, (8, 8), elements=st.integers(0, 60)))
def test_touching_regions_have_different_colours(labels):
    colours = colour_numbers(labels)
    np.testing.assert_array_equal(colours > 0, labels > 0)
    for above, below in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:, 1:], np.s_[:, :-1]),
    ):
        one, other = labels[above], labels[below]
        meet = (one != other) & (one > 0) & (other > 0)
        assert (colours[above] != colours[below])[meet].all()
    for number in np.unique(labels):
        assert len(np.unique(colours[labels == number])) == 1
    for shape in ((8, 8), (8, 8, 3)):
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        picture = coloured(labels, image)
        assert picture.shape == (8, 8, 3)
        assert picture.min() >= 0 and picture.max() <= 1
        plain = image[..., None] if image.ndim == 2 else image
        assert np.abs(picture * 255 - plain)[labels == 0].max(initial=0) < 0.5


def test_a_palette_that_does_not_suffice_gets_longer():
    """Each region touches every other: wide stretches above, each over a bit of all."""
    count = 20
    labels = np.repeat(np.repeat(np.arange(1, count + 1), count)[None], 2, axis=0)
    labels[1] = np.tile(np.arange(1, count + 1), count)
    colours = colour_numbers(labels)
    assert len(np.unique(colours)) == count
    pixels = coloured(labels, np.zeros(labels.shape, np.uint8)).reshape(-1, 3)
    assert len(np.unique(pixels.round(6), axis=0)) == count


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))


def test_everything_is_printed_and_written(cache, tmp_path, capsys):
    out = tmp_path / "made" / "here"
    assert main(["data", "describe", "--data", DATA, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "7 (5 labelled, 2 not)" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "describe.json", "gallery.png", "statistics.png",
    ]  # fmt: skip
    found = json.loads((out / "describe.json").read_text())
    assert found["images"]["test"] == 3
    assert found["groups"]["count"] >= 1
    areas = [area for image in found["labelled"].values() for area in image["areas"]]
    assert len(areas) == found["regions_per_image"]["total"]
    assert np.mean(areas) / 64**2 == pytest.approx(found["region_share"]["mean"])
    for name in ("statistics.png", "gallery.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_without_a_folder_nothing_is_written(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = str(write_folder(tmp_path / "data", *example()))
    before = set(tmp_path.rglob("*.png"))
    assert main(["data", "describe", "--data", data]) == 0
    assert "regions in an image" in capsys.readouterr().out
    assert set(tmp_path.rglob("*.png")) == before


def test_bad_input_is_one_sentence(cache, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    bare = str(write_folder(tmp_path / "bare", *example(labelled=0)))
    for arguments, reason in (
        (["--data", str(tmp_path / "nowhere")], "nowhere"),
        (["--data", bare], "labelled"),
        (["--data", DATA, "--out", str(tmp_path / "file")], "is a file"),
        (["--data", DATA, "--out", str(tmp_path / "file" / "x")], "file"),
    ):
        assert main(["data", "describe", *arguments]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1 and reason in lines[0]


@pytest.mark.parametrize("name", ["statistics.png", "gallery.png", "describe.json"])
def test_what_is_not_ours_is_left_alone_and_what_is_ours_made_anew(cache, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"data": "mine"}')
    assert main(["data", "describe", "--data", DATA, "--out", str(out)]) == 2
    assert f"{name} is there, and not from" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ['{"data": "mine"}']
    (out / name).unlink()
    assert main(["data", "describe", "--data", DATA, "--out", str(out)]) == 0
    for gone in ([], ["gallery.png", "statistics.png"]):  # a kill may have left no pictures
        for picture in gone:
            (out / picture).unlink()
        assert main(["data", "describe", "--data", DATA, "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 3
