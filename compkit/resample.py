"""Images and label maps at another size, for training and prediction alike: centres correspond."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resized(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return (N, C, H, W) on a grid of `shape`; pixel centres correspond, shrinking smooths."""
    if (x.shape[-2], x.shape[-1]) == shape:
        return x
    return interpolate(x, size=shape, mode="bilinear", align_corners=False, antialias=True)


def within(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the (H, W) of an image whose longer side becomes `side`."""
    height, width = (max(1, round(length * side / max(shape))) for length in shape)
    return height, width


def seen(shape: tuple[int, ...], size: int | None) -> tuple[int, int]:
    """Return the (H, W) at which a network sees an image of a shape: the longer side is `size`."""
    return (shape[0], shape[1]) if size is None else within((shape[0], shape[1]), size)


def channels_first(image: np.ndarray) -> np.ndarray:
    """Return an image, (H, W) or (H, W, C), as (C, H, W)."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def shrunk(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image, uint8 or uint16, of (H, W) `shape`, resampled as the predictor does it."""
    if image.shape[:2] == shape:
        return image
    pixels = torch.tensor(channels_first(image).astype(np.float32))[None]
    found = resized(pixels, shape)[0].round().clamp(0, np.iinfo(image.dtype).max).numpy()
    return (found[0] if image.ndim == 2 else np.moveaxis(found, 0, -1)).astype(image.dtype)


def shrunk_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a label map, uint8 or uint16, of (H, W) `shape`: each pixel the label at its centre.

    (OpenCV's plain nearest neighbour takes the upper left corner instead, a shift of half a pixel.)
    """
    if labels.shape == shape:
        return labels
    return cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
