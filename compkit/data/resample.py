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


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Return a grey image, uint8, at `side` pixels, resampled as the predictor does it."""
    shape = (side, side)
    if image.shape == shape:
        return image
    grey = resized(torch.tensor(image, dtype=torch.float32)[None, None], shape)[0, 0]
    return grey.round().clamp(0, 255).byte().numpy()


def shrunk_labels(labels: np.ndarray, side: int) -> np.ndarray:
    """Return a label map at `side` pixels, each pixel the label at its centre.

    (OpenCV's plain nearest neighbour takes the upper left corner instead, a shift of half a pixel.)
    """
    if labels.shape[0] == side:
        return labels
    return cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
