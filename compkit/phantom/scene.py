"""One slice being drawn: the patient's frame, and the two maps that structures are painted into.

Image coordinates run from -1 to 1 across the image, to the right and downwards, so that they do not
depend on its size. A mask is a bool ndarray of shape (size, size).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from compkit.phantom.kinds import KIND_NUMBER, LOOK_NUMBER

SIDES = (-1, 1)

#: A place in the patient's frame, or a width there and a height.
Pair = tuple[float, float]

#: Thickness of the layer between an organ and its neighbours; none where it is negative.
GAP = -0.008, 0.02

_SHIFT = 4  # OpenCV draws at 1/16 of a pixel


def ramp(z: float, start: float, stop: float) -> float:
    """Return a smooth step from 0 at `start` to 1 at `stop`."""
    x = min(max((z - start) / (stop - start), 0.0), 1.0)
    return x * x * (3 - 2 * x)


def swell(z: float, centre: float, half: float) -> float:
    """Return the relative width at height `z` of an ellipsoid `2 * half` high; 0 outside."""
    return max(0.0, 1 - ((z - centre) / half) ** 2) ** 0.5


def generator(key: tuple[int, ...], name: str) -> np.random.Generator:
    """Return the generator of the part `name`: parts do not disturb one another's draws."""
    return np.random.default_rng([*key, zlib.crc32(name.encode())])


class Scene:
    """A slice at height `z` of the patient whose generators `rng` gives.

    Organs are placed in the patient's own frame (s, t): the fascia, the surface under the fat, is
    where s² + t² is about 1; s grows to the image's right, t from the belly to the back. Radii of
    tubes are in the same unit.

    Attributes
    ----------
    look : ndarray of uint8, shape (size, size)
        Number of the look in `LOOKS`.
    region : ndarray of uint16, shape (size, size)
        Number of the structure, 0 where there is none.
    region_kind : list of int
        Kind of every structure number.
    inside, cavity : mask
        What lies under the fat, and what lies inside the body wall.
    """

    def __init__(self, rng: Callable[[str], np.random.Generator], z: float, size: int) -> None:
        self.rng, self.z, self.size = rng, z, size
        self.look = np.full((size, size), LOOK_NUMBER["air"], np.uint8)
        self.region = np.zeros((size, size), np.uint16)
        self.region_kind = [0]
        self.inside = self.cavity = np.ones((size, size), bool)
        frame = self.rng("frame")
        width, flatness = frame.uniform(0.83, 0.99), frame.uniform(0.7, 0.85)
        self.fat, self.wall = frame.uniform(0.03, 0.12), frame.uniform(0.035, 0.055)
        self.thick = self.wall
        self.centre = frame.uniform(-0.05, 0.05), frame.uniform(-0.08, 0.06)
        self.turn = frame.normal(0, 0.025)
        hips = ramp(z, 0.5, 0.8)
        self.body = width * (1 + 0.05 * hips), width * flatness * (1 - 0.1 * hips)
        self.fascia = self.body[0] - self.fat * (1 + 0.3 * hips), self.body[1] - self.fat
        self.unit = (self.fascia[0] * self.fascia[1]) ** 0.5

    def place(self, points: np.ndarray) -> np.ndarray:
        """Turn points (n, 2) of the patient's frame into image coordinates."""
        return _turned(np.asarray(points, float) * self.fascia, self.turn) + self.centre

    def outline(
        self, name: str, radii: Pair, rough: float, power: float, points: int = 80
    ) -> np.ndarray:
        """Return a wobbly superellipse around the origin, (points, 2); it changes slowly with z."""
        rng = self.rng(f"outline {name}")
        angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
        order = np.arange(2, 8)
        size = rng.normal(0, rough / order, (2, len(order)))
        speed, phase = rng.normal(0, 5, (2, len(order))), rng.uniform(0, 2 * np.pi, (2, len(order)))
        now = size * np.cos(speed * self.z + phase)
        waves = order[:, None] * angle
        wobble = 1 + now[0] @ np.cos(waves) + now[1] @ np.sin(waves)
        cos, sin = np.cos(angle), np.sin(angle)
        r = (np.abs(cos) ** power + np.abs(sin) ** power) ** (-1 / power) * wobble
        return np.stack([r * cos * radii[0], r * sin * radii[1]], axis=1)

    def filled(self, points: np.ndarray) -> np.ndarray:
        """Return the inside of a closed outline, (n, 2)."""
        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [self._pixels(self.place(points))], 1, shift=_SHIFT)
        return mask.view(bool)

    def blob(
        self,
        name: str,
        at: Pair,
        radii: Pair,
        turn: float = 0.0,
        rough: float = 0.18,
        power: float = 2.1,
    ) -> np.ndarray:
        """Return an organ-like blob around `at`."""
        return self.filled(_turned(self.outline(name, radii, rough, power), turn) + at)

    def tube(self, corners: Sequence[Pair] | np.ndarray, radius: float | np.ndarray) -> np.ndarray:
        """Return a tube along the smooth curve through `corners`, of one radius or one a corner.

        The curve is made by Chaikin's corner cutting; its ends are kept.
        """
        path = np.asarray(corners, float)
        for _ in range(4 if len(corners) < 5 else 3):
            near, far = path[:-1] * 0.75 + path[1:] * 0.25, path[:-1] * 0.25 + path[1:] * 0.75
            cut = np.stack([near, far], axis=1).reshape(-1, 2)
            path = np.concatenate([path[:1], cut, path[-1:]])
        ends, along = np.linspace(0, 1, len(corners)), np.linspace(0, 1, len(path))
        radii = np.interp(along, ends, np.broadcast_to(radius, len(corners)))
        return self.discs(self.place(path), radii * self.unit)

    def spot(self, at: Pair, radius: float) -> np.ndarray:
        """Return a disc."""
        return self.discs(self.place(np.array([at])), np.array([radius * self.unit]))

    def discs(self, places: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Return discs, all in image coordinates: centres (n, 2) and radii (n,)."""
        mask = np.zeros((self.size, self.size), np.uint8)
        radii = (radii * self.size / 2 * (1 << _SHIFT)).round().astype(int)
        for centre, radius in zip(self._pixels(places).tolist(), radii.tolist(), strict=True):
            cv2.circle(mask, centre, radius, 1, cv2.FILLED, shift=_SHIFT)
        return mask.view(bool)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        pixels = (points + 1) / 2 * self.size - 0.5
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)

    def paint(self, mask: np.ndarray, look: str, kind: str, region: int | None = None) -> int:
        """Paint a structure over what is there; return its number.

        `region` continues the structure of that number instead of beginning one.
        """
        if region is None:
            region = len(self.region_kind)
            self.region_kind.append(KIND_NUMBER[kind])
        self.detail(mask, look)
        self.region[mask] = region
        return region

    def organ(
        self, mask: np.ndarray, look: str, kind: str, name: str = "", area: np.ndarray | None = None
    ) -> int:
        """Paint a structure within `area` (the cavity), parted from its neighbours or not.

        In some patients a thin layer of fat (of muscle, around the liver) lies between, in others
        the structure touches what is beside it.
        """
        area = self.cavity if area is None else area
        layer, between = ("muscle", "diaphragm") if kind == "liver" else ("visceral fat",) * 2
        width = self.rng(f"gap {kind} {name}").uniform(*GAP)
        if width > 0:
            reach = max(1, round(width * self.size / 2))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            grown = cv2.dilate(mask.view(np.uint8), disc).view(bool)
            self.paint(grown & area, layer, between)
        return self.paint(mask & area, look, kind)

    def detail(self, mask: np.ndarray, look: str) -> None:
        """Change how a place looks, and leave to whom it belongs."""
        self.look[mask] = LOOK_NUMBER[look]

    def part_of(self, mask: np.ndarray, region: int) -> np.ndarray:
        """Return the part of `mask` that now belongs to the structure `region`."""
        return mask & (self.region == region)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    x, y = points.T
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)
