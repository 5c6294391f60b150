"""One slice being drawn: the patient's frame, and the two maps that structures are painted into."""

from __future__ import annotations

import numpy as np

from compkit.phantom.canvas import Mask, curve, polygon, tube
from compkit.phantom.kinds import KINDS, LOOK_NUMBER
from compkit.phantom.patient import Patient

#: Thickness of the layer between an organ and its neighbours; none where it is negative.
GAP = -0.008, 0.02
KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS, start=1)}


def ramp(z: float, start: float, stop: float) -> float:
    """Return a smooth step from 0 at `start` to 1 at `stop`."""
    x = min(max((z - start) / (stop - start), 0.0), 1.0)
    return x * x * (3 - 2 * x)


def swell(z: float, centre: float, half: float) -> float:
    """Return the relative width at height `z` of an ellipsoid `2 * half` high; 0 outside."""
    return max(0.0, 1 - ((z - centre) / half) ** 2) ** 0.5


class Scene:
    """A slice at height `z` of a patient.

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
    inside, cavity : ndarray of bool, shape (size, size)
        What lies under the fat, and what lies inside the body wall.
    """

    def __init__(self, patient: Patient, z: float, size: int) -> None:
        self.patient, self.z, self.size = patient, z, size
        self.look = np.full((size, size), LOOK_NUMBER["air"], np.uint8)
        self.region = np.zeros((size, size), np.uint16)
        self.region_kind = [0]
        self.inside = self.cavity = np.ones((size, size), bool)
        rng = patient.rng("frame")
        width, flatness = rng.uniform(0.83, 0.99), rng.uniform(0.7, 0.85)
        self.fat, self.wall = rng.uniform(0.03, 0.12), rng.uniform(0.035, 0.055)
        self.thick = self.wall
        self.centre = rng.uniform(-0.05, 0.05), rng.uniform(-0.08, 0.06)
        self.turn = rng.normal(0, 0.025)
        hips = ramp(z, 0.5, 0.8)
        self.body = width * (1 + 0.05 * hips), width * flatness * (1 - 0.1 * hips)
        self.fascia = self.body[0] - self.fat * (1 + 0.3 * hips), self.body[1] - self.fat
        self.unit = (self.fascia[0] * self.fascia[1]) ** 0.5

    def rng(self, name: str) -> np.random.Generator:
        """Return the patient's generator for the part `name`."""
        return self.patient.rng(name)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Turn points (n, 2) of the patient's frame into image coordinates."""
        u, v = (np.asarray(points, float) * self.fascia).T
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.stack([u * cos - v * sin, u * sin + v * cos], axis=1) + self.centre

    def outline(
        self, name: str, radii: tuple[float, float], rough: float, power: float, points: int = 80
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

    def blob(
        self,
        name: str,
        at: tuple[float, float],
        radii: tuple[float, float],
        turn: float = 0.0,
        rough: float = 0.18,
        power: float = 2.1,
    ) -> Mask:
        """Return an organ-like blob around `at`, both in the patient's frame."""
        x, y = self.outline(name, radii, rough, power).T
        cos, sin = np.cos(turn), np.sin(turn)
        points = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + at
        return polygon(self.place(points), self.size)

    def tube(
        self, corners: list[tuple[float, float]] | np.ndarray, radius: float | np.ndarray
    ) -> Mask:
        """Return a tube along the smooth curve through `corners`.

        `radius` is one number, or one a corner.
        """
        ends = np.linspace(0, 1, len(corners))
        path = curve(np.asarray(corners, float), 4 if len(corners) < 5 else 3)
        along = np.linspace(0, 1, len(path))
        radii = np.interp(along, ends, np.broadcast_to(radius, len(corners))) * self.unit
        return tube(self.place(path), radii, self.size)

    def spot(self, at: tuple[float, float], radius: float) -> Mask:
        """Return a disc."""
        return tube(self.place(np.array([at])), radius * self.unit, self.size)

    def paint(self, mask: Mask, look: str, kind: str, region: int | None = None) -> int:
        """Paint a structure over what is there; return its number.

        `region` continues the structure of that number instead of beginning one.
        """
        if region is None:
            region = len(self.region_kind)
            self.region_kind.append(KIND_NUMBER[kind])
        self.detail(mask, look)
        self.region[mask.box][mask.inside] = region
        return region

    def organ(
        self, mask: Mask, look: str, kind: str, name: str = "", area: np.ndarray | None = None
    ) -> int:
        """Paint a structure within `area` (the cavity), parted from its neighbours or not.

        In some patients a thin layer of fat (of muscle, around the liver) lies between, in others
        the structure touches what is beside it.
        """
        area = self.cavity if area is None else area
        layer, between = ("muscle", "diaphragm") if kind == "liver" else ("visceral fat",) * 2
        width = self.rng(f"gap {kind} {name}").uniform(*GAP)
        if width > 0:
            self.paint(mask.grown(width, self.size).within(area), layer, between)
        return self.paint(mask.within(area), look, kind)

    def detail(self, mask: Mask, look: str) -> None:
        """Change how a place looks, and leave to whom it belongs."""
        self.look[mask.box][mask.inside] = LOOK_NUMBER[look]

    def part_of(self, mask: Mask, region: int) -> Mask:
        """Return the part of `mask` that now belongs to the structure `region`."""
        return Mask(mask.top, mask.left, mask.inside & (self.region[mask.box] == region))
