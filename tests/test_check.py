"""What may be submitted, and one sentence for what may not."""

import numpy as np
import pytest

from compkit.competition.table import write_table
from compkit.errors import CompkitError
from compkit.submission.check import check_submission

NAMES = [f"{index}.png" for index in range(12)]


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8))


def test_good_submission_is_returned(tmp_path, labels):
    write_table(tmp_path / "s.csv", NAMES, labels)
    table = check_submission(tmp_path / "s.csv", NAMES, 8)
    assert table.images == tuple(NAMES)
    np.testing.assert_array_equal(table.labels, labels)


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
        check_submission(tmp_path / "s.csv", NAMES, 8)
    assert str(tmp_path / "s.csv") in str(error.value)


def test_wrong_size(tmp_path):
    write_table(tmp_path / "s.csv", NAMES, np.zeros((12, 16, 16), int))
    with pytest.raises(CompkitError, match=r"256 rows, which is 16×16 pixels.* 64 rows"):
        check_submission(tmp_path / "s.csv", NAMES, 8)


def test_label_over_the_limit(tmp_path, labels):
    labels[5, 0, 3] = 256
    write_table(tmp_path / "s.csv", NAMES, labels, max_label=65535)
    with pytest.raises(CompkitError, match=r"Pixel 3'.*column 5\.png is '256'.* from 0 to 255"):
        check_submission(tmp_path / "s.csv", NAMES, 8)
    assert check_submission(tmp_path / "s.csv", NAMES, 8, max_label=300).labels.max() == 256


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.77, 0.99])
def test_truncated_anywhere(tmp_path, labels, kept):
    write_table(tmp_path / "s.csv", NAMES, labels)
    text = (tmp_path / "s.csv").read_bytes()
    (tmp_path / "s.csv").write_bytes(text[: int(kept * len(text))])
    with pytest.raises(CompkitError):
        check_submission(tmp_path / "s.csv", NAMES, 8)


def test_whole_rows_cut_off_to_a_smaller_square(tmp_path, labels):
    write_table(tmp_path / "s.csv", NAMES, labels)
    lines = (tmp_path / "s.csv").read_bytes().splitlines(True)
    (tmp_path / "s.csv").write_bytes(b"".join(lines[: 1 + 49]))
    with pytest.raises(CompkitError, match="49 rows"):
        check_submission(tmp_path / "s.csv", NAMES, 8)
