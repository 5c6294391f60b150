"""Images and label maps in every format: what was written is read, and what is none is told."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from compkit.errors import CompkitError
from compkit.images import page_count, read_ids, read_image

RNG = np.random.default_rng(0)
GREY, COLOUR = RNG.integers(0, 256, (5, 7), "u1"), RNG.integers(0, 256, (5, 7, 3), "u1")
GREY16, COLOUR16 = RNG.integers(0, 65536, (5, 7), "u2"), RNG.integers(0, 65536, (5, 7, 3), "u2")


def write(path: Path, pixels: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR, GREY16, COLOUR16], ids=lambda p: str(p.dtype))
def test_images_of_8_and_16_bits(tmp_path, suffix, pixels):
    found = read_image(write(tmp_path / f"x{suffix}", pixels))
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype


def test_big_endian_tiffs_and_ones_of_one_bit(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", GREY16, byteorder=">")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), GREY16)
    Image.fromarray(GREY > 99).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), (GREY > 99) * 255)
    np.testing.assert_array_equal(read_ids(tmp_path / "1.png"), GREY > 99)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "CMYK", "L", "RGB"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_mode_of_pillow(tmp_path, mode, suffix):
    if mode in {".png": ["CMYK"], ".jpg": ["LA", "RGBA", "P"]}[suffix]:
        pytest.skip("no such files are written")
    image = Image.fromarray(COLOUR).convert(mode)
    image.save(tmp_path / f"x{suffix}", quality=100, subsampling=0)
    found = read_image(tmp_path / f"x{suffix}")
    grey = mode in ("L", "LA")
    wanted = np.asarray(image.convert("L" if grey else "RGB"))
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (0 if suffix == ".png" else 9)


def test_a_stack_is_its_pages(tmp_path):
    stack = RNG.integers(0, 256, (3, 5, 7), "u1")
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    for path in (tmp_path / "s.tif", write(tmp_path / "s.npy", stack)):
        assert page_count(path) == 3
        np.testing.assert_array_equal(read_image(path, 2), stack[2])
        with pytest.raises(CompkitError, match="holds 3 images, none of them number 3"):
            read_image(path, 3)
        with pytest.raises(CompkitError, match="holds 3 images: save each as a file"):
            read_image(path)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "cut.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "cut.tif").read_bytes()
    for size in (len(whole) // 2, len(whole) * 3 // 4):
        (tmp_path / "cut.tif").write_bytes(whole[:size])
        with pytest.raises(CompkitError, match=r"it ends after \d of its images"):
            page_count(tmp_path / "cut.tif")
    assert page_count(write(tmp_path / "x.png", GREY)) == 1
    assert page_count(write(tmp_path / "c.npy", COLOUR)) == 1
    tifffile.imwrite(tmp_path / "c.tif", COLOUR, photometric="rgb")
    assert page_count(tmp_path / "c.tif") == 1
    tifffile.imwrite(
        tmp_path / "p.tif", COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif"), COLOUR)


@pytest.mark.parametrize(
    ("suffix", "dtype", "most"),
    [(".png", "u1", 255), (".png", "u2", 65535), (".tif", "u4", 2**32 - 1), (".tif", "i4", 70000),
     (".npy", "i8", 300), (".tif", "f4", 1000), (".npy", "u8", 2**32 - 1)],
)  # fmt: skip
def test_ids_of_any_depth_are_kept(tmp_path, suffix, dtype, most):
    ids = np.array([[0, 1, most], [2, most - 1, 0]], dtype)
    found = read_ids(write(tmp_path / f"x{suffix}", ids))
    np.testing.assert_array_equal(found, ids.astype(np.uint64))
    assert found.dtype == np.min_scalar_type(most)


def test_colours_and_palettes_are_ids(tmp_path):
    colours = np.zeros((2, 3, 3), "u1")
    colours[0, 1], colours[1, 0], colours[1, 2] = (255, 0, 0), (0, 9, 9), (255, 0, 0)
    write(tmp_path / "x.png", colours)
    assert read_ids(tmp_path / "x.png").tolist() == [[0, 2, 0], [1, 0, 2]]
    indices = np.array([[0, 4], [7, 4]], "u1")
    image = Image.fromarray(indices, mode="P")
    image.putpalette(RNG.integers(0, 256, 768, "u1").tobytes())
    image.save(tmp_path / "p.png")
    image.save(tmp_path / "p.tif")
    for name in ("p.png", "p.tif"):
        np.testing.assert_array_equal(read_ids(tmp_path / name), indices)


@pytest.mark.parametrize("read", [read_image, read_ids])
def test_numbers_that_are_not_what_is_seen_are_told(tmp_path, read):
    tifffile.imwrite(tmp_path / "w.tif", GREY, photometric="miniswhite")
    with pytest.raises(CompkitError, match=r"w\.tif is a TIFF of MINISWHITE: save it"):
        read(tmp_path / "w.tif")


def test_palettes_are_no_grey_values_nor_jpegs_ids(tmp_path):
    Image.fromarray(GREY, mode="P").save(tmp_path / "p.tif")
    with pytest.raises(CompkitError, match=r"p\.tif is a TIFF of PALETTE"):
        read_image(tmp_path / "p.tif")
    with pytest.raises(CompkitError, match=r"x\.jpg is a JPEG, in which ids have changed"):
        read_ids(write(tmp_path / "x.jpg", GREY))


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (np.array([[-1, 2]], "i2"), "holds the id -1"),
        (np.array([[0.5, 2]], "f4"), "holds fractions"),
        (np.array([[np.nan, 2]], "f4"), "holds the id nan"),
        (np.array([[2**32, 2]], "u8"), "holds the id 4294967296"),
        (np.array([[1j, 2]]), "holds complex128"),
        (np.zeros((2, 2, 9), "u1")[None, None], "which is no image"),
        (np.zeros((0, 4), "u1"), r"of shape \(0, 4\)"),
    ],
)
def test_what_are_no_ids_is_told(tmp_path, ids, sentence):
    with pytest.raises(CompkitError, match=sentence):
        read_ids(write(tmp_path / "x.npy", ids))


def test_floats_are_no_image(tmp_path):
    with pytest.raises(CompkitError, match="holds float32, but an image has 8 or 16 bits"):
        read_image(write(tmp_path / "x.tif", GREY.astype("f4")))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_damaged_files_are_told(tmp_path, suffix):
    path = write(tmp_path / f"x{suffix}", np.tile(GREY, (20, 20)))
    data = path.read_bytes()
    for wrong in (b"", data[: len(data) // 2], b"GIF89a" + data[6:], b"\0" * 99):
        path.write_bytes(wrong)
        with pytest.raises(CompkitError, match=r"x\.\w+ (cannot be read|holds)"):
            read_image(path)
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(CompkitError, match="cannot be read"):
        read_image(tmp_path / "o.npy")


def test_a_tiff_of_an_unknown_kind_is_told(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((8, 8), "u1"), photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(99)
    with pytest.raises(CompkitError, match="is a TIFF of an unknown kind: save it as grey or RGB"):
        read_image(path)
