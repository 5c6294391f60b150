"""Images and label maps in users' files, whatever format, depth and colours these have."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image
from PIL.ImageOps import exif_transpose

from compkit.errors import CompkitError
from compkit.pixels import CHANNELS, grey

#: What images of any folder may be; those of a competition are PNGs.
FORMATS = ("PNG", "JPEG", "TIFF")

_KINDS = {
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "I": "32-bit grey",
    "F": "floating-point",
    "P": "palette",
    "1": "1-bit",
    "LA": "grey+alpha",
}
_COLOURS = ("1", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")

#: What Pillow raises of a file that is no image, or damaged.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    tifffile.TiffFileError,
    cv2.error,
)


def read_grey(path: Path, formats: tuple[str, ...] = FORMATS, colour: bool = True) -> np.ndarray:
    """Return the image in a file, uint8 (H, W), turned as its EXIF tells viewers to show it.

    Parameters
    ----------
    formats : tuple of str
        What the file may be, by Pillow's names.
    colour : bool
        Turn colours grey, in place of refusing them.

    Raises
    ------
    CompkitError
        If it is no such image, damaged, or of other than 8 bits.
    """
    try:
        data = path.read_bytes()
        # Only `verify` looks at the checksums, and an image cannot be read after it.
        with Image.open(io.BytesIO(data), formats=formats) as image:
            image.verify()
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _refuse(image, path, colour)
            shown = exif_transpose(image)
            return grey(np.asarray(shown if shown.mode == "L" else shown.convert("RGB")))
    except UNREADABLE as error:
        raise _unreadable(path, error, formats) from None


def check_header(path: Path) -> None:
    """Raise the `CompkitError` of `read_grey`, as far as a file's first bytes tell."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse(image, path, colour=True)
    except UNREADABLE as error:
        raise _unreadable(path, error, FORMATS) from None


def read_image(path: Path, page: int | None = None) -> np.ndarray:
    """Return the image in a file, grey (H, W) or in colours (H, W, 3), uint8 or uint16.

    Parameters
    ----------
    path : Path
        PNG, JPEG, TIFF or NPY. What is transparent is shown as if it were not.
    page : int, optional
        Which image of a TIFF or NPY that holds several; by default it may hold one alone.

    Raises
    ------
    CompkitError
        If it is no such image, damaged, or of other numbers.
    """
    pixels = _pixels(path, page)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise CompkitError(
            f"{path} holds {pixels.dtype}, but an image has 8 or 16 bits: scale it to whole "
            "numbers from 0 to 65535, as all images of the competition alike, and save it as uint16"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3]
    return np.ascontiguousarray(pixels)


def read_ids(path: Path, page: int | None = None) -> np.ndarray:
    """Return the label map in a file, unsigned (H, W), of the fewest bits that hold its ids.

    Whole numbers are ids, and so are numbers of colours in a palette; 0 is background. Of an image
    in colours each colour is a region, numbered from 1 by their red, green and blue; black is
    background.

    Parameters
    ----------
    path, page
        As for `read_image`.

    Raises
    ------
    CompkitError
        If it is no such image, damaged, a JPEG, or holds a negative number, a fraction, or one
        over 32 bits.
    """
    pixels = _pixels(path, page, indices=True)
    if pixels.ndim == 3 and pixels.shape[-1] < 3:
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        if pixels.dtype.kind != "u":
            raise CompkitError(
                f"{path} holds colours of {pixels.dtype}: save them as whole numbers"
            )
        return _numbered_colours(pixels[..., :3])
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high < 1 << 32):  # nor is it so of NaN
        raise CompkitError(
            f"{path} holds the id {low if not low >= 0 else high}, but ids are whole numbers from "
            f"0 to {(1 << 32) - 1}: correct it"
        )
    if pixels.dtype.kind == "f" and (pixels != np.floor(pixels)).any():
        raise CompkitError(
            f"{path} holds fractions, but ids are whole numbers: round them yourself"
        )
    return np.ascontiguousarray(pixels.astype(np.min_scalar_type(int(high))))


def page_count(path: Path) -> int:
    """Return how many images a TIFF or NPY holds; any other file holds one."""
    try:
        if path.suffix.lower() in _TIFF:
            with tifffile.TiffFile(path) as file:
                count = len(file.pages)
                # tifffile passes over pages that lie beyond the end of a file.
                file.filehandle.seek(file.pages.next_page_offset or 0)
                if file.filehandle.read(size := file.tiff.offsetsize) != bytes(size):
                    raise tifffile.TiffFileError(f"it ends after {count} of its images")
                return count
        if path.suffix.lower() == ".npy":
            return len(_stacked(np.load(path, mmap_mode="r", allow_pickle=False), path))
    except UNREADABLE as error:
        raise _unreadable(path, error, READABLE) from None
    return 1


def has_colours(path: Path) -> bool:
    """Whether the images in a file are in colours, as far as its first bytes tell."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return _stacked(np.load(path, mmap_mode="r", allow_pickle=False), path).shape[3:] > (2,)
        if suffix in _TIFF:
            with tifffile.TiffFile(path) as file:
                return bool(file.pages.first.samplesperpixel > 2)
        with Image.open(path, formats=FORMATS) as image:
            return image.mode not in ("1", "L", "LA", "I;16", "I;16B", "I", "F")
    except UNREADABLE as error:
        raise _unreadable(path, error, READABLE) from None


#: What `read_image` and `read_ids` take, by name and by the end of a file's name.
READABLE = ("PNG", "JPEG", "TIFF", "NPY")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")

_TIFF = (".tif", ".tiff")

#: Kinds of TIFFs whose numbers are what people see; tifffile turns YCbCr, of JPEGs, into RGB.
_SHOWN = ("MINISBLACK", "RGB", "YCBCR")


#: Compressions that change pixels: JPEG, of both kinds, JPEG 2000 and WebP.
_LOSSY = (6, 7, 33003, 33004, 33005, 34712, 50001)


def _pixels(path: Path, page: int | None, indices: bool = False) -> np.ndarray:
    """Return what a file holds, (H, W) or (H, W, C) with C at most 4; of a palette the indices."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            stack = _stacked(np.load(path, mmap_mode="r", allow_pickle=False), path)
            pixels = np.array(_page(stack, page, path))
        elif suffix in _TIFF:
            with tifffile.TiffFile(path) as file:
                frame = _page(file.pages, page, path)
                kind = str(getattr(frame.keyframe.photometric, "name", "an unknown kind"))
                if kind not in _SHOWN and not (indices and kind == "PALETTE"):
                    raise CompkitError(f"{path} is a TIFF of {kind}: save it as grey or RGB")
                if indices and frame.keyframe.compression in _LOSSY:
                    raise CompkitError(
                        f"{path} is compressed as a JPEG is, in which ids have changed: save it "
                        "anew without"
                    )
                pixels = frame.asarray()
                if frame.axes == "SYX":  # one colour after the other
                    pixels = np.moveaxis(pixels, 0, -1)
        else:
            pixels = _by_pillow(path, indices)
    except UNREADABLE as error:
        raise _unreadable(path, error, READABLE) from None
    if pixels.ndim not in (2, 3) or not pixels.size or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise CompkitError(
            f"{path} holds pixels of shape {pixels.shape}: an image is (H, W) or (H, W, C) with at "
            "most 4 channels"
        )
    if pixels.dtype.kind not in "biuf":
        raise CompkitError(f"{path} holds {pixels.dtype}, which are no pixels: save it as numbers")
    return pixels


def _by_pillow(path: Path, indices: bool) -> np.ndarray:
    data = path.read_bytes()
    # Only `verify` looks at the checksums, and an image cannot be read after it.
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.verify()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise CompkitError(f"{path} holds {count} images: save each as a file of its own")
        if indices and image.format == "JPEG":
            raise CompkitError(
                f"{path} is a JPEG, in which ids have changed: make it anew as a PNG or TIFF"
            )
        if image.format == "PNG" and image.mode in _COLOURS and data[_DEPTH] == 16:
            # Pillow cuts these to 8 bits.
            found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            return found[..., 2::-1] if found.ndim == 3 else found
        shown = exif_transpose(image)
        if shown.mode in ("1", "L", "LA", "I;16", "I;16B", "I", "F", "RGB", "RGBA"):
            return np.asarray(shown).astype(np.asarray(shown).dtype.newbyteorder("="))
        return np.asarray(shown if indices and shown.mode == "P" else shown.convert("RGB"))


def _stacked(array: np.ndarray, path: Path) -> np.ndarray:
    """Return an array as a stack of images, (N, H, W) or (N, H, W, C)."""
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in CHANNELS):
        return array[None]
    if array.ndim in (3, 4):
        return array
    raise CompkitError(f"{path} holds an array of shape {array.shape}, which is no image")


def _page(pages: Any, page: int | None, path: Path) -> Any:
    if page is None and len(pages) > 1:
        raise CompkitError(f"{path} holds {len(pages)} images: save each as a file of its own")
    page = page or 0
    if not 0 <= page < len(pages):
        raise CompkitError(f"{path} holds {len(pages)} images, none of them number {page}")
    return pages[page]


def _numbered_colours(pixels: np.ndarray) -> np.ndarray:
    code = np.zeros(pixels.shape[:2], np.uint64)
    for channel in range(3):
        code = code << np.uint64(16) | pixels[..., channel]
    colours = np.unique(np.append(code.ravel(), np.uint64(0)))
    return np.searchsorted(colours, code).astype(np.min_scalar_type(len(colours) - 1))


#: Where a PNG says how many bits a channel has, which Pillow cuts to 8 in colours.
_DEPTH = 24


def _refuse(image: Image.Image, path: Path, colour: bool) -> None:
    if image.format == "PNG" and image.mode in _COLOURS:
        with path.open("rb") as file:
            if file.read(_DEPTH + 1)[_DEPTH:] == b"\x10":
                raise CompkitError(f"{path} has 16 bits a channel: convert it to 8")
    if image.mode != "L" and not (colour and image.mode in _COLOURS):
        kind = _KINDS.get(image.mode, image.mode)
        raise CompkitError(f"{path} is a {kind} {image.format}: convert it to 8-bit grey (mode L)")
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise CompkitError(f"{path} holds {count} images: save each as a file of its own")


def _unreadable(path: Path, error: BaseException, formats: tuple[str, ...]) -> CompkitError:
    names = " or ".join(formats)
    # Pillow may name the in-memory buffer, which tells nobody anything.
    reason = f"not a {names}" if "cannot identify" in str(error) else str(error)
    remedy = "pip install imagecodecs" if "imagecodecs" in reason else "fetch it again"
    return CompkitError(f"{path} cannot be read as a {names} ({reason}): {remedy}")
