"""What may be submitted, and one sentence for what may not."""

import json

import numpy as np
import pytest

from compkit.cli import main
from compkit.competition.table import write_table
from compkit.errors import CompkitError
from compkit.submission import submit
from compkit.submission.forms import PixelTable
from compkit.submission.publish import publish

NAMES = [f"{index}.png" for index in range(12)]


def checked(path, limit=255) -> dict[str, np.ndarray]:
    return PixelTable().check(path, dict.fromkeys(NAMES, (8, 8)), limit)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8))


def test_good_submission_is_returned(tmp_path, labels):
    write_table(tmp_path / "s.csv", NAMES, labels)
    table = checked(tmp_path / "s.csv")
    assert list(table) == NAMES
    np.testing.assert_array_equal(list(table.values()), labels)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (NAMES[:7] + NAMES[8:], r"no column 7\.png, but"),
        (NAMES[:3], r"no column 3\.png and 8 more, but"),
        ([*NAMES, "12.png"], r"column 12\.png, of which there is no image"),
        (sorted(NAMES), r"column 3 is 10\.png where 2\.png is wanted"),
        (NAMES[::-1], r"column 1 is 11\.png where 0\.png is wanted"),
    ],
)
def test_columns(tmp_path, images, sentence):
    write_table(tmp_path / "s.csv", images, np.zeros((len(images), 8, 8), int))
    with pytest.raises(CompkitError, match=sentence) as error:
        checked(tmp_path / "s.csv")
    assert str(tmp_path / "s.csv") in str(error.value)


def test_wrong_size(tmp_path):
    write_table(tmp_path / "s.csv", NAMES, np.zeros((12, 16, 16), int))
    with pytest.raises(CompkitError, match=r"256 rows, which is 16×16 pixels.* 64 rows"):
        checked(tmp_path / "s.csv")


def test_label_over_the_limit(tmp_path, labels):
    labels[5, 0, 3] = 256
    write_table(tmp_path / "s.csv", NAMES, labels, max_label=65535)
    with pytest.raises(CompkitError, match=r"Pixel 3'.*column 5\.png is '256'.* from 0 to 255"):
        checked(tmp_path / "s.csv")
    assert checked(tmp_path / "s.csv", 300)[NAMES[5]].max() == 256


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.77, 0.99])
def test_truncated_anywhere(tmp_path, labels, kept):
    write_table(tmp_path / "s.csv", NAMES, labels)
    text = (tmp_path / "s.csv").read_bytes()
    (tmp_path / "s.csv").write_bytes(text[: int(kept * len(text))])
    with pytest.raises(CompkitError):
        checked(tmp_path / "s.csv")


def test_whole_rows_cut_off_to_a_smaller_square(tmp_path, labels):
    write_table(tmp_path / "s.csv", NAMES, labels)
    lines = (tmp_path / "s.csv").read_bytes().splitlines(True)
    (tmp_path / "s.csv").write_bytes(b"".join(lines[: 1 + 49]))
    with pytest.raises(CompkitError, match="49 rows"):
        checked(tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("bare", "said"),
    [
        ([], ""),
        ([1], "1 of 2 images hold no region: they are all background\n"),
        ([0, 1], "2 of 2 images hold no region: they are all background\n"),
    ],
)
def test_images_of_background_alone_are_said(tmp_path, capsys, bare, said):
    labels = np.ones((2, 64, 64), int)
    labels[bare] = 0
    write_table(tmp_path / "s.csv", NAMES[:2], labels)
    data = "phantom:size=64,labelled=1,unlabelled=0,test=2"
    assert main(["check", str(tmp_path / "s.csv"), "--data", data]) == 0
    sound = f"{tmp_path / 's.csv'}: a sound submission of 2 images of 64×64\n"
    assert capsys.readouterr().out == sound + said
    shapes = dict.fromkeys(NAMES[:2], (64, 64))
    publish(tmp_path / "p.csv", PixelTable(), shapes, labels, 255, "x", 1, {})
    assert said.strip() in (told := capsys.readouterr().err)
    assert bool(said) == ("background" in told)


def test_a_score_leaves_out_what_neither_has_labels_nor_a_prediction(tmp_path, capsys, labels):
    truth = labels % 4 + 1
    truth[8:] = 0
    for name, images, maps in (
        ("y", NAMES, truth),
        ("same", NAMES[:8], truth[:8]),
        ("more", NAMES[:9], truth[:9]),
        ("less", NAMES[:7], truth[:7]),
        ("strange", [*NAMES[:8], "77.png"], truth[:9]),
    ):
        write_table(tmp_path / f"{name}.csv", images, maps)

    def score(*names: str) -> int:
        paths = [str(tmp_path / f"{name}.csv") for name in names]
        return main(["score", *paths, "--truth", str(tmp_path / "y.csv"), *form])

    form = []
    assert score("same") == 0
    assert "resampling 8 images" in capsys.readouterr().out
    form = ["--json"]

    assert score("same") == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["per_image"]) == 8
    assert "4 of 12 images are left out" in shown.err
    assert score("y") == 0
    assert "left out" not in capsys.readouterr().err
    assert score("less") == 2
    assert "less.csv has no column 7.png" in capsys.readouterr().err
    assert score("strange") == 2
    assert "has a column 77.png" in capsys.readouterr().err
    assert score("same", "more") == 2
    assert "score them one by one" in capsys.readouterr().err


def test_out_of_fold_regions_replace_a_file_only_if_told(tmp_path, capsys, monkeypatch):
    (tmp_path / "oof.csv").write_text("mine")
    arguments = ["oof", "--run", "absent", "--out", str(tmp_path / "oof.csv")]
    assert main([*arguments, "--overwrite"]) == 2
    assert "there is no run or ensemble 'absent'" in capsys.readouterr().err
    monkeypatch.setattr(submit, "data_of", lambda _: "phantom")
    monkeypatch.setattr(submit, "open_mixture", None)  # before any data are read
    assert main(arguments) == 2
    assert "oof.csv is there and holds something else: give --over" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "oof.zip")]) == 2
    assert "give it a name ending in .csv" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "ledger.csv"), "--overwrite"]) == 2
    assert "is the ledger" in capsys.readouterr().err
    assert (tmp_path / "oof.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "needed"),
    [
        ("runs.csv", b"ImageId,EncodedPixels\na,1 3\n", True),
        ("labels.zip", b"PK\3\4\0\xff", True),
        ("wrong.csv", b",0.png\nPixel 0,x\n", False),
    ],
)
def test_without_data_a_file_of_another_form_is_told_what_it_needs(
    tmp_path, capsys, name, content, needed
):
    path, other, out = (str(tmp_path / one) for one in (name, "other.csv", "out.csv"))
    (tmp_path / name).write_bytes(content)
    (tmp_path / "other.csv").write_bytes(b",0.png\nPixel 0,1\n")
    for words in (["score", path, "--truth", path], ["blend", path, other, "--out", out]):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert name in told
        assert ("give --data, which tells what it is" in told) == needed
