"""Folds files made by hand or saved by a spreadsheet, groups that the user knows, the command."""

import numpy as np
import pytest
from layout import write_folder
from slices import store_of, volume

from compkit.begin import split_of
from compkit.cli import main
from compkit.config import FoldsConfig, RunConfig
from compkit.config.check import check
from compkit.errors import CompkitError
from compkit.folds import make_folds, read_folds
from compkit.training import job

# Three patients of four slices, of which the last is unlabelled.
PATIENT = np.repeat(["PA", "PB", "Łu; kas"], 4)
FOLD = np.repeat([0, 1, 2], 4)


@pytest.fixture(scope="module")
def store():
    rng = np.random.default_rng(5)
    return store_of(np.concatenate([volume(4, rng) for _ in range(3)]), np.arange(11), rng)


def table(columns, separator=",", end="\n"):
    """Return a CSV of the columns, as text; the fold of the unlabelled image is empty."""
    cells = {
        "image": [f"{index}.png" for index in range(12)],
        "labelled": [*"1" * 11, "0"],
        "fold": [*map(str, FOLD[:11]), ""],
        "group": [f'"{name}"' for name in PATIENT],
        "patient": [f'"{name}"' for name in PATIENT],
        "note": ["x"] * 12,
        "": [""] * 12,
    }
    rows = [columns, *zip(*(cells[column] for column in columns), strict=True)]
    return "".join(separator.join(row) + end for row in rows)


FORMS = {
    "two columns": table(["image", "fold"]).encode(),
    "floats": table(["image", "fold"]).replace(",1\n", ",1.0\n").encode(),
    "spreadsheet": table(["image", "group", "fold", "", ""], ";", "\r\n").encode("utf-8-sig"),
    "tabs and another column": table(["note", "fold", "image", "group"], "\t").encode(),
    "blank lines": table(["image", "fold", "labelled"], end="\n,,\n\n").encode(),
    "without the unlabelled": table(["image", "fold"]).replace("11.png,\n", "").encode(),
    "capitals and quotes": table(["image", "fold"])
    .replace("image,fold", '"Image","Fold"')
    .encode(),
    "part of a first line": b"# compkit folds: k=3\n" + table(["image", "fold"]).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_made_by_hand_are_taken(store, tmp_path, form):
    path = tmp_path / "x.csv"
    path.write_bytes(FORMS[form])
    folds = read_folds(path, store)
    assert folds.fold.tolist() == [*FOLD[:11], -1]
    assert (folds.k, folds.doubts()) == (3, [])
    if "group" in form or b"group" in FORMS[form]:
        assert folds.group.tolist() == PATIENT.tolist()
    else:
        assert len(np.unique(folds.group)) == 3
    made = make_folds(store, k=3)
    assert (folds.regions == made.regions).all()
    assert np.allclose(folds.coverage, made.coverage)
    folds.write(path)
    again = read_folds(path, store)
    assert (again.fold == folds.fold).all()
    assert (again.group == folds.group).all()
    assert again.made == folds.made


def by_hand(path, fold, group=None, first=""):
    rows = [f"{i}.png,{f}" + (f",{group[i]}" if group else "") for i, f in enumerate(fold)]
    path.write_text("\n".join([first, "image,fold" + ",group" * bool(group), *rows]) + "\n")
    return path


def test_near_duplicates_that_a_user_parts_are_taken_and_said(store, tmp_path):
    fold = [0, 0, 1, 1, *[1] * 4, *[2] * 3]
    path = by_hand(tmp_path / "x.csv", fold)
    folds = read_folds(path, store)
    assert folds.fold[:11].tolist() == fold
    assert ["1 group of near-duplicate images is cut" in doubt for doubt in folds.doubts()] == [
        True
    ]
    folds.write(path)  # as a run keeps it
    assert read_folds(path, store).doubts() == folds.doubts()
    patients = [*"aabbccccddd"]
    assert read_folds(by_hand(path, fold, patients), store).doubts() == []
    with pytest.raises(CompkitError, match=r"group a is in two folds .0\.png in 0, 2\.png in 1"):
        read_folds(by_hand(path, fold, ["a", "a", "a", *patients[3:]]), store)


def test_a_first_line_is_not_believed_of_folds_that_were_edited(store, tmp_path):
    path = tmp_path / "x.csv"
    make_folds(store, k=2).write(path)
    first = path.read_text().splitlines()[0]
    assert "cut=0" in first
    fold, group = [0, 0, 1, 1, *[1] * 4, *[0] * 3], [*"00112222333"]
    doubts = read_folds(by_hand(path, fold, group, first), store).doubts()
    assert ["1 group" in doubt for doubt in doubts] == [True]


def test_copies_that_a_user_parts_are_said(tmp_path):
    rng = np.random.default_rng(6)
    store = store_of(volume(3, rng)[[0, 0, 1, 2]], np.arange(4), rng)
    path = by_hand(tmp_path / "x.csv", [0, 1, 0, 1], [*"abcd"])
    assert "exact copies of 1 image lie in several folds" in read_folds(path, store).doubts()[0]


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        ([1] * 11, "all labelled images are in fold 1"),
        ([1] * 5 + [2] * 6, "no labelled image is in fold 0, but some are in fold 2"),
        ([0] * 5 + [999999999] * 6, "no labelled image is in fold 1, but some are in fold 9+:"),
    ],
)
def test_folds_must_be_numbered_from_zero(store, tmp_path, fold, said):
    with pytest.raises(CompkitError, match=said):
        read_folds(by_hand(tmp_path / "x.csv", fold), store)


@pytest.mark.parametrize("column", ["group", "patient"])
def test_groups_of_a_file_are_never_cut(store, tmp_path, column):
    path = tmp_path / "groups.csv"
    path.write_bytes(table(["note", "image", column], ";", "\r\n").encode("utf-8-sig"))
    for k in (2, 3):
        folds = split_of(RunConfig(folds=FoldsConfig(k=k, groups=str(path))), store)
        assert folds.group.tolist() == PATIENT.tolist()
        assert folds.doubts() == []
        for name in set(PATIENT):
            assert len(set(folds.fold[:11][PATIENT[:11] == name])) == 1
        folds.write(tmp_path / "x.csv")
        assert (read_folds(tmp_path / "x.csv", store).group == folds.group).all()
    with pytest.raises(CompkitError, match=r"3 groups .* cannot make 4 folds: the largest k is 3"):
        make_folds(store, k=4, groups=path)


def test_groups_that_share_a_copy_are_one(tmp_path):
    rng = np.random.default_rng(8)
    images = np.concatenate([volume(1, rng) for _ in range(5)])[[0, 1, 1, 2, 3, 4, 0]]
    store = store_of(images, np.arange(6), rng)
    path = tmp_path / "g.csv"
    rows = [f"{index}.png,{name}\n" for index, name in enumerate("aabcdd")]
    path.write_text("image,group\n" + "".join(rows))  # the unlabelled 6.png is a copy of 0.png
    folds = make_folds(store, k=3, groups=path)
    assert folds.group.tolist() == ["a+b", "a+b", "a+b", "c", "d", "d", "a+b"]


LACKING = {
    "no row": ("4.png,PB\n", "", "gives no group to 4.png, which is labelled"),
    "no name": ("4.png,PB\n", "4.png,\n", "gives no group to 4.png, which is labelled"),
    "unknown": ("4.png,", "44.png,", "row 6: there is no training image '44.png'"),
    "two groups": (
        "5.png,",
        "4.png,PA\n5.png,",
        "row 7: 4.png is in group 'PA', but above in 'PB'",
    ),
    "no column": ("group", "who", "must have one column 'group'"),
    "long name": (
        "4.png,PB",
        "4.png," + "B" * 300,
        "row 6: the name of a group has 300 characters",
    ),
    "long cell": ("4.png,PB", "4.png," + "B" * 200_000, "row 6: the name of a group has 200000"),
}


@pytest.mark.parametrize("case", LACKING)
def test_files_of_groups_that_lack_something_are_refused(store, tmp_path, case):
    old, new, said = LACKING[case]
    path = tmp_path / "g.csv"
    path.write_text(table(["image", "group"]).replace('"', "").replace("; ", " ").replace(old, new))
    with pytest.raises(CompkitError, match=said) as caught:
        make_folds(store, k=2, groups=path)
    assert len(str(caught.value)) < 400


def test_settings_that_exclude_each_other():
    for folds in (FoldsConfig(file="a", groups="b"), FoldsConfig(groups="b", grouped=False)):
        with pytest.raises(CompkitError, match=r"folds\.groups"):
            check(RunConfig(folds=folds))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of one volume, every slice of which is labelled; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    images = volume(6, np.random.default_rng(9), size=32)
    labels = np.ones((6, 32, 32), int)
    labels[:, :8] = 0
    write_folder(tmp_path / "data", images, images[:1], labels)
    return tmp_path


def test_the_command_says_what_is_cut_and_overwrites_only_if_told(data, capsys):
    ask = ["folds", "--data", "data", "--k", "2", "--out", "f.csv"]
    assert main(ask) == 0
    assert "1 group of near-duplicate images is cut" in capsys.readouterr().err
    made = (data / "f.csv").read_bytes()
    assert main(ask) == 0  # as after a kill
    assert "f.csv is there already, just as it would be written" in capsys.readouterr().err
    for other in (b"mine", made + b"\n"):  # the first is refused before the data are looked at
        (data / "f.csv").write_bytes(other)
        where = "nowhere" if other == b"mine" else "data"
        assert main([*ask[:2], where, *ask[3:]]) == 2
        assert "f.csv is there and holds something else: give --over" in capsys.readouterr().err
        assert (data / "f.csv").read_bytes() == other
    (data / "g.csv").write_text("image,group\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(6)))
    assert main([*ask, "--overwrite", "--groups", "g.csv"]) == 0
    assert "cut" not in capsys.readouterr().err
    assert main([*ask[:-1], "g.csv", "--overwrite", "--groups", "g.csv"]) == 2
    assert "is the file of groups" in capsys.readouterr().err


def test_training_says_what_is_cut(data, monkeypatch, capsys):
    monkeypatch.setattr(job, "fit_fold", lambda *_: None)
    config = RunConfig(encoders=("resnet10t",), head="foreground", folds=FoldsConfig(k=2))
    job.train(config, "data", "r")
    assert "1 group of near-duplicate images is cut" in capsys.readouterr().err
