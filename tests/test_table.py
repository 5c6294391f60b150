"""The label CSV: what is written is what pandas would write, what is read is what is there."""

import gzip
import io
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compkit.competition import table
from compkit.competition.table import read_table, write_table
from compkit.errors import CompkitError

CT_MINI = Path(__file__).parents[2] / "shared" / "data" / "ct-mini" / "Y_train.csv"
many = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def names(count: int) -> list[str]:
    return [f"{index}.png" for index in range(count)]


def pandas_bytes(labels: np.ndarray) -> bytes:
    flat = labels.reshape(len(labels), -1).T
    index = [f"Pixel {pixel}" for pixel in range(len(flat))]
    return pd.DataFrame(flat, index, names(len(labels))).to_csv(lineterminator="\n").encode()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """3 images of 4×4, the last cell of two digits."""
    labels = np.arange(48).reshape(3, 4, 4)
    (tmp_path / "y.csv").write_bytes(pandas_bytes(labels))
    return tmp_path / "y.csv"


@st.composite
def label_maps(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.integers(1, 7)), *(draw(st.integers(1, 12)),) * 2
    dtype, high = draw(st.sampled_from([("u1", 255), ("u2", 65535), ("i4", 300), ("i8", 9)]))
    labels = draw(hnp.arrays(dtype, shape, elements=st.integers(0, high)))
    # As where the last images are unlabelled, and the first rows of all images empty.
    labels[draw(st.integers(0, 7)) :] = 0
    labels[:, : draw(st.integers(0, 12))] = 0
    return labels


@many
@given(labels=label_maps(), block=st.integers(1, 200))
def test_round_trip_in_blocks_of_any_size(tmp_path, labels, block):
    path = tmp_path / "y.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "READ_BLOCK", block)
        patch.setattr(table, "WRITE_BLOCK", block)
        write_table(path, names(len(labels)), labels, max_label=65535)
        back = read_table(path)
    assert path.read_bytes() == pandas_bytes(labels)
    assert back.images == tuple(names(len(labels)))
    assert back.labels.dtype == (np.uint8 if labels.max() <= 255 else np.uint16)
    np.testing.assert_array_equal(back.labels, labels)


def test_wide_and_non_contiguous_arrays(tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (64, 32, 600)).astype(np.uint8)
    labels = wide.transpose(2, 0, 1)[:, ::2]
    write_table(tmp_path / "y.csv", names(600), labels)
    assert (tmp_path / "y.csv").read_bytes() == pandas_bytes(labels)
    np.testing.assert_array_equal(read_table(tmp_path / "y.csv").labels, labels)


@pytest.mark.skipif(not CT_MINI.exists(), reason="shared/data/ct-mini is not beside the repository")
def test_real_file_comes_back_byte_for_byte(tmp_path):
    real = read_table(CT_MINI)
    assert real.labels.shape == (77, 128, 128)
    assert real.labels[:46].any(axis=(1, 2)).all()
    assert not real.labels[46:].any()
    write_table(tmp_path / "y.csv", real.images, real.labels)
    assert (tmp_path / "y.csv").read_bytes() == CT_MINI.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\xef\xbb\xbf" + text,
    ],
    ids=["windows line ends", "no last line end", "byte order mark"],
)
def test_harmless_variants_are_read(good, change):
    good.write_bytes(change(good.read_bytes()))
    np.testing.assert_array_equal(read_table(good).labels, np.arange(48).reshape(3, 4, 4))


def replaced(old: bytes, new: bytes):
    def change(text: bytes) -> bytes:
        assert text.count(old) == 1
        return text.replace(old, new)

    return change


def without_row(row: int):
    return lambda text: b"".join(
        text.splitlines(True)[: row + 1] + text.splitlines(True)[row + 2 :]
    )


BAD = {
    "empty": (lambda text: b"", ["is empty"]),
    "header only": (lambda text: text.splitlines(True)[0], ["no row"]),
    "header, blank line": (lambda text: text.splitlines(True)[0] + b"\n", ["Pixel 0", "line 2"]),
    "no index column": (
        lambda text: pd.read_csv(io.BytesIO(text), index_col=0).to_csv(index=False).encode(),
        ["header", "'0.png'"],
    ),
    "only an index column": (lambda text: re.sub(rb",.*", b"", text), ["no column"]),
    "text": (replaced(b",35\n", b",liver\n"), ["'liver'", "2.png", "Pixel 3'", "line 5"]),
    "quoted": (replaced(b",35\n", b',"35"\n'), ["35", "2.png", "Pixel 3'"]),
    "NaN": (replaced(b",19,", b",nan,"), ["'nan'", "1.png", "Pixel 3'"]),
    "empty cell": (replaced(b",19,", b",,"), ["empty", "1.png", "Pixel 3'"]),
    "float": (replaced(b",19,", b",19.0,"), ["'19.0'", "1.png", "Pixel 3'"]),
    "5,000 digits": (replaced(b",19,", b"," + b"1" * 5000 + b","), ["'111", "1.png", "Pixel 3'"]),
    "negative": (replaced(b",19,", b",-19,"), ["'-19'", "1.png", "Pixel 3'"]),
    "too high": (replaced(b",19,", b",65536,"), ["'65536'", "1.png", "Pixel 3'", "65535"]),
    "short row": (replaced(b",3,19,35\n", b",3,19\n"), ["Pixel 3'", "2 values for 3 images"]),
    "short first row": (replaced(b",0,16,32\n", b",0\n"), ["Pixel 0'", "1 values for 3 images"]),
    "long row": (replaced(b",19,", b",19,19,"), ["Pixel 3'", "4 values for 3 images"]),
    "long first row": (replaced(b",0,16,", b",0,16,7,"), ["Pixel 0'", "4 values for 3 images"]),
    "blank line": (replaced(b"Pixel 3,", b"\nPixel 3,"), ["Pixel 3'", "line 5", "''"]),
    "cut in a row": (lambda text: text[: text.index(b",35")], ["Pixel 3'", "cut short"]),
    "cut in a name": (lambda text: text[: text.index(b"Pixel 3,") + 4], ["Pixel 3'", "'Pixe'"]),
    "last row missing": (without_row(15), ["15 rows", "square"]),
    "row missing": (without_row(3), ["Pixel 3'", "'Pixel 4'"]),
    "row twice": (replaced(b"Pixel 4,", b"Pixel 3,"), ["Pixel 4'", "'Pixel 3'"]),
    "rows swapped": (
        lambda text: text.replace(b"el 14,", b"@").replace(b"15,", b"14,").replace(b"@", b"el 15,"),
        ["Pixel 14'", "'Pixel 15'"],
    ),
    "column twice": (replaced(b"1.png", b"0.png"), ["columns 1 and 2", "0.png"]),
    "long name": (replaced(b"1.png", b"1" * 5000 + b".png"), ["column 2", "'111"]),
    "digits of another script": (replaced(b"1.png", "1٣.png".encode()), ["column 2", "'1٣.png'"]),
    "row of 5,000 digits": (replaced(b"Pixel 15,", b"Pixel " + b"1" * 5000 + b","), ["Pixel 15'"]),
    "odd name": (replaced(b"1.png", b"01.png"), ["column 2", "'01.png'"]),
    "absurd row number": (replaced(b"Pixel 15,", b"Pixel 999999999999,"), ["Pixel 15'"]),
    "binary": (gzip.compress, ["first line"]),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), ["first line"]),
    "Latin-1 cell": (replaced(b",19,", b",\xe9,"), ["1.png", "Pixel 3'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_bad_input_gets_one_sentence(good, case, block, monkeypatch):
    monkeypatch.setattr(table, "READ_BLOCK", block)
    change, wanted = BAD[case]
    good.write_bytes(change(good.read_bytes()))
    with pytest.raises(CompkitError) as error:
        read_table(good)
    for part in [str(good), *wanted]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(good))


def test_label_over_the_submissions_limit(good):
    good.write_bytes(good.read_bytes().replace(b",19,", b",256,"))
    assert read_table(good).labels.dtype == np.uint16
    with pytest.raises(CompkitError, match=r"Pixel 3'.*column 1\.png is '256'.* 0 to 255"):
        read_table(good, max_label=255)


def test_wide_label_after_narrow_blocks_keeps_them(good, monkeypatch):
    monkeypatch.setattr(table, "READ_BLOCK", 1)
    good.write_bytes(good.read_bytes().replace(b",19,", b",256,"))
    wanted = np.arange(48).reshape(3, 4, 4)
    wanted[1, 0, 3] = 256
    np.testing.assert_array_equal(read_table(good).labels, wanted)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("none.csv", "there is no label CSV"), (".", "is a folder"), ("pipe", "is a pipe")],
)
def test_no_such_file(tmp_path, path, sentence):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CompkitError, match=sentence):
        read_table(tmp_path / path)


def test_rows_that_do_not_fit_the_images(good):
    assert read_table(good, side=4).labels.shape == (3, 4, 4)
    with pytest.raises(CompkitError, match=r"16 rows, .* 4×4 .* images are 3×3: 9 rows are wanted"):
        read_table(good, side=3)


def as_pandas_reads(path: Path) -> np.ndarray:
    return pd.read_csv(path, index_col=0).to_numpy().T


@many
@given(
    position=st.integers(0, 250),
    byte=st.integers(0, 255) | st.sampled_from(b",0\n\r"),
    kind=st.sampled_from("rdi"),
    labelled=st.integers(0, 3),
    block=st.sampled_from([1, 50, 1000]),
)
@example(position=244, byte=ord(","), kind="i", labelled=0, block=50)
@example(position=244, byte=ord("\r"), kind="i", labelled=0, block=1)
@example(position=249, byte=ord(","), kind="i", labelled=0, block=1)
def test_any_changed_byte_is_refused_or_read_as_pandas_does(
    good, position, byte, kind, labelled, block
):
    labels = np.arange(48).reshape(3, 4, 4)
    labels[labelled:] = 0
    text = pandas_bytes(labels)
    tail = position + (kind != "i")
    new = b"" if kind == "d" else bytes([byte])
    good.write_bytes(text[:position] + new + text[tail:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "READ_BLOCK", block)
        try:
            found = read_table(good).labels
        except CompkitError:
            return
    np.testing.assert_array_equal(found.reshape(3, -1), as_pandas_reads(good))


@pytest.mark.parametrize(
    ("value", "dtype", "limit"), [(256, "u2", 255), (-1, "i4", 255), (65536, "i8", 99999)]
)
def test_labels_out_of_range_are_not_written(tmp_path, value, dtype, limit):
    labels = np.zeros((3, 4, 4), dtype)
    labels[1, 2, 3] = value
    with pytest.raises(CompkitError, match=rf"1\.png holds the label {value},"):
        write_table(tmp_path / "y.csv", names(3), labels, max_label=limit)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (["0.png", "x,y.png"], np.zeros((2, 2, 2), int), r"column 2 is named 'x,y\.png'"),
        (["0.png", "0.png"], np.zeros((2, 2, 2), int), "columns 1 and 2"),
        (["0.png"], np.zeros((2, 2, 2), int), "1 names were given for 2"),
        ([], np.zeros((0, 2, 2), int), "no column"),
        (["0.png"], np.zeros((1, 2, 2)), "float64, not integers"),
    ],
)
def test_malformed_arguments_are_not_written(tmp_path, images, labels, sentence):
    with pytest.raises(CompkitError, match=sentence):
        write_table(tmp_path / "y.csv", images, labels)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "y.csv").write_text("old")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match=r"No space.*y\.csv"):
        patch.setattr(table, "_write_rows", lambda file, *_: full_disk())
        write_table(tmp_path / "y.csv", names(1), np.zeros((1, 2, 2), int))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def full_disk() -> None:
    with Path("/dev/full").open("wb", buffering=0) as device:
        device.write(b"x")
