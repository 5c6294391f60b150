"""Pixels of images as networks have learnt to see them, and as people do."""

from __future__ import annotations

import numpy as np
from PIL import Image

from compkit.errors import CompkitError

#: Channels of a colour image that may be given as an array: one, RGB, RGBA.
CHANNELS = (1, 3, 4)


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


def as_shown(image: np.ndarray) -> np.ndarray:
    """Return an image of any kind as screens show it, uint8, (H, W) or (H, W, 3).

    One of 16 bits is shown from its darkest to its brightest.
    """
    if image.dtype == np.uint16:
        low, high = int(image.min()), int(image.max())
        image = ((image - low) * (255 / max(1, high - low))).astype(np.uint8)
    return np.asarray(image)


def as_grey(image: np.ndarray) -> np.ndarray:
    """Return an image of any kind as screens show it, without colours, uint8 (H, W)."""
    return grey(as_shown(image))


def fitted(image: np.ndarray, channels: int, bits: int, what: str) -> np.ndarray:
    """Return an image as networks see it that have learnt from such as are told.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
    channels, bits : int
        Of `compkit.data.arrays.Pixels`.

    Returns
    -------
    ndarray of uint8 or uint16, shape (H, W), or (H, W, 3) for three channels

    Raises
    ------
    CompkitError
        If it is of another type or shape.
    """
    if bits == 8 and channels == 1:
        return grey(image, what)
    if image.dtype != f"u{bits // 8}":
        raise CompkitError(
            f"{what} holds {image.dtype}, but networks have learnt from images of {bits} bits: "
            "scale it as the training images were"
        )
    if image.ndim not in (2, 3) or not image.size or image.shape[2:] not in ((), (1,), (3,), (4,)):
        raise CompkitError(f"{what} has the shape {image.shape}: give (H, W), or (H, W, C)")
    if image.ndim == 3:
        image = image[..., 0] if image.shape[2] == 1 else image[..., :3]
    if channels == 3:
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if image.ndim == 3:
        raise CompkitError(f"{what} is in colours, but networks have learnt from grey: give it so")
    return image
