"""Regions in colours that can be told apart."""

from __future__ import annotations

import colorsys

import numpy as np
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from compkit.describe.statistics import neighbours
from compkit.regions import numbered

_PALETTE = [
    tuple(level / 255 for level in bytes.fromhex(colour))
    for colour in (
        "e6194b", "3cb44b", "ffe119", "4363d8", "f58231", "911eb4",
        "42d4f4", "f032e6", "bfef45", "fabed4", "469990", "9a6324",
    )
]  # fmt: skip

#: How much of a pixel is its region's colour; the rest is the image.
_OPAQUE = 0.6


def coloured(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return an image with its regions in colours, float64 (H, W, 3) between 0 and 1.

    Parameters
    ----------
    labels : integer ndarray, shape (H, W)
        Ids from 0, the background, which stays as it is.
    image : ndarray of uint8, shape (H, W) or (H, W, 3)
    """
    return _painted(image, colour_numbers(labels), _OPAQUE)


def outlined(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return an image with its regions' outlines in colours, as `coloured` returns regions."""
    colours = colour_numbers(labels)
    return _painted(image, np.where(find_boundaries(labels, mode="inner"), colours, 0), 1.0)


def _painted(image: np.ndarray, colours: np.ndarray, opaque: float) -> np.ndarray:
    """Return an image with colours by number where they are above 0."""
    more = range(len(_PALETTE) + 1, int(colours.max(initial=0)) + 1)
    wheel = [*_PALETTE, *(colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.7, 0.8) for number in more)]
    return label2rgb(colours, image, wheel, opaque, bg_color=None, saturation=1)


def colour_numbers(labels: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's colour, int64 (H, W): regions that touch have different.

    Background is 0. Regions with many neighbours choose first, among the colours that no neighbour
    has the one that is used least; a palette that does not suffice gets longer.
    """
    regions = numbered(labels)
    beside: list[set[int]] = [set() for _ in range(int(regions.max(initial=0)) + 1)]
    for one, other in neighbours(regions).tolist():
        beside[one].add(other)
        beside[other].add(one)
    chosen, used = np.zeros(len(beside), np.int64), [0] * len(_PALETTE)
    for region in sorted(range(1, len(beside)), key=lambda each: -len(beside[each])):
        taken = {int(chosen[other]) - 1 for other in beside[region]}
        free = [number for number in range(len(used)) if number not in taken]
        if not free:
            free = [len(used)]
            used.append(0)
        number = min(free, key=used.__getitem__)
        used[number] += 1
        chosen[region] = number + 1
    return chosen[regions]
