"""Images of users, read and proven to be what networks see: grey, of 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageOps import exif_transpose

from compkit.errors import CompkitError

#: What images of any folder may be; those of a competition are PNGs.
FORMATS = ("PNG", "JPEG", "TIFF")

#: Channels of a colour image that may be given as an array: one, RGB, RGBA.
CHANNELS = (1, 3, 4)

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


def grey(pixels: np.ndarray, what: str = "the image") -> np.ndarray:
    """Return an image, uint8 (H, W) or (H, W, C), in grey, uint8 (H, W).

    Raises
    ------
    CompkitError
        If it is of another type or shape.
    """
    if pixels.dtype != np.uint8:
        raise CompkitError(
            f"{what} holds {pixels.dtype}, but networks have learnt from grey values of 8 bits: "
            "scale it to 0…255 as the training images were, and give uint8"
        )
    if pixels.ndim == 3 and pixels.shape[2] in CHANNELS:
        flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        pixels = np.asarray(Image.fromarray(flat).convert("L"))
    if pixels.ndim != 2 or not pixels.size:
        raise CompkitError(
            f"{what} has the shape {pixels.shape}: give (H, W), or (H, W, C) with C in "
            f"{', '.join(map(str, CHANNELS))}"
        )
    return pixels


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
    return CompkitError(f"{path} cannot be read as a {names} ({reason}): fetch it again")
