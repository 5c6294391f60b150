"""Folds: fair shares, near-duplicates on one side, and a file that is checked when read."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from slices import store_of, volume

from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.folds import make_folds, read_folds
from compkit.folds.duplicates import THRESHOLD, Duplicates, details_of, find_duplicates
from compkit.folds.make import _balanced, _strata
from compkit.intervals import resampling

CT = Path(__file__).resolve().parents[2] / "shared" / "data" / "ct-mini"


@pytest.fixture(scope="module")
def patients():
    """A store of 60 patients with 2 to 4 successive slices, shuffled, and each image's patient."""
    rng = np.random.default_rng(0)
    counts = rng.integers(2, 5, 60)
    images = np.concatenate([volume(count, rng) for count in counts])
    order = rng.permutation(len(images))
    labelled = np.sort(rng.permutation(len(images))[:100])
    return store_of(images[order], labelled, rng), np.repeat(np.arange(60), counts)[order]


@pytest.fixture(scope="module")
def single():
    """A store of one volume's 80 slices, shuffled, 50 labelled, and each image's place in it."""
    rng = np.random.default_rng(1)
    order = rng.permutation(80)
    return store_of(volume(80, rng)[order], np.arange(50), rng), order


def test_groups_are_the_patients(patients):
    store, patient = patients
    group = make_folds(store).group
    assert ((group[:, None] == group) == (patient[:, None] == patient)).all()


def test_groups_are_numbered_by_first_appearance(patients):
    _, first = np.unique(make_folds(patients[0]).group.astype(int), return_index=True)
    assert (np.diff(first) > 0).all()


def test_one_volume_is_cut_into_blocks_of_successive_slices(single):
    store, place = single
    assert make_folds(store, k=5).made["cut"] == "1"
    piece = find_duplicates(store).cut(5)
    for number in np.unique(piece):
        places = np.sort(place[piece == number])
        assert (np.diff(places) == 1).all()
    assert np.unique(piece[:50], return_counts=True)[1].max() <= 5


def test_groups_are_those_of_all_pairs_at_once(patients, single, monkeypatch):
    monkeypatch.setattr("compkit.folds.duplicates._PAIRS", 1000)
    for store, _ in (patients, single):
        details = details_of(store.images)
        _, linked = connected_components(details @ details.T >= THRESHOLD, directed=False)
        group = find_duplicates(store).group
        assert ((group[:, None] == group) == (linked[:, None] == linked)).all()


def test_of_very_many_images_some_stand_for_the_rest_when_cut(single, monkeypatch):
    store, place = single
    monkeypatch.setattr("compkit.folds.duplicates._LINE", 30)
    piece = find_duplicates(store).cut(5)
    assert np.unique(piece[:50], return_counts=True)[1].max() <= 5
    spans = [np.ptp(place[piece == number]) + 1 for number in np.unique(piece)]
    assert np.sum(spans) < 1.2 * len(place)  # blocks of successive slices, but for a few


def test_cutting_goes_where_likeness_is_least():
    rng = np.random.default_rng(2)
    first, second = volume(9, rng), volume(7, rng)
    bridge = (first[-1] // 2 + second[0] // 2)[None]  # alike to both, so all are linked
    images = np.concatenate([first, bridge, second])
    counted = np.ones(len(images), bool)
    found = Duplicates(np.arange(len(images)), counted, details_of(images))
    assert found._groups(most=17, piece=8).max() == 0
    group = found._groups(most=16, piece=10)
    assert group.max() == 1
    assert len(set(group[:9])) == len(set(group[10:])) == 1


def test_shift_noise_and_brightness_do_not_hide_a_duplicate():
    rng = np.random.default_rng(3)
    images = volume(3, rng, size=256)[:1].repeat(4, axis=0).astype(float)
    images[1] = np.roll(images[1], 2, axis=1)
    images[2] += rng.normal(0, 20, images[2].shape)
    images[3] = images[3] * 0.6 + 30
    other = volume(1, rng, size=256).astype(float)
    details = details_of(np.clip(np.concatenate([images, other]), 0, 255).astype(np.uint8))
    likeness = details @ details.T
    assert likeness[:4, :4].min() > 0.7
    assert np.abs(likeness[4, :4]).max() < 0.4


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("k", [2, 5])
def test_every_labelled_image_is_validated_once(patients, grouped, k):
    store, _ = patients
    folds = make_folds(store, k=k, grouped=grouped)
    valid = [folds.valid_indices(fold) for fold in range(k)]
    assert np.sort(np.concatenate(valid)).tolist() == store.labelled.tolist()
    for fold in range(k):
        both = np.concatenate([valid[fold], folds.train_indices(fold)])
        assert np.sort(both).tolist() == store.labelled.tolist()
        if grouped:
            train = folds.group[folds.train_indices(fold)]
            assert not set(train) & set(folds.group[valid[fold]])
    with pytest.raises(CompkitError, match=f"there is no fold {k}"):
        folds.valid_indices(k)


def test_folds_are_alike(patients):
    store, _ = patients
    folds = make_folds(store, k=5)
    rows = folds.summary()
    shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(100) % 5, (200, 1)), axis=1)
    for column in ("regions", "coverage"):
        spread = np.ptp([row[column] for row in rows])
        values = getattr(folds, column)[store.labelled]
        chance = [np.ptp([values[s == fold].mean() for fold in range(5)]) for s in shuffled]
        assert spread < np.median(chance) / 1.5
    assert all(19 <= row["images"] <= 21 for row in rows)


def test_the_seed_decides(patients):
    store, _ = patients
    first, same, other = (make_folds(store, seed=seed) for seed in (0, 0, 1))
    assert (first.fold == same.fold).all()
    assert (first.fold != other.fold).any()
    assert (first.group == other.group).all()


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=6, max_size=40),
    k=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_groups_stay_whole_and_no_fold_is_empty(sizes, k, seed):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)) * 3, sizes))
    strata = _strata(rng.integers(1, 30, len(group)), rng.random(len(group)))
    fold = _balanced(strata, group, k, rng)
    assert len(set(zip(group, fold, strict=True))) == len(sizes)
    counts = np.bincount(fold, minlength=k)
    assert counts.min() > 0
    assert np.ptp(counts) <= 2 * max(sizes)


@pytest.mark.parametrize("count", [5, 6, 7, 11])
def test_few_images_still_make_all_folds(count):
    rng = np.random.default_rng(count)
    folds = make_folds(store_of(volume(count, rng), np.arange(count), rng), k=5)
    assert all(row["images"] for row in folds.summary())


@pytest.mark.parametrize("k", [0, 1, 5])
def test_impossible_numbers_of_folds(k):
    rng = np.random.default_rng(0)
    with pytest.raises(CompkitError, match=f"4 labelled images cannot make {k} folds"):
        make_folds(store_of(volume(9, rng), np.arange(4), rng), k=k)


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=7),
    grouped=st.booleans(),
    seed=st.integers(0, 9),
)
def test_exact_copies_are_never_parted(counts, grouped, seed):
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = volume(len(counts), rng)[which]  # of which neighbours are near-duplicates
    store = store_of(images, np.arange(len(images)), rng)
    for k in range(2, len(counts) + 1):
        folds = make_folds(store, k=k, seed=seed, grouped=grouped)
        assert len({(int(w), int(f)) for w, f in zip(which, folds.fold, strict=True)}) == len(
            counts
        )
        assert sorted(set(folds.fold.tolist())) == list(range(k))
    if len(images) > len(counts):
        with pytest.raises(CompkitError, match=f"the largest k is {len(counts)}"):
            make_folds(store, k=len(counts) + 1, grouped=grouped)


def test_copies_alone_and_single_images_cannot_be_split():
    rng = np.random.default_rng(0)
    same = volume(1, rng).repeat(4, axis=0)
    with pytest.raises(CompkitError, match="at least 2 are needed"):
        make_folds(store_of(same, np.arange(4), rng), k=2)
    with pytest.raises(CompkitError, match=r"only 2\.png is labelled, .* label at least two"):
        make_folds(store_of(same, [2], rng), k=2)


def few_patients(*slices):
    rng = np.random.default_rng(7)
    images = np.concatenate([volume(4, rng).repeat(12, axis=0)[:count] for count in slices])
    noise = rng.integers(0, 3, images.shape, np.uint8)  # near-duplicates, but no copies
    return store_of(np.clip(images, 0, 250) + noise, np.arange(len(images)), rng)


@pytest.mark.parametrize(
    ("slices", "k", "grouped", "said"),
    [
        ((8, 8, 8), 5, True, "^3 groups .* are cut in these 5 folds.* largest k .* is 3$"),
        ((9, 8, 7), 3, True, "^1 group .* is cut .* largest k .* is 2$"),
        ((8, 8, 8), 2, True, None),
        ((12,), 2, True, "^1 group .* is cut .* no number of folds avoids it"),
        ((8, 8, 8), 2, False, "^3 groups .* compkit folds --k 2 cuts none$"),
    ],
)
def test_near_duplicates_in_several_folds_are_said(tmp_path, slices, k, grouped, said):
    store = few_patients(*slices)
    folds = make_folds(store, k=k, grouped=grouped)
    folds.write(tmp_path / "x.csv")
    read = read_folds(tmp_path / "x.csv", store)
    assert (read.doubts(), read.made) == (folds.doubts(), folds.made)
    assert [bool(re.search(said or "", doubt)) for doubt in folds.doubts()] == [True] * bool(said)


@pytest.mark.parametrize("grouped", [True, False])
def test_groups_are_whole_though_cut(tmp_path, grouped):
    store, path = few_patients(8, 8, 8), tmp_path / "x.csv"
    folds = make_folds(store, k=5, grouped=grouped)
    patient = np.repeat(np.arange(3), 8)
    for _ in range(2):  # as the file holds them, and as a run's copy does
        assert ((folds.group[:, None] == folds.group) == (patient[:, None] == patient)).all()
        assert folds.made["groups"] == folds.made["cut"] == "3"
        assert "resampling 3 groups, too few" in resampling(24, folds.group[store.labelled])
        folds.write(path)
        folds = read_folds(path, store)
    pieces = replace(folds, group=find_duplicates(store).cut(5).astype(str))
    pieces.write(path)  # whose groups lie in one fold each, whatever the first line counts
    assert read_folds(path, store).group.tolist() == folds.group.tolist()


def test_file_round_trip(patients, tmp_path):
    store, _ = patients
    folds = make_folds(store, k=4, seed=7)
    folds.write(tmp_path / "folds" / "x.csv")
    read = read_folds(tmp_path / "folds" / "x.csv", store)
    for name in ("fold", "group", "regions"):
        assert (getattr(read, name) == getattr(folds, name)).all()
    assert np.abs(read.coverage - folds.coverage).max() < 6e-7
    assert (read.images, read.made, read.k) == (folds.images, folds.made, 4)
    read.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "folds" / "x.csv").read_text()


def field(row, column, value):
    """Set one field of the `row`-th image in the lines of a file."""

    def change(lines):
        fields = lines[3 + row].split(",")
        fields[["image", "labelled", "fold", "group", "regions", "coverage"].index(column)] = value
        lines[3 + row] = ",".join(fields)

    return change


def replaced(old, new):
    def change(lines):
        lines[:] = [line.replace(old, new) for line in lines]

    return change


# Of the eight images below, 0 and 1 are alike and in fold 1; 6 and 7 are unlabelled.
WRONG = {
    "empty": (list.clear, "has no column 'image'"),
    "k": (replaced("k=2", "k=two"), "k is 'two' in the line '# compkit folds:'"),
    "long k": (replaced("k=2", "k=" + "9" * 5000), "k is '9+…9+'"),
    "other data": (replaced("data=c0ffee", "data=7ea"), "was made for other data"),
    "column": (replaced(",fold,", ",part,"), "has no column 'fold'"),
    "two columns": (replaced(",labelled,", ",fold,"), "has several columns 'fold'"),
    "two columns of groups": (replaced(",regions,", ",group,"), "has several columns 'group'"),
    "two other columns": (replaced(",regions,", ",labelled,"), "has several columns 'labelled'"),
    "short row": (lambda lines: lines.__setitem__(5, "2.png,1,0"), "row 6: 3 cells where"),
    "missing row": (lambda lines: lines.pop(5), "has no row for 2.png"),
    "double row": (lambda lines: lines.append(lines[5]), "row 12: 2.png has a row already"),
    "unknown": (field(2, "image", "9.png"), "row 6: there is no training image '9.png'"),
    "labelled": (field(2, "labelled", "0"), "row 6: labelled is '0' but 2.png is labelled"),
    "no fold": (field(2, "fold", ""), "row 6: 2.png is labelled but has no fold"),
    "unlabelled": (field(6, "fold", "0"), "row 10: 6.png is unlabelled but has fold '0'"),
    "high fold": (field(2, "fold", "2"), "row 6: fold is 2, but k=2"),
    "negative": (field(2, "fold", "-1"), "row 6: fold is '-1', not a whole number"),
    "float": (field(2, "fold", "1.5"), "row 6: fold is '1.5', not a whole number"),
    "long number": (field(2, "fold", "1" * 5000), "row 6: fold is '1+…1+', not a whole number"),
    "long cell": (
        field(2, "group", "x" * 200_000),
        "row 6: the name of a group has 200000 characters",
    ),
    "long name": (field(2, "group", "x" * 5000), "row 6: the name of a group has 5000 characters"),
    "no group": (field(2, "group", ""), "row 6: 2.png has no group"),
    "open quote": (field(2, "group", '"a'), "is no row of a CSV"),
    "coverage": (field(2, "coverage", "nan"), "row 6: coverage is 'nan', not a number from"),
    "leak": (field(0, "fold", "0"), "group 0 is in two folds .0.png in 0, 1.png in 1"),
    "empty fold": (replaced("k=2", "k=3"), "k=3 .* no labelled image is in fold 2: write k=2"),
}


def test_groups_and_near_duplicates_stay_together(patients, tmp_path):
    store, patient = patients
    path = tmp_path / "clinics.csv"  # of which a patient may be in two
    clinic = np.where(np.arange(len(patient)) % 5, patient, patient + 100)
    rows = [f"{name},{number}\n" for name, number in zip(store.train, clinic, strict=True)]
    path.write_text("image,group\n" + "".join(rows))
    apart, joined = (make_folds(store, 2, groups=path, similar=both) for both in (False, True))
    chosen = store.labelled

    def parted(folds, of):
        return sum(len(np.unique(folds.fold[chosen][of[chosen] == one])) > 1 for one in set(of))

    assert parted(apart, clinic) == parted(joined, clinic) == parted(joined, patient) == 0
    assert parted(apart, patient) > 0
    with pytest.raises(CompkitError, match="similar joins groups, and none are given"):
        make_folds(store, 2, similar=True)


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(4)
    images = np.concatenate([volume(2, rng), *(volume(1, rng) for _ in range(6))])
    store = store_of(images, np.arange(6), rng)
    folds = make_folds(store, k=2)
    folds.fold[:6] ^= folds.fold[0] ^ 1
    folds.write(tmp_path / "x.csv")
    return store, tmp_path / "x.csv"


@pytest.mark.parametrize("case", WRONG)
def test_unsound_files_get_one_sentence(written, case):
    store, path = written
    change, sentence = WRONG[case]
    read_folds(path, store)
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CompkitError, match=sentence) as caught:
        read_folds(path, store)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files_get_one_sentence(written):
    store, path = written
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CompkitError, match=r"is not text in UTF-8"):
        read_folds(path, store)
    with pytest.raises(CompkitError, match=r"there is no folds file .*none\.csv"):
        read_folds(path.with_name("none.csv"), store)
    os.mkfifo(path.with_name("pipe"))
    for name, what in ((".", "is a folder"), ("pipe", "is a pipe")):
        with pytest.raises(CompkitError, match=f"{what}.*folds file"):
            read_folds(path.parent / name, store)
        with pytest.raises(CompkitError, match=f"{what}.*file of groups"):
            make_folds(store, k=2, groups=path.parent / name)


@pytest.mark.skipif(not CT.is_dir(), reason="needs ../shared/data/ct-mini")
def test_a_real_volume_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path))
    store = open_store(str(CT))
    details = details_of(store.images)
    likeness = details @ details.T

    def nearest_trained_on(folds):
        best = [
            likeness[np.ix_(folds.valid_indices(fold), folds.train_indices(fold))].max(axis=1)
            for fold in range(folds.k)
        ]
        return np.concatenate(best)

    grouped = nearest_trained_on(make_folds(store))
    random = nearest_trained_on(make_folds(store, grouped=False))
    assert np.median(random) > 0.8
    assert np.median(grouped) < 0.4
