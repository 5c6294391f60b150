"""The challenge's layout: order, and one sentence for everything that can be wrong in a folder."""

import io
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout import example, write_csv, write_folder
from PIL import Image

from compkit.competition.raidium import RaidiumSource
from compkit.errors import CompkitError
from compkit.images import read_grey


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data", *example())


def read_all(folder):
    """Read as the store does: the labels first."""
    source = RaidiumSource(folder)
    source.fingerprint()
    labels = source.labels()
    for index in range(len(source.train)):
        source.image("train", index)
    for index in range(len(source.test)):
        source.image("test", index)
    return labels


def test_images_and_labels_are_in_numeric_order(tmp_path):
    train, test, labels = example(count=12)
    folder = write_folder(tmp_path, train, test, labels, inverted=True)
    source = RaidiumSource(folder)
    assert source.train == tuple(f"{index}.png" for index in range(12))
    assert all((source.image("train", index) == train[index]).all() for index in range(12))
    assert all((source.image("test", index) == test[index]).all() for index in range(3))
    table = source.labels()
    assert table.images == source.train
    assert (table.labels == labels).all()


def save(path, mode, size=(8, 8), value=0, **options):
    Image.new(mode, size, value).save(path, format="PNG", **options)


def labels_named(folder, names, size=8):
    write_csv(folder / "Y_train.csv", np.ones((len(names), size, size), int), names)


NAMES = [f"{index}.png" for index in range(12)]

WRONG = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "no X_train": (lambda f: shutil.rmtree(f / "X_train"), "there is no folder .*X_train"),
    "no X_test": (lambda f: shutil.rmtree(f / "X_test"), "there is no folder .*X_test"),
    "no csv": (lambda f: (f / "Y_train.csv").unlink(), "there is no label CSV .*Y_train.csv: put"),
    "no images": (
        lambda f: [path.unlink() for path in (f / "X_test").iterdir()],
        "there are no images in .*X_test",
    ),
    "text name": (lambda f: save(f / "X_train" / "a.png", "L"), "a.png is not named <number>.png"),
    "zero name": (lambda f: save(f / "X_train" / "07.png", "L"), "07.png is not named"),
    "other file": (lambda f: (f / "X_test" / "notes.txt").touch(), "notes.txt is not named"),
    "corrupt": (
        lambda f: (f / "X_train" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nxx"),
        "5.png cannot be read as a PNG",
    ),
    "not a png": (
        lambda f: (f / "X_train" / "5.png").write_text("no image"),
        r"5.png cannot be read as a PNG \(not a PNG\)",
    ),
    "jpeg": (
        lambda f: Image.new("L", (8, 8)).save(f / "X_train" / "5.png", format="JPEG"),
        "5.png cannot be read as a PNG",
    ),
    "truncated": (
        lambda f: (f / "X_test" / "1.png").write_bytes((f / "X_test" / "1.png").read_bytes()[:70]),
        "1.png cannot be read as a PNG",
    ),
    "dangling": (lambda f: relink(f / "X_test" / "1.png"), "there is no image .*1.png"),
    "rgb": (lambda f: save(f / "X_train" / "3.png", "RGB"), "3.png is a RGB PNG"),
    "rgba": (lambda f: save(f / "X_train" / "3.png", "RGBA"), "3.png is a RGBA PNG"),
    "16-bit": (lambda f: save(f / "X_train" / "3.png", "I;16"), "3.png is a 16-bit grey PNG"),
    "palette": (lambda f: save(f / "X_train" / "3.png", "P"), "3.png is a palette PNG"),
    "1-bit": (lambda f: save(f / "X_train" / "3.png", "1"), "3.png is a 1-bit PNG"),
    "wrong size": (
        lambda f: save(f / "X_test" / "2.png", "L", (9, 9)),
        "X_test/2.png is 9×9 but .*X_train/0.png is 8×8",
    ),
    "one not square": (
        lambda f: save(f / "X_train" / "2.png", "L", (8, 9)),
        "2.png is 8×9 but .*0.png is 8×8",
    ),
    "first not square": (
        lambda f: save(f / "X_train" / "0.png", "L", (8, 9)),
        "0.png is 8×9: images must be square",
    ),
    "no column": (
        lambda f: labels_named(f, NAMES[:5] + NAMES[6:]),
        "Y_train.csv has no column 5.png, but every image needs its own",
    ),
    "extra column": (
        lambda f: labels_named(f, [*NAMES, "12.png"]),
        "Y_train.csv has a column 12.png, of which there is no image",
    ),
    "text order": (
        lambda f: labels_named(f, sorted(NAMES)),
        "Y_train.csv: column 3 is 10.png where 2.png is wanted",
    ),
    "label size": (
        lambda f: labels_named(f, NAMES, size=4),
        "has 16 rows, which is 4×4 pixels, but the images are 8×8: 64 rows are wanted",
    ),
    "last row missing": (
        lambda f: cut(f / "Y_train.csv"),
        "has 63 rows, but the images are 8×8: 64 rows are wanted",
    ),
    "all of them not square": (
        lambda f: write_folder(f, *(np.zeros((3, *s), "u1") for s in [(8, 16)] * 3)),
        "0.png is 16×8: images must be square",
    ),
    "pipe as image": (lambda f: pipe(f / "X_test" / "1.png"), "1.png is a pipe"),
    "pipe as labels": (lambda f: pipe(f / "Y_train.csv"), "Y_train.csv is a pipe"),
    "folder as image": (lambda f: folder_at(f / "X_test" / "1.png"), "1.png is a folder"),
    "long number": (lambda f: save(f / "X_test" / f"{'1' * 250}.png", "L"), "is not named"),
}


def cut(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder_at(path):
    path.unlink()
    path.mkdir()


def relink(path):
    path.unlink()
    path.symlink_to("gone.png")


@pytest.mark.parametrize("case", WRONG)
def test_bad_folders_get_one_sentence(folder, case):
    spoil, sentence = WRONG[case]
    read_all(folder)
    spoil(folder)
    with pytest.raises(CompkitError, match=sentence) as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


def test_hidden_files_are_passed_over(folder):
    (folder / "X_train" / ".DS_Store").touch()
    assert len(RaidiumSource(folder).train) == 12


@settings(max_examples=60)
@given(st.data())
def test_no_damaged_byte_goes_unnoticed(tmp_path_factory, data):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content)
    try:
        read = read_grey(path)
    except CompkitError:
        return
    assert (read == pixels).all()


@pytest.mark.parametrize("name", ["X_train/3.png", "X_test/0.png", "Y_train.csv"])
def test_fingerprint_sees_a_change_of_any_file(folder, name):
    before = RaidiumSource(folder).fingerprint()
    assert RaidiumSource(folder).fingerprint() == before
    path = folder / name
    copy = path.with_name(".copy")  # the same bytes, and the same time of modification
    shutil.copy2(path, copy)
    copy.replace(path)
    assert RaidiumSource(folder).fingerprint() != before
