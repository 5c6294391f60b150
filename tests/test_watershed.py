"""The organisers' baseline."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from compkit.baselines.watershed import WatershedParams, watershed
from compkit.cli import main


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
