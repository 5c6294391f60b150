"""What holds the body together: table, skin, fat and wall, bones, and the muscles beside them."""

from __future__ import annotations

import numpy as np

from compkit.phantom.scene import SIDES, Pair, Scene, ramp, swell


def shell(scene: Scene) -> None:
    """Paint table, skin, fat, body wall and the fat of the cavity; sets the scene's areas."""
    _table(scene)
    rng = scene.rng("shell")
    power, hips = rng.uniform(2.15, 2.6), ramp(scene.z, 0.55, 0.85)
    shape = scene.outline("shell", (1, 1), 0.04, power, 160)
    cleft = 1 - 0.07 * np.exp(-((shape[:, 0] / 0.12) ** 2)) * (shape[:, 1] > 0)
    shape[:, 1] *= cleft

    def layer(around: Pair, depth: float, look: str, kind: str) -> np.ndarray:
        radii = around[0] - depth, around[1] - depth
        mask = scene.filled(shape * radii / np.array(scene.fascia))
        scene.paint(mask, look, kind)
        return mask

    body, fascia, wall = scene.body, scene.fascia, scene.wall
    layer(body, 0, "skin", "skin")
    layer(body, 0.012, "fat", "subcutaneous fat")
    scene.inside = layer(fascia, 0, "muscle", "body wall")
    if scene.z < 0.62:
        layer(fascia, 0.42 * wall, "fat", "body wall")
        layer(fascia, 0.52 * wall, "muscle", "body wall")
    scene.thick = wall * (1 + 1.1 * (1 - ramp(scene.z, 0.1, 0.3)) - 0.7 * hips)
    scene.cavity = layer(fascia, scene.thick, "visceral fat", "visceral fat")


def _table(scene: Scene) -> None:
    u = np.linspace(-0.95, 0.95, 200)
    bottom = scene.centre[1] + scene.body[1] + 0.015
    for drop, radius in ((0.0, 0.004), (0.07, 0.003)):
        places = np.stack([u, bottom + drop - 0.16 * u**2], axis=1)
        scene.paint(scene.discs(places, np.full(len(u), radius)), "table", "table")


def back(scene: Scene) -> None:
    """Paint the muscles beside the spine."""
    rng, z = scene.rng("back"), scene.z
    width, height = rng.uniform(0.19, 0.24), rng.uniform(0.19, 0.25)
    streaky = "fatty muscle" if rng.random() < 0.5 else "muscle"
    low = ramp(z, 0.55, 0.78)
    for side in SIDES:
        if 0.25 < z < 0.62:
            mask = scene.blob(f"quadratus {side}", (side * 0.47, 0.6), (0.12, 0.13), side * 0.4)
            scene.paint(mask & scene.inside, "muscle", "quadratus")
        if z > 0.3:
            radius, down = 0.05 + 0.1 * ramp(z, 0.28, 0.55), ramp(z, 0.55, 0.95)
            at = side * (0.25 + 0.25 * down), 0.42 - 0.55 * down
            mask = scene.blob(f"psoas {side}", at, (radius, radius * 1.15), side * 0.3, 0.12)
            scene.paint(mask & scene.inside, "muscle", "psoas")
        if low < 0.9:
            at = side * (0.24 - 0.05 * low), 0.72 + 0.04 * low
            radii = width * (1 - 0.6 * low), height * (1 - 0.6 * low)
            mask = scene.blob(f"back {side}", at, radii, side * -0.25, 0.1)
            scene.organ(mask, streaky, "back muscle", area=scene.inside)


def spine(scene: Scene) -> None:
    """Paint a vertebra with its arch and processes, or the disc between two."""
    rng, z = scene.rng("spine"), scene.z
    if z > 0.66:
        return
    phase = (z / 0.055 + rng.random()) % 1
    r = rng.uniform(0.15, 0.18)
    at = 0.0, 0.37 + 0.04 * np.sin(6 * z)
    back = at[1] + r
    body = scene.blob("vertebra", at, (r, r), 0, 0.08, 2.4)
    if phase < 0.22:
        scene.paint(body, "disc", "disc")
        scene.paint(scene.tube([(0, 0.63), (0, 0.72)], 0.025), "bone", "vertebra")
        scene.paint(scene.spot((0, back + 0.1), 0.07), "cord", "spinal canal")
        return
    region = scene.organ(body, "bone", "vertebra", area=scene.inside)
    arch = np.array([(-0.6 * r, back - 0.04), (-0.8 * r, back + 0.1), (0.0, back + 0.24)])
    wings = np.array([(-0.3, back + 0.12), (0.0, back + 0.17), (0.3, back + 0.12)])
    process = np.array([(0.0, back + 0.2), (0.0, min(back + 0.42, 0.93))])
    parts = [(arch, 0.045), (arch * (-1, 1), 0.045), (process, 0.03)]
    if phase < 0.7:
        parts.append((wings, 0.028))
    for corners, radius in parts:
        scene.paint(scene.tube(corners, radius), "bone", "vertebra", region)
        scene.detail(scene.tube(corners, radius * 0.45), "marrow")
    scene.detail(scene.blob("vertebra", at, (r * 0.86, r * 0.86), 0, 0.08, 2.4), "marrow")
    scene.paint(scene.spot((0, back + 0.085), 0.068), "cord", "spinal canal")


def ribs(scene: Scene) -> None:
    """Paint ribs and breastbone, cut obliquely, in the body wall."""
    rng, z = scene.rng("ribs"), scene.z
    count, start, lean = 8, rng.random(), rng.uniform(10, 14)
    radius = 1 - 0.75 * scene.thick / scene.unit
    last = 1.05 - 1.6 * ramp(z, 0.12, 0.5)
    for side in SIDES:
        for k in range(count):
            step = (k + start + lean * z + 0.4 * np.sin(5 * k * start)) % count / count
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


def buttocks(scene: Scene) -> None:
    """Paint the muscles around the hip bones."""
    z = scene.z
    if z < 0.55:
        return
    grown, low = ramp(z, 0.55, 0.7), ramp(z, 0.8, 0.97)
    layers = (
        ("gluteus maximus", 0.19, 0.17, slice(0, 4), "fatty muscle", 0.6, 0.06 + 0.12 * low),
        ("gluteus medius", 0.13, 0.13, slice(2, 6), "muscle", 0.55, 0),
        ("gluteus minimus", 0.06, 0.06, slice(3, 6), "muscle", 0.62, 0),
    )
    thigh = (
        ("thigh muscle", (0.78, -0.35), (0.13, 0.11)),
        ("thigh muscle", (0.6, -0.45), (0.12, 0.14)),
        ("obturator", (0.42, -0.3), (0.11, 0.14)),
    )
    for side in SIDES:
        wing = _wing(side, z)
        for kind, away, radius, part, look, start, sunk in layers:
            if z >= start:
                shift = np.array([side * (0.02 + away + 0.05 * low), 0.75 * away + sunk])
                mask = scene.tube(wing[part] + shift, radius * (0.35 + 0.65 * grown))
                scene.organ(mask, look, kind, area=scene.inside)
        inner = scene.tube(wing[1:5] - (side * 0.07, 0.05), 0.05 * grown + 0.02)
        scene.paint(inner & scene.inside, "muscle", "obturator")
        for number, (kind, (s, t), radii) in enumerate(thigh if z > 0.86 else ()):
            mask = scene.blob(f"thigh {side} {number}", (side * s, t), radii, 0.3 * side)
            scene.paint(mask & scene.inside, "muscle", kind)


def _wing(side: int, z: float) -> np.ndarray:
    """Return the line of the hip bone, from the sacrum outwards, shape (6, 2)."""
    low = ramp(z, 0.62, 0.88)
    start = np.array([0.2 + 0.18 * low, 0.62 - 0.04 * low])
    stop = np.array([0.82 - 0.22 * low, -0.02])
    share = np.linspace(0, 1, 6)[:, None]
    bulge = 0.13 * (1 - low) * np.sin(np.pi * share) + 0.03 * np.sin(7 * share + 25 * z)
    return ((1 - share) * start + share * stop + bulge * (1, 0.9)) * (side, 1)


def pelvis(scene: Scene) -> None:
    """Paint hip bones, sacrum, femurs and pubis."""
    z = scene.z
    for side in SIDES:
        if 0.54 < z < 0.86:
            wing = _wing(side, z)[3 if z < 0.6 else 1 if z > 0.74 else 0 :]
            thick = 0.042 + 0.03 * ramp(z, 0.75, 0.85)
            radii = thick * (1 + 0.3 * np.sin(np.arange(len(wing)) * 2 + 30 * z))
            _bone(scene, wing, radii, "hip bone")
        elif z >= 0.86:
            _hip_joint(scene, side)
    full = swell(z, 0.71, 0.1)
    if full > 0.1:
        _sacrum(scene, full)
    if z > 0.92:
        for side in SIDES:
            _bone(scene, np.array([(side * 0.07, -0.5), (side * 0.3, -0.4)]), 0.06, "pubis")


def _bone(scene: Scene, path: np.ndarray, radius: float | np.ndarray, kind: str) -> None:
    region = scene.organ(scene.tube(path, radius), "bone", kind, area=scene.inside)
    scene.detail(scene.part_of(scene.tube(path, radius - 0.022), region), "marrow")


def _hip_joint(scene: Scene, side: int) -> None:
    z = scene.z
    head = side * (0.62 + 0.3 * (z - 0.86)), 0.02
    angles = np.linspace(-2.4, 1.3, 7)
    cup = np.stack([head[0] - side * 0.19 * np.cos(angles), head[1] + 0.25 * np.sin(angles)], 1)
    _bone(scene, cup[2:] if z > 0.93 else cup, 0.055, "hip bone")
    radius = 0.125 * swell(z, 0.915, 0.1)
    if radius > 0.02:
        region = scene.organ(scene.spot(head, radius), "bone", "femur", area=scene.inside)
        scene.detail(scene.spot(head, radius - 0.018), "marrow")
        if z > 0.92:
            neck = [head, (head[0] + side * 0.12, 0.12), (head[0] + side * 0.2, 0.18)]
            scene.paint(scene.tube(neck, 0.075), "bone", "femur", region)
            scene.detail(scene.tube(neck, 0.055), "marrow")


def _sacrum(scene: Scene, full: float) -> None:
    t, a, b = 0.58 + 0.8 * (scene.z - 0.66), 0.26 * full, 0.15 * full
    region = scene.paint(scene.blob("sacrum", (0, t), (a, b), 0, 0.2, 2), "bone", "sacrum")
    inner = scene.blob("sacrum", (0, t), (a - 0.03, b - 0.04), 0, 0.2, 2)
    scene.detail(scene.part_of(inner, region), "marrow")
    holes = [((side * 0.1 * full, t + 0.02), 0.024) for side in SIDES]
    for at, radius in (*holes, ((0.0, t + 0.06), 0.035)):
        hole = scene.spot(at, radius)
        scene.paint(scene.part_of(hole, region), "cord", "spinal canal")
