"""What the images of a competition look like, measured so that slices of volumes imitate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from scipy.optimize import minimize

from compkit.data.arrays import shapes_of
from compkit.data.store import Store
from compkit.pixels import as_grey
from compkit.volumes.cases import Volume
from compkit.volumes.slices import (
    AIR,
    DARK,
    PLANES,
    TURNS,
    Cut,
    Look,
    body_of,
    box_of,
    cut_at,
    plane_of,
    turned,
)

#: Target images that are looked at, at most; and slices of a volume and plane.
_IMAGES, _SLICES = 200, 8

#: Images are compared at this side; across patients only coarse shapes agree.
_SIDE = 32

#: Quantiles by which grey values are compared.
_QUANTILES = np.linspace(0.01, 0.99, 99)

#: Standard errors by which one orientation must be better than every other.
_SURE = 3.0


@dataclass(frozen=True)
class Measured:
    """What was found in a target's images.

    Attributes
    ----------
    look : Look
    told : tuple of str
        Sentences on each fact and on how sure it is.
    """

    look: Look
    told: tuple[str, ...]


def imitate(store: Store, volumes: Sequence[Volume], given: dict[str, Any]) -> Measured:
    """Measure how slices of some volumes come to look like a competition's images.

    Parameters
    ----------
    given : dict
        Attributes of `Look` that are settled.
    """
    images = _some(store)
    height, width = given.get("size") or np.median(shapes_of(store.images), axis=0).astype(int)
    size = int(height), int(width)
    extent = float(np.median([_extent(image > DARK) for image in images]))
    widths = [
        _extent(slice_ > AIR) * (sy * sx) ** 0.5
        for volume in volumes
        for slice_, (sy, sx) in _bodies(volume)
    ]
    spacing = float(given.get("spacing") or np.median(widths) / extent)
    window: tuple[float, float] = given.get("window") or _window(images, volumes)
    told = [
        f"size {size[1]}×{size[0]}; bodies are {extent:.0f} pixels wide, in the volumes "
        f"{np.median(widths):.0f} mm: {spacing:.2f} mm a pixel",
        f"window {window[0]:.0f} to {window[1]:.0f} HU",
    ]
    look = Look(size, spacing, window, dict.fromkeys(PLANES, 1 / 3))
    similarity = _similarity(images, volumes, look)
    turn, line = _turn(similarity["axial"])
    told.append(line)
    turn = str(given.get("turn") or turn)
    best = np.stack([similarity[plane][list(TURNS).index(turn)] for plane in PLANES])
    counts = np.bincount(best.argmax(0), minlength=len(PLANES)) / best.shape[1]
    shares = dict(zip(PLANES, counts.tolist(), strict=True))
    listed = ", ".join(f"{plane} {share:.2f}" for plane, share in shares.items())
    told.append(f"planes, by the most alike slice: {listed}")
    planes = given.get("planes") or shares
    return Measured(Look(look.size, spacing, look.window, dict(planes), turn), tuple(told))


def _some(store: Store) -> list[np.ndarray]:
    """Return images of a competition, uint8 in grey, spread evenly."""
    count = len(store.images)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _IMAGES)).astype(int))
    return [as_grey(store.images[index]) for index in chosen.tolist()]


def _bodies(volume: Volume) -> list[tuple[np.ndarray, tuple[float, float]]]:
    places = np.flatnonzero(volume.labels.any(axis=(1, 2)))
    chosen = places[np.linspace(0, len(places) - 1, min(len(places), _SLICES)).astype(int)]
    return [plane_of(volume.grey, volume.spacing, "axial", int(place)) for place in chosen]


def _extent(inside: np.ndarray) -> float:
    """Return the side of a square as large as the box around a body, in pixels."""
    top, left, bottom, right = box_of(body_of(inside))
    return float(((bottom - top) * (right - left)) ** 0.5)


def _window(images: Sequence[np.ndarray], volumes: Sequence[Volume]) -> tuple[float, float]:
    """Return the window under which grey values of bodies are distributed as the target's are."""
    wanted = np.quantile(np.concatenate([i[body_of(i > DARK)] for i in images]), _QUANTILES)
    slices = [found for volume in volumes for found, _ in _bodies(volume)]
    held = np.quantile(np.concatenate([s[body_of(s > AIR)] for s in slices]), _QUANTILES)

    def distance(window: Sequence[float]) -> float:
        low, width = window
        if width < 50:
            return float("inf")
        return float(np.abs(np.clip((held - low) / width, 0, 1) * 255 - wanted).mean())

    starts = product(range(-1000, 101, 50), (150, 250, 400, 600, 1000, 1500, 2000))
    low, width = minimize(distance, min(starts, key=distance), method="Nelder-Mead").x
    return round(float(low)), round(float(low + width))


def _similarity(
    images: Sequence[np.ndarray], volumes: Sequence[Volume], look: Look
) -> dict[str, np.ndarray]:
    """Return for each plane how alike the most alike slice is, shape (turns, images)."""
    target = np.stack([_coarse(image) for image in images])
    found = {}
    for plane in PLANES:
        slices = [cut.image for volume in volumes for cut in _sample(volume, look, plane)]
        found[plane] = np.stack(
            [
                (target @ np.stack([_coarse(turned(s, turn)) for s in slices]).T).max(1)
                for turn in TURNS
            ]
        )
    return found


def _sample(volume: Volume, look: Look, plane: str) -> list[Cut]:
    axis = PLANES[plane]
    places = np.flatnonzero(volume.labels.any(axis=tuple(a for a in range(3) if a != axis)))
    chosen = places[np.linspace(0, len(places) - 1, min(len(places), _SLICES)).astype(int)]
    return [cut_at(volume, look, plane, int(place)) for place in chosen]


def _coarse(image: np.ndarray) -> np.ndarray:
    """Return an image as a vector of length 1 whose products are correlations."""
    small = cv2.resize(np.ascontiguousarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    vector = small.astype(np.float32).ravel()
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _turn(similarity: np.ndarray) -> tuple[str, str]:
    """Return the orientation, and a sentence on how sure it is."""
    first, second = np.argsort(similarity.mean(1))[::-1][:2]
    difference = similarity[first] - similarity[second]
    error = difference.std() / len(difference) ** 0.5
    names = list(TURNS)
    sure = difference.mean() / max(float(error), 1e-9)
    if sure < _SURE and first != 0:
        return "identity", (
            f"orientation cannot be told ({names[first]} is as likely as {names[second]}), so that "
            "slices stand as a radiologist looks at them: give --turn if you know better"
        )
    return names[first], (
        f"orientation {names[first]}, {sure:.1f} standard errors ahead of {names[second]}"
    )
