"""What holds the body together: table, skin, fat, wall, ribs, spine and the muscles beside it."""

from __future__ import annotations

import numpy as np

from compkit.phantom.canvas import polygon, tube
from compkit.phantom.scene import Scene, ramp

SIDES = (-1, 1)


def shell(scene: Scene) -> None:
    """Paint table, skin, fat, body wall and the fat of the cavity; sets the scene's areas."""
    _table(scene)
    rng = scene.rng("shell")
    power, hips = rng.uniform(2.15, 2.6), ramp(scene.z, 0.55, 0.85)
    shape = scene.outline("shell", (1, 1), 0.04, power, 160)
    cleft = 1 - 0.07 * np.exp(-((shape[:, 0] / 0.12) ** 2)) * (shape[:, 1] > 0)
    shape[:, 1] *= cleft

    def layer(radii: tuple[float, float], look: str, kind: str) -> np.ndarray:
        mask = polygon(scene.place(shape * radii / np.array(scene.fascia)), scene.size)
        scene.paint(mask, look, kind)
        return mask.full(scene.size)

    (a, b), (fa, fb), wall = scene.body, scene.fascia, scene.wall
    layer((a, b), "skin", "skin")
    layer((a - 0.012, b - 0.012), "fat", "subcutaneous fat")
    scene.inside = layer((fa, fb), "muscle", "body wall")
    if scene.z < 0.62:
        layer((fa - 0.42 * wall, fb - 0.42 * wall), "fat", "body wall")
        layer((fa - 0.52 * wall, fb - 0.52 * wall), "muscle", "body wall")
    scene.thick = wall * (1 + 1.1 * (1 - ramp(scene.z, 0.1, 0.3)) - 0.7 * hips)
    scene.cavity = layer((fa - scene.thick, fb - scene.thick), "visceral fat", "visceral fat")


def _table(scene: Scene) -> None:
    u = np.linspace(-0.95, 0.95, 200)
    bottom = scene.centre[1] + scene.body[1] + 0.015
    for drop, radius in ((0.0, 0.004), (0.07, 0.003)):
        v = bottom + drop - 0.16 * u**2
        scene.paint(tube(np.stack([u, v], axis=1), radius, scene.size), "table", "table")


def back(scene: Scene) -> None:
    """Paint the muscles beside the spine."""
    rng, z = scene.rng("back"), scene.z
    width, height = rng.uniform(0.19, 0.24), rng.uniform(0.19, 0.25)
    streaky = "fatty muscle" if rng.random() < 0.5 else "muscle"
    low = ramp(z, 0.55, 0.78)
    for side in SIDES:
        if 0.25 < z < 0.62:
            at = side * 0.47, 0.6
            mask = scene.blob(f"quadratus {side}", at, (0.12, 0.13), side * 0.4)
            scene.paint(mask.within(scene.inside), "muscle", "quadratus")
        if z > 0.3:
            _psoas(scene, side)
        if low < 0.9:
            at = side * (0.24 - 0.05 * low), 0.72 + 0.04 * low
            radii = width * (1 - 0.6 * low), height * (1 - 0.6 * low)
            mask = scene.blob(f"back {side}", at, radii, side * -0.25, 0.1)
            scene.organ(mask, streaky, "back muscle", area=scene.inside)


def _psoas(scene: Scene, side: int) -> None:
    grown, down = ramp(scene.z, 0.28, 0.55), ramp(scene.z, 0.55, 0.95)
    at = side * (0.25 + 0.25 * down), 0.42 - 0.55 * down
    radius = 0.05 + 0.1 * grown
    mask = scene.blob(f"psoas {side}", at, (radius, radius * 1.15), side * 0.3, 0.12)
    scene.paint(mask.within(scene.inside), "muscle", "psoas")


def spine(scene: Scene) -> None:
    """Paint a vertebra with its arch and processes, or the disc between two."""
    rng, z = scene.rng("spine"), scene.z
    if z > 0.66:
        return
    phase = (z / 0.055 + rng.random()) % 1
    r = rng.uniform(0.15, 0.18)
    at = 0.0, 0.37 + 0.04 * np.sin(6 * z)
    body = scene.blob("vertebra", at, (r, r), 0, 0.08, 2.4)
    if phase < 0.22:
        scene.paint(body, "disc", "disc")
        spinous = scene.tube([(0, 0.63), (0, 0.72)], 0.025)
        scene.paint(spinous, "bone", "vertebra")
        canal = scene.spot((0, at[1] + r + 0.1), 0.07)
        scene.paint(canal, "cord", "spinal canal")
        return
    region = scene.organ(body, "bone", "vertebra", area=scene.inside)
    back = at[1] + r
    arch = [(-0.6 * r, back - 0.04), (-0.8 * r, back + 0.1), (0.0, back + 0.24)]
    mirrored = [(-s, t) for s, t in arch]
    wings = [(-0.3, back + 0.12), (0.0, back + 0.17), (0.3, back + 0.12)]
    process = [(0.0, back + 0.2), (0.0, min(back + 0.42, 0.93))]
    parts: list[tuple[list[tuple[float, float]], float]] = [
        (arch, 0.045),
        (mirrored, 0.045),
        (process, 0.03),
    ]
    if phase < 0.7:
        parts.append((wings, 0.028))
    for corners, radius in parts:
        mask = scene.tube(corners, radius)
        scene.paint(mask, "bone", "vertebra", region)
        scene.detail(scene.tube(corners, radius * 0.45), "marrow")
    inner = scene.blob("vertebra", at, (r * 0.86, r * 0.86), 0, 0.08, 2.4)
    scene.detail(inner, "marrow")
    scene.paint(scene.spot((0, back + 0.085), 0.068), "cord", "spinal canal")


def ribs(scene: Scene) -> None:
    """Paint ribs and breastbone, cut obliquely, in the body wall."""
    rng, z = scene.rng("ribs"), scene.z
    count, start, lean = 8, rng.random(), rng.uniform(10, 14)
    radius = 1 - 0.75 * scene.thick / scene.unit
    for side in SIDES:
        for k in range(count):
            step = (k + start + lean * z + 0.4 * np.sin(5 * k * start)) % count / count
            last = 1.05 - 1.6 * ramp(z, 0.12, 0.5)
            if step > last:
                continue
            angle = np.pi / 2 - side * (0.35 + 2.3 * step)  # from the back to the front
            angles = angle + np.linspace(-1, 1, 5) * (0.06 + 0.04 * np.sin(9 * k + 30 * z))
            path = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
            scene.paint(scene.tube(path, 0.027), "bone", "rib")
            scene.detail(scene.tube(path, 0.013), "marrow")
    if z < 0.14:
        path = np.array([(-0.14, -0.99), (0, -1.0), (0.14, -0.99)]) * radius
        scene.paint(scene.tube(path, 0.045), "bone", "sternum")
        scene.detail(scene.tube(path, 0.028), "marrow")
