"""Slices cut from a volume as a competition's images: of its planes, pixel size and grey window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import cv2
import numpy as np

from compkit.errors import CompkitError
from compkit.volumes.cases import Volume

#: Planes that slices are cut along, by the axis that they are stacked on.
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}

#: The symmetries of a square, by the quarter turns that follow a flip or none.
TURNS = {
    "identity": (False, 0), "rot90": (False, 1), "rot180": (False, 2), "rot270": (False, 3),
    "hflip": (True, 0), "hflip+rot90": (True, 1), "vflip": (True, 2), "hflip+rot270": (True, 3),
}  # fmt: skip

#: The id of pixels that nobody looked at.
IGNORED = 65535

#: Smaller parts of organs, in pixels and as a share of the image, are not regions.
_SMALLEST_PIXELS, _SMALLEST_SHARE = 4, 1e-4

#: Hounsfield units that part a body from air.
AIR = -500

#: Of 0..255, what is darker at the edge of an image is air.
DARK = 20


@dataclass(frozen=True)
class Look:
    """How slices look.

    Attributes
    ----------
    size : tuple of int
        (H, W) in pixels.
    spacing : float
        Width of a pixel in millimetres.
    window : tuple of float
        Hounsfield units that become 0 and 255.
    planes : dict of str to float
        Share of slices along each of `PLANES`.
    turn : str
        One of `TURNS`, from how a radiologist looks at them: the patient's front at the top of an
        axial slice, the head at the top of others, the patient's right on the left.
    """

    size: tuple[int, int]
    spacing: float
    window: tuple[float, float]
    planes: dict[str, float]
    turn: str = "identity"


def settled(
    size: int | None,
    spacing: float | None,
    window: Sequence[float] | None,
    planes: Sequence[float] | None,
    turn: str | None,
) -> dict[str, Any]:
    """Return the attributes of a `Look` that are given as typed: not None.

    Raises
    ------
    CompkitError
        If one cannot be.
    """
    wrong = {
        f"--size {size} is outside 32..4096": size is not None and not 32 <= size <= 4096,
        f"--spacing {spacing} is outside 0.05..50 mm": (
            spacing is not None and not 0.05 <= spacing <= 50
        ),
        f"--window {window} is not from a lower to a higher number": (
            window is not None and not -5000 < window[0] < window[1] < 50000
        ),
        f"--planes {planes} are no shares": (
            planes is not None
            and not (all(0 <= share < 1e6 for share in planes) and sum(planes) > 0)
        ),
        f"--turn {turn} is none of {', '.join(TURNS)}": turn is not None and turn not in TURNS,
    }
    for fault, true in wrong.items():
        if true:
            raise CompkitError(f"{fault}: correct it")
    shares = planes and {p: share / sum(planes) for p, share in zip(PLANES, planes, strict=True)}
    found = {
        "size": size and (size, size),
        "spacing": spacing,
        "window": window and tuple(window),
        "planes": shares,
        "turn": turn,
    }
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Cut:
    """A slice.

    Attributes
    ----------
    plane : str
    place : int
        Its number along the axis of the plane.
    image : ndarray of uint8, shape (H, W)
    labels : ndarray of uint8 or uint16, shape (H, W)
        Each connected part of an organ is a region; 0 is background, `IGNORED` what may be one.
    organs : tuple of str
        Which organ each region is of: that of region n is at n - 1.
    """

    plane: str
    place: int
    image: np.ndarray
    labels: np.ndarray
    organs: tuple[str, ...]


def cuts(
    volume: Volume, look: Look, count: int, rng: np.random.Generator, unsure: bool = False
) -> Iterator[Cut]:
    """Yield up to `count` slices that show an organ, spread over the volume, planes as asked.

    Where a volume is `unsure`, what is of no organ in its body is `IGNORED`.
    """
    planes = list(look.planes)
    numbers = rng.multinomial(count, [look.planes[plane] for plane in planes])
    for plane, number in zip(planes, numbers.tolist(), strict=True):
        others = tuple(axis for axis in range(3) if axis != PLANES[plane])
        places = np.flatnonzero(volume.labels.any(axis=others))
        for part in np.array_split(places, min(number, len(places)) or 1) if number else ():
            if len(part):
                cut = cut_at(volume, look, plane, int(rng.choice(part)), unsure)
                if cut.organs:
                    yield cut


def cut_at(volume: Volume, look: Look, plane: str, place: int, unsure: bool = False) -> Cut:
    """Return one slice, centred on the body."""
    hounsfield, spacing = plane_of(volume.grey, volume.spacing, plane, place)
    organs = plane_of(volume.labels, volume.spacing, plane, place)[0]
    shape = tuple(
        max(1, round(n * s / look.spacing)) for n, s in zip(organs.shape, spacing, strict=True)
    )
    small = shape[0] * shape[1] < organs.size
    way = cv2.INTER_AREA if small else cv2.INTER_LINEAR
    hounsfield = cv2.resize(hounsfield.astype(np.float32), shape[::-1], interpolation=way)
    organs = cv2.resize(organs, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    body = body_of(hounsfield > AIR)
    top, left, bottom, right = box_of(body)
    middle = (top + bottom) // 2, (left + right) // 2
    low, high = look.window
    grey = np.rint(np.clip((hounsfield - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    grey, organs, body = (
        turned(placed(a, middle, look.size), look.turn) for a in (grey, organs, body)
    )
    parts = cc3d.connected_components(organs, connectivity=8)
    areas = np.bincount(parts.ravel())
    large = areas >= max(_SMALLEST_PIXELS, _SMALLEST_SHARE * parts.size)
    large[0] = False
    parts = (np.cumsum(large) * large)[parts]
    first = np.unique(parts, return_index=True)
    found = [at for part, at in zip(*first, strict=True) if part]
    names = tuple(volume.organs[organs.flat[at] - 1] for at in found)
    labels = parts.astype(np.uint16 if unsure else np.min_scalar_type(len(names)))
    if unsure:
        labels[body & (labels == 0)] = IGNORED
    return Cut(plane, place, np.ascontiguousarray(grey), labels, names)


def plane_of(
    voxels: np.ndarray, spacing: tuple[float, ...], plane: str, place: int
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return a slice as a radiologist looks at it, and the height and width of its pixels, mm."""
    axis = PLANES[plane]
    rows, columns = (spacing[other] for other in range(3) if other != axis)
    found = np.take(voxels, place, axis)
    return np.ascontiguousarray(found if plane == "axial" else found[::-1]), (rows, columns)


def body_of(inside: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask, holes filled; all where there is none."""
    parts = cc3d.connected_components(inside, connectivity=4)
    areas = np.bincount(parts.ravel())[1:]
    if not len(areas):
        return np.ones_like(inside)
    body = parts == areas.argmax() + 1
    outlines, _ = cv2.findContours(body.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(body.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled.view(bool)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a mask, the last two beyond it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def placed(pixels: np.ndarray, middle: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return the part of an image of a size around a pixel; 0 beyond its edges."""
    out = np.zeros(size, pixels.dtype)
    here, there = [], []
    for length, at, wanted in zip(pixels.shape, middle, size, strict=True):
        start = at - wanted // 2
        here.append(slice(max(0, start), max(0, min(length, start + wanted))))
        there.append(slice(here[-1].start - start, here[-1].stop - start))
    out[tuple(there)] = pixels[tuple(here)]
    return out


def turned(pixels: np.ndarray, turn: str) -> np.ndarray:
    """Return an image under one of `TURNS`."""
    flip, quarters = TURNS[turn]
    return np.rot90(pixels[:, ::-1] if flip else pixels, quarters)
