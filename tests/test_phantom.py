"""The built-in competition: what it draws, and how it is written."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi

from compkit.competition import competition_of, phantom
from compkit.competition.phantom import Phantom, PhantomSettings, PhantomSource, write_phantom
from compkit.competition.table import read_table
from compkit.errors import CompkitError
from compkit.phantom.kinds import KINDS, LABELLED, NEVER, TEST_ONLY
from compkit.phantom.slices import MOST_SLICES, draw_slice, patient_of

SMALL = PhantomSettings(size=64, labelled=3, unlabelled=2, test=2, seed=7)


@pytest.fixture(scope="module")
def train():
    return [draw_slice(0, "train", index, 128) for index in range(120)]


@pytest.fixture(scope="module")
def held_back():
    return [draw_slice(0, "test", index, 128) for index in range(60)]


def kinds_under_labels(slices):
    """Return the names of the kinds of which a pixel is labelled."""
    numbers = np.unique(np.concatenate([each.kinds[each.labels > 0] for each in slices]))
    return {KINDS[number - 1] for number in numbers}


def kinds_seen(slices):
    return {KINDS[n - 1] for each in slices for n in np.unique(each.kinds) if n}


def test_same_arguments_same_slice_in_any_order():
    forth = [draw_slice(3, "train", index, 96) for index in (0, 1, 2)]
    back = [draw_slice(3, "train", index, 96) for index in (2, 1, 0)][::-1]
    for one, other in zip(forth, back, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.labels, other.labels)


def test_seed_split_and_index_each_matter():
    slices = [
        draw_slice(*arguments, 64).image
        for arguments in ((0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "train", 1))
    ]
    assert len({image.tobytes() for image in slices}) == 4


def test_images_do_not_depend_on_the_counts():
    few = PhantomSource(PhantomSettings(size=64, labelled=2, unlabelled=0, test=1))
    many = PhantomSource(PhantomSettings(size=64, labelled=4, unlabelled=30, test=9))
    assert np.array_equal(few.image("train", 1), many.image("train", 1))
    assert np.array_equal(few.labels().labels, many.labels().labels[:2])


def test_another_size_shows_the_same_anatomy():
    for index in range(4):
        small, large = (draw_slice(0, "train", index, size) for size in (128, 256))
        assert np.mean(small.kinds == large.kinds[::2, ::2]) > 0.9
        shrunk = cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small.image.ravel(), shrunk.ravel())[0, 1] > 0.9


def test_statistics_are_near_the_challenges(train):
    areas = [np.bincount(each.labels.ravel(), minlength=256)[1:] / 128**2 for each in train]
    counts = np.array([np.count_nonzero(area) for area in areas])
    assert 13 < counts.mean() < 23 and 3 < counts.std() < 9 and counts.min() >= 3
    assert 0.13 < np.mean([area.sum() for area in areas]) < 0.25
    assert 0.006 < np.sum(areas) / counts.sum() < 0.016
    assert 0.05 < np.mean([area.max() > 0.1 for area in areas]) < 0.45


def test_every_region_is_4_connected(train, held_back):
    for each in train[:20] + held_back[:20]:
        for region in np.unique(each.labels)[1:]:
            assert ndi.label(each.labels == region)[1] == 1


def test_region_ids_are_arbitrary(train):
    assert all(each.labels.dtype == np.uint8 for each in train)
    ids = [np.unique(each.labels)[1:] for each in train]
    assert any(len(each) < each.max() for each in ids)
    assert len(np.unique(np.concatenate(ids))) > 200  # the ids of 120 images fill 1..255


def test_some_regions_touch_and_some_do_not(train):
    merged = sum(ndi.label(each.labels > 0)[1] for each in train)
    regions = sum(len(np.unique(each.labels)) - 1 for each in train)
    assert 0.4 < merged / regions < 0.9


def test_images_look_like_windowed_ct(train):
    for each in train:
        kinds = each.kinds
        fat = np.median(each.image[kinds == KINDS.index("visceral fat") + 1])
        wall = np.median(each.image[kinds == KINDS.index("body wall") + 1])
        assert np.median(each.image[kinds == 0]) < 12 < fat < 75 < wall < 140
        assert each.image.max() > 170  # bone


def test_bowel_is_not_convex_and_not_homogeneous(train):
    bowel = KINDS.index("small bowel") + 1
    shares, spreads = [], []
    for each in train:
        for region in np.unique(each.labels[each.kinds == bowel])[1:]:
            mask = (each.labels == region).astype(np.uint8)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            hull = max(cv2.contourArea(cv2.convexHull(outline)) for outline in outlines)
            if hull > 60:
                shares.append(mask.sum() / hull)
                spreads.append(each.image[mask > 0].std())
    assert np.mean(np.array(shares) < 0.9) > 0.2
    assert np.median(spreads) > 10


def test_lesions_lie_inside_organs(train):
    lesion = KINDS.index("lesion") + 1
    organs = [KINDS.index(kind) + 1 for kind in ("liver", "kidney")]
    found = [each for each in train if np.any(each.kinds == lesion)]
    assert found
    for each in found:
        rim = ndi.binary_dilation(each.kinds == lesion) & (each.kinds != lesion)
        assert np.isin(each.kinds[rim], organs).any()


def test_what_is_labelled_depends_on_the_kind_and_split_alone(train, held_back):
    assert kinds_under_labels(train) <= set(LABELLED)
    assert set(TEST_ONLY) <= kinds_under_labels(held_back) <= set(LABELLED + TEST_ONLY)
    assert set(LABELLED) - kinds_under_labels(train) == set()
    assert set(TEST_ONLY) <= kinds_seen(train)  # visible in training, unlabelled
    assert set(NEVER) - kinds_seen(train) == set()


def test_neighbouring_slices_of_a_patient_are_near_duplicates(train):
    by_patient = {}
    for index, each in enumerate(train):
        by_patient.setdefault(each.patient, []).append(index)
    pairs = [group[:2] for group in by_patient.values() if len(group) > 1]
    strangers = [(a, b + 1) for a, b in pairs if b + 1 < len(train)]
    strangers = [(a, b) for a, b in strangers if train[a].patient != train[b].patient]

    def likeness(a, b):
        return np.mean(train[a].kinds == train[b].kinds)

    assert len(pairs) >= 10
    own, other = (np.mean([likeness(*pair) for pair in group]) for group in (pairs, strangers))
    assert own > other + 0.15


@given(seed=st.integers(0, 2**32 - 1), split=st.sampled_from([0, 1]))
def test_a_patients_slices_are_few_and_scattered(seed, split):
    places = [patient_of(seed, split, index) for index in range(400)]
    assert len(set(places)) == len(places)
    patients = np.array([patient for patient, _ in places])
    assert np.bincount(patients).max() <= MOST_SLICES
    assert 100 < len(np.unique(patients)) < 230
    assert np.mean(patients[1:] == patients[:-1]) < 0.15


def test_rosters_of_different_length_agree():
    places = [patient_of(5, 0, index) for index in (0, 500, 1023)]
    patient_of(5, 0, 5000)
    assert [patient_of(5, 0, index) for index in (0, 500, 1023)] == places


def test_source_names_and_unlabelled_zeros():
    source = competition_of("phantom:size=64,labelled=3,unlabelled=2,test=2").source(
        "phantom:size=64,labelled=3,unlabelled=2,test=2"
    )
    table = source.labels()
    assert source.train == table.images == ("0.png", "1.png", "2.png", "3.png", "4.png")
    assert source.test == ("0.png", "1.png")
    assert table.labels.shape == (5, 64, 64)
    assert table.labels[:3].any(axis=(1, 2)).all() and not table.labels[3:].any()
    assert source.image("train", 4).std() > 10  # unlabelled, not empty
    with pytest.raises(IndexError):
        source.image("test", 2)


def test_fingerprint_follows_the_settings():
    prints = {
        Phantom().source(f"phantom:{text}").fingerprint()
        for text in ("", "seed=0", "seed=1", "size=256", "test=41")
    }
    assert len(prints) == 4


def test_parse():
    assert PhantomSettings.parse("phantom") == PhantomSettings()
    parsed = PhantomSettings.parse("phantom:size=96, labelled=5,unlabelled=0,test=3,seed=9")
    assert parsed == PhantomSettings(96, 5, 0, 3, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("phantom:labeled=3", "labelled"),
        ("phantom:size=big", "whole number"),
        ("phantom:size", "whole number"),
        ("phantom:size=1.5", "whole number"),
        ("phantom:size=" + "6" * 5000, "whole number"),
        ("phantom:size=٦٤", "whole number"),
        ("phantom:size=8", "32..2048"),
        ("phantom:labelled=0", "labelled=0"),
        ("phantom:seed=-1", "seed=-1"),
        ("phantom:seed=1,seed=2", "twice"),
        ("phantom:zzz=1", "known are"),
    ],
)
def test_parse_refuses_nonsense(text, words):
    with pytest.raises(CompkitError, match=words):
        PhantomSettings.parse(text)


def test_written_and_read_back(tmp_path):
    out = tmp_path / "deep" / "phantom"
    write_phantom(SMALL, out)
    source = PhantomSource(SMALL)
    for split, names in (("train", source.train), ("test", source.test)):
        assert {path.name for path in (out / f"X_{split}").iterdir()} == set(names)
        for index, name in enumerate(names):
            image = cv2.imread(str(out / f"X_{split}" / name), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(image, source.image(split, index))
    trained, tested = read_table(out / "Y_train.csv"), read_table(out / "Y_test.csv")
    assert trained.images == source.train
    assert np.array_equal(trained.labels, source.labels().labels)
    assert tested.images == source.test
    for index, labels in enumerate(tested.labels):
        assert np.array_equal(labels, draw_slice(SMALL.seed, "test", index, SMALL.size).labels)
    assert list(out.parent.iterdir()) == [out]  # nothing temporary is left


def test_writing_again_does_nothing(tmp_path, capsys):
    out = tmp_path / "phantom"
    write_phantom(SMALL, out)
    before = (out / "Y_train.csv").stat()
    write_phantom(SMALL, out)
    after = (out / "Y_train.csv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "already" in capsys.readouterr().err
    (out / "X_test" / "1.png").unlink()
    with pytest.raises(CompkitError, match=r"1\.png has gone"):
        write_phantom(SMALL, out)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CompkitError, match="no phantom"):
        write_phantom(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(CompkitError, match="no phantom"):
        write_phantom(SMALL, tmp_path / "thesis.txt")


def test_what_comes_into_the_folder_meanwhile_is_left_alone(tmp_path, monkeypatch):
    out, written = tmp_path / "out", phantom._write_split

    def late(*arguments):
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("mine")
        written(*arguments)

    monkeypatch.setattr(phantom, "_write_split", late)
    with pytest.raises(CompkitError, match="choose another folder"):
        write_phantom(SMALL, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.txt"]


def test_another_phantom_is_refused(tmp_path):
    marker = tmp_path / "phantom.json"
    marker.write_text(json.dumps({"generator": 0}))
    with pytest.raises(CompkitError, match="other settings"):
        write_phantom(SMALL, tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_arguments, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compkit.competition.table.write_table", full)
    with pytest.raises(CompkitError, match=r"no space left.*choose another folder"):
        write_phantom(SMALL, tmp_path / "phantom")
    assert not list(tmp_path.iterdir())
