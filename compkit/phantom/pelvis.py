"""Bones, muscles and organs of the pelvis."""

from __future__ import annotations

import numpy as np

from compkit.phantom.organs import hollow
from compkit.phantom.scene import Scene, ramp, swell
from compkit.phantom.trunk import SIDES


def buttocks(scene: Scene) -> None:
    """Paint the muscles around the hip bones."""
    z = scene.z
    if z < 0.55:
        return
    grown, low = ramp(z, 0.55, 0.7), ramp(z, 0.8, 0.97)
    for side in SIDES:
        wing = _wing(side, z) + np.array([side * 0.02, 0.0])
        layers = (
            ("gluteus maximus", 0.19, 0.17, (0, 4), "fatty muscle", 0.6),
            ("gluteus medius", 0.13, 0.13, (2, 6), "muscle", 0.55),
            ("gluteus minimus", 0.06, 0.06, (3, 6), "muscle", 0.62),
        )
        for kind, away, radius, (first, last), look, start in layers:
            if z < start:
                continue
            shift = np.array([side * (away + 0.05 * low), 0.75 * away])
            if kind == "gluteus maximus":
                shift[1] += 0.06 + 0.12 * low
            path = wing[first:last] + shift
            mask = scene.tube(path, radius * (0.35 + 0.65 * grown))
            scene.organ(mask, look, kind, area=scene.inside)
        inner = scene.tube(wing[1:5] - (side * 0.09, 0.05), 0.05 * grown + 0.02)
        scene.paint(inner.within(scene.inside), "muscle", "obturator")
        if z > 0.86:
            _thigh(scene, side)


def _thigh(scene: Scene, side: int) -> None:
    for number, (s, t, a, b) in enumerate(
        ((0.78, -0.35, 0.13, 0.11), (0.6, -0.45, 0.12, 0.14), (0.42, -0.3, 0.11, 0.14))
    ):
        mask = scene.blob(f"thigh {side} {number}", (side * s, t), (a, b), 0.3 * side)
        kind = "thigh muscle" if number < 2 else "obturator"
        scene.paint(mask.within(scene.inside), "muscle", kind)


def _wing(side: int, z: float) -> np.ndarray:
    """Return the line of the hip bone, from the sacrum outwards, shape (6, 2)."""
    low = ramp(z, 0.62, 0.88)
    start = np.array([0.2 + 0.18 * low, 0.62 - 0.04 * low])
    stop = np.array([0.82 - 0.22 * low, -0.02])
    share = np.linspace(0, 1, 6)[:, None]
    bulge = (0.13 * (1 - low) * np.sin(np.pi * share) + 0.03 * np.sin(7 * share + 25 * z)) * (
        1,
        0.9,
    )
    return ((1 - share) * start + share * stop + bulge) * (side, 1)


def bones(scene: Scene) -> None:
    """Paint hip bones, sacrum, femurs and pubis."""
    z = scene.z
    for side in SIDES:
        if 0.54 < z < 0.86:
            wing = _wing(side, z)
            if z < 0.6:
                wing = wing[3:]
            elif z > 0.74:
                wing = wing[1:]
            thick = 0.042 + 0.03 * ramp(z, 0.75, 0.85)
            _bone(
                scene,
                wing,
                thick * (1 + 0.3 * np.sin(np.arange(len(wing)) * 2 + 30 * z)),
                "hip bone",
            )
        elif z >= 0.86:
            _hip_joint(scene, side)
    full = swell(z, 0.71, 0.1)
    if full > 0.1:
        _sacrum(scene, full)
    if z > 0.92:
        for side in SIDES:
            path = np.array([(0.07, -0.5), (0.3, -0.4)]) * (side, 1)
            _bone(scene, path, 0.06, "pubis")


def _bone(scene: Scene, path: np.ndarray, radius: float | np.ndarray, kind: str) -> int:
    region = scene.organ(scene.tube(path, radius), "bone", kind, area=scene.inside)
    inner = scene.part_of(scene.tube(path, radius - 0.022), region)
    scene.detail(inner, "marrow")
    return region


def _hip_joint(scene: Scene, side: int) -> None:
    z = scene.z
    head = side * (0.62 + 0.3 * (z - 0.86)), 0.02
    angles = np.linspace(-2.4, 1.3, 7)
    cup = np.stack([head[0] - side * 0.19 * np.cos(angles), head[1] + 0.25 * np.sin(angles)], 1)
    _bone(scene, cup[2:] if z > 0.93 else cup, 0.055, "hip bone")
    radius = 0.125 * swell(z, 0.915, 0.1)
    if radius > 0.02:
        ball = scene.spot(head, radius)
        region = scene.organ(ball, "bone", "femur", area=scene.inside)
        scene.detail(scene.spot(head, radius - 0.018), "marrow")
        if z > 0.92:
            neck = [head, (head[0] + side * 0.12, 0.12), (head[0] + side * 0.2, 0.18)]
            scene.paint(scene.tube(neck, 0.075), "bone", "femur", region)
            scene.detail(scene.tube(neck, 0.055), "marrow")


def _sacrum(scene: Scene, full: float) -> None:
    at = 0.0, 0.58 + 0.8 * (scene.z - 0.66)
    radii = 0.26 * full, 0.15 * full
    region = scene.paint(scene.blob("sacrum", at, radii, 0, 0.2, 2), "bone", "sacrum")
    inner = scene.blob("sacrum", at, (radii[0] - 0.03, radii[1] - 0.04), 0, 0.2, 2)
    scene.detail(scene.part_of(inner, region), "marrow")
    for side in SIDES:
        hole = scene.spot((at[0] + side * 0.1 * full, at[1] + 0.02), 0.024)
        scene.paint(scene.part_of(hole, region), "cord", "spinal canal")
    canal = scene.spot((0, at[1] + 0.06), 0.035)
    scene.paint(scene.part_of(canal, region), "cord", "spinal canal")


def organs(scene: Scene) -> None:
    """Paint bladder, rectum, and prostate or uterus."""
    rng, z = scene.rng("pelvic organs"), scene.z
    full = swell(z, rng.uniform(0.83, 0.88), rng.uniform(0.1, 0.14))
    size = rng.uniform(0.18, 0.42)
    excreted = scene.rng("drink").random() > 0.85
    if full > 0:
        mask = scene.blob("bladder", (0, -0.22), (size * full, size * full), 0, 0.14, 2.4)
        scene.organ(mask, "bowel wall", "bladder")
        inner = scene.blob(
            "bladder", (0, -0.22), (size * full - 0.02, size * full - 0.025), 0, 0.14, 2.4
        )
        scene.detail(inner.within(scene.cavity), "contrast drink" if excreted else "urine")
    if swell(z, 0.92, 0.09):
        full = swell(z, 0.92, 0.09)
        mask = scene.blob("gland", (0, 0.16), (0.2 * full, 0.14 * full), 0, 0.2)
        scene.organ(mask, "gland", "prostate or uterus")
    if z > 0.76:
        radius = rng.uniform(0.1, 0.15)
        radii = radius, radius * 1.1
        organ = scene.blob("rectum", (0, 0.44), radii)
        lumen = scene.blob("rectum", (0, 0.44), (radii[0] - 0.04, radii[1] - 0.045))
        hollow(scene, organ, lumen, "rectum", rng)
