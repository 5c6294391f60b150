"""Shapes as small masks, in coordinates that do not depend on the image's size.

Image coordinates run from -1 to 1 across the image, to the right and downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SHIFT = 4  # OpenCV draws at 1/16 of a pixel


@dataclass(frozen=True)
class Mask:
    """A piece of an image: the pixels of the box at (`top`, `left`) that are inside.

    Attributes
    ----------
    top, left : int
        Corner of the box, in pixels.
    inside : ndarray of bool, shape (h, w)
    """

    top: int
    left: int
    inside: np.ndarray

    @property
    def box(self) -> tuple[slice, slice]:
        """Where the box lies in the image."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def within(self, area: np.ndarray) -> Mask:
        """Return the part that lies in `area` (bool, the whole image)."""
        return Mask(self.top, self.left, self.inside & area[self.box])

    def above(self, v: float, size: int) -> Mask:
        """Return the part above the image coordinate `v`."""
        rows = self.top + np.arange(self.inside.shape[0])
        return Mask(self.top, self.left, self.inside & (rows < (v + 1) / 2 * size)[:, None])

    def grown(self, radius: float, size: int) -> Mask:
        """Return the mask and all within `radius` (image coordinates, at least a pixel) of it."""
        reach = max(1, round(radius * size / 2))
        height, width = self.inside.shape
        top, left = max(self.top - reach, 0), max(self.left - reach, 0)
        bottom, right = min(self.top + height + reach, size), min(self.left + width + reach, size)
        local = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.uint8)
        if self.inside.size:
            y, x = self.top - top, self.left - left
            local[y : y + height, x : x + width] = self.inside
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            local = cv2.dilate(local, kernel)
        return Mask(top, left, local.view(bool))

    def full(self, size: int) -> np.ndarray:
        """Return the mask as a whole image, bool, shape (size, size)."""
        area = np.zeros((size, size), bool)
        area[self.box] = self.inside
        return area


def polygon(points: np.ndarray, size: int) -> Mask:
    """Return the inside of a closed outline; `points` is (n, 2) in image coordinates (u, v)."""
    pixels = _pixels(points, size)
    left, top, local = _box(pixels.min(axis=0), pixels.max(axis=0), size)
    if local.size:
        cv2.fillPoly(local, [_fixed(pixels - (left, top))], 1, shift=SHIFT)
    return Mask(top, left, local.view(bool))


def tube(path: np.ndarray, radius: np.ndarray | float, size: int) -> Mask:
    """Return all that lies within `radius` of a path.

    Parameters
    ----------
    path : ndarray, shape (n, 2)
        Points (u, v) in image coordinates, close to one another.
    radius : float or ndarray of shape (n,)
        In image coordinates.
    """
    pixels = _pixels(path, size)
    radii = np.broadcast_to(np.asarray(radius, float) * size / 2, len(pixels))
    reach = radii.max() + 1
    left, top, local = _box(pixels.min(axis=0) - reach, pixels.max(axis=0) + reach, size)
    if local.size:
        centres = _fixed(pixels - (left, top)).tolist()
        for centre, r in zip(centres, (radii * (1 << SHIFT)).round().astype(int), strict=True):
            cv2.circle(local, centre, int(r), 1, cv2.FILLED, shift=SHIFT)
    return Mask(top, left, local.view(bool))


def curve(corners: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Return a smooth path along `corners` (n, 2), by Chaikin's corner cutting; ends are kept."""
    path = np.asarray(corners, float)
    for _ in range(rounds):
        near, far = path[:-1] * 0.75 + path[1:] * 0.25, path[:-1] * 0.25 + path[1:] * 0.75
        cut = np.stack([near, far], axis=1).reshape(-1, 2)
        path = np.concatenate([path[:1], cut, path[-1:]])
    return path


def _pixels(points: np.ndarray, size: int) -> np.ndarray:
    return (np.asarray(points, float) + 1) / 2 * size - 0.5


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def _box(low: np.ndarray, high: np.ndarray, size: int) -> tuple[int, int, np.ndarray]:
    left, top = np.clip(np.floor(low), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(high) + 1, 0, size).astype(int)
    return left, top, np.zeros((max(bottom - top, 0), max(right - left, 0)), np.uint8)
