"""The organisers' baseline."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout import example, write_folder
from scipy import ndimage as ndi
from skimage.filters import rank
from skimage.morphology import disk

from compkit.baselines import watershed as module
from compkit.baselines.watershed import (
    SPACE,
    WatershedParams,
    basins,
    tune_watershed,
    watershed,
)
from compkit.cli import main
from compkit.data.store import open_store
from compkit.folds import Folds
from compkit.parameters import defaults_of

DATA = "phantom:size=48,labelled=6,unlabelled=1,test=3,seed=2"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The stores of one test, with a smaller space to be tuned in."""
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    small = {name: type(param)(param.values[:3]) for name, param in SPACE.items()}
    small["background_below"] = SPACE["background_below"]
    monkeypatch.setattr(module, "SPACE", small)


@pytest.fixture
def discs() -> np.ndarray:
    """Two bright discs on a dark ground."""
    rows, columns = np.ogrid[:96, :96]
    image = np.full((96, 96), 30, np.uint8)
    image[(rows - 30) ** 2 + (columns - 30) ** 2 < 400] = 120
    image[(rows - 66) ** 2 + (columns - 66) ** 2 < 400] = 200
    return image


def test_flat_areas_become_basins():
    image = np.repeat(np.uint8([30, 120, 200]), 32)[None].repeat(64, axis=0)
    labels = watershed(image)
    assert labels.dtype == np.int32
    assert labels.shape == image.shape
    assert set(np.unique(labels)) == {1, 2, 3}
    for grey in (30, 120, 200):
        inner = ndi.binary_erosion(image == grey, iterations=3)
        assert len(np.unique(labels[inner])) == 1


def test_is_the_organisers_recipe(discs):
    from skimage.filters import rank, sobel
    from skimage.morphology import disk
    from skimage.segmentation import watershed as flood

    noise = np.random.default_rng(0).integers(0, 15, discs.shape, dtype=np.uint8)
    denoised = rank.median(discs + noise, disk(2))
    markers = ndi.label(rank.gradient(denoised, disk(5)) < 20)[0]
    wanted = flood(sobel(discs + noise), markers, compactness=0.0001)
    np.testing.assert_array_equal(watershed(discs + noise), wanted)
    assert len(np.unique(wanted)) > 2


def test_every_parameter_matters(discs):
    noise = np.random.default_rng(0).integers(0, 40, discs.shape, dtype=np.uint8)
    default = watershed(discs + noise)
    for change in (
        {"background_below": 60},
        {"median_radius": 4},
        {"gradient_radius": 2},
        {"gradient_below": 30},
        {"compactness": 10.0},
    ):
        assert not np.array_equal(watershed(discs + noise, WatershedParams(**change)), default)


def test_no_marker_gives_background():
    noise = np.random.default_rng(0).integers(0, 2, (32, 32), dtype=np.uint8) * 255
    params = WatershedParams(gradient_below=1)
    assert not watershed(noise, params).any()


def test_the_baseline_is_a_sound_submission_of_a_read_only_store(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    data, out = "phantom:size=48,labelled=2,unlabelled=0,test=3,seed=2", str(tmp_path / "w.csv")
    assert main(["baseline", "watershed", "--data", data, "--out", out]) == 0
    assert main(["check", out, "--data", data]) == 0
    assert "a sound submission of 3 images of 48×48" in capsys.readouterr().out


def test_the_gradient_is_the_rank_filters():
    rng = np.random.default_rng(0)
    for radius in (1, 2, 5):
        image = rng.integers(0, 256, (21, 21), np.uint8)
        params = WatershedParams(gradient_radius=radius, gradient_below=230)
        markers = ndi.label(rank.gradient(image, disk(radius)) < 230)[0]
        found = basins(image, image, params)
        assert markers.max()
        np.testing.assert_array_equal(found[markers > 0], markers[markers > 0])


def test_the_defaults_to_tune_from_are_the_organisers():
    assert WatershedParams(**defaults_of(SPACE)) == WatershedParams()
    assert WatershedParams() == WatershedParams(0, 2, 5, 20, 1e-4)


@settings(max_examples=20)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_cached_is_the_same_as_plain(data, seed):
    images = np.random.default_rng(seed).integers(0, 256, (4, 12, 12), np.uint8)
    images = ndi.uniform_filter(images, (0, 3, 3))
    rows = np.array([0, 2, 3])
    store = type("Store", (), {"images": images})()
    for _ in range(6):
        params = {name: data.draw(st.sampled_from(param.values)) for name, param in SPACE.items()}
        index = data.draw(st.integers(0, 2))
        wanted = watershed(images[rows[index]], WatershedParams(**params))
        np.testing.assert_array_equal(module._decoded(store, rows, index, params), wanted)


def test_tuning_is_recorded_and_shown(cache, tmp_path, capsys):
    out = tmp_path / "w.csv"
    assert main(["baseline", "watershed", "--tune", "--data", DATA, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "organisers' parameters" in printed and "tuned for adjusted_all" in printed
    manifest = json.loads(out.with_suffix(".json").read_text())
    found = manifest["out_of_fold"]
    assert manifest["params"] == found["params"]
    for params in (found["params"], *found["fold_params"].values()):
        assert all(params[name] in param.values for name, param in SPACE.items())
    assert found["scores"]["adjusted_all"] > found["default_scores"]["adjusted_all"]
    assert len(found["image_names"]) == found["images"] == 6
    store = open_store(DATA)
    assert found["image_names"] == [store.train[row] for row in store.labelled]
    assert main(["check", str(out), "--data", DATA]) == 0
    assert f"{found['scores']['adjusted_all']:.4f}"[:5] in (tmp_path / "ledger.csv").read_text()


def test_a_part_of_many_images_is_tuned_on(cache, monkeypatch, capsys):
    monkeypatch.setattr(module, "PIXELS", 48**2)
    monkeypatch.setattr(Folds, "doubts", lambda _: ["cut groups"])
    _, record = tune_watershed(open_store(DATA))
    assert record["images"] == 6
    printed = capsys.readouterr()
    assert "tuning the watershed: on 5 of 6 images" in printed.err
    assert ")*" in printed.out and "* cut groups\n" in printed.out


def test_where_nothing_can_be_written_nothing_is_tuned(cache, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = ["baseline", "watershed", "--tune", "--data", DATA]
    assert main([*command, "--out", str(tmp_path / "file" / "w.csv")]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert f"error: nothing can be written to {tmp_path / 'file'}" in printed.err


def test_labels_are_needed_to_tune(cache, tmp_path, capsys):
    for labelled, reason in ((0, "none of the 12"), (1, "a single image is labelled")):
        folder = write_folder(tmp_path / str(labelled), *example(labelled=labelled))
        command = ["baseline", "watershed", "--data", str(folder), "--out", str(tmp_path / "w.csv")]
        assert main([*command, "--tune"]) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("error: ") == 1
        assert not (tmp_path / "w.csv").exists()
