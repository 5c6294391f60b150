"""Bowel: winding, inhomogeneous loops that touch; and what lies in the fat between them."""

from __future__ import annotations

import numpy as np

from compkit.phantom.organs import hollow
from compkit.phantom.scene import Scene, ramp, swell

#: Fewest and most loops along the whole bowel of a patient.
LOOPS = 16, 46


def small_bowel(scene: Scene) -> None:
    """Paint the loops of the small bowel, the upper left ones (jejunum) with a feathery look."""
    rng, z = scene.rng("small bowel"), scene.z
    for number in range(rng.integers(*LOOPS)):
        loop = np.random.default_rng(rng.integers(2**63))
        height, half = loop.uniform(0.36, 0.84), loop.uniform(0.05, 0.1)
        full = swell(z, height, half)
        bearing, distance = loop.uniform(0, 2 * np.pi), loop.random() ** 0.6
        narrow = 1 - 0.45 * ramp(height, 0.6, 0.85)
        start = np.array([0.55 * narrow * np.cos(bearing), 0.42 * np.sin(bearing)]) * distance
        start += (0.02, -0.3 + 0.12 * ramp(height, 0.6, 0.85))
        radius = loop.uniform(0.07, 0.115) * (0.55 + 0.45 * full)
        path = _winding(loop, start, steps=int(loop.integers(2, 7)), step=0.1, z=z)
        wobble = 1 + 0.15 * np.sin(loop.uniform(0, 6.3) + np.arange(len(path)) * 1.7)
        jejunum = height < 0.5 and start[0] > 0.1
        if full == 0:
            continue
        organ = scene.tube(path, radius * wobble)
        if jejunum:
            region = scene.organ(organ, "bowel wall", "jejunum", str(number))
            inner = scene.tube(path, radius * wobble * 0.75)
            scene.detail(scene.part_of(inner, region), "feathers")
        else:
            lumen = scene.tube(path, radius * wobble - 0.026).within(scene.cavity)
            own = scene.rng(f"small bowel {number}")
            hollow(scene, organ, lumen, "small bowel", own, str(number))


def _winding(
    rng: np.random.Generator, start: np.ndarray, steps: int, step: float, z: float
) -> np.ndarray:
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.9, steps))
    heading += 0.35 * np.sin(rng.uniform(0, 6.3, steps) + 14 * z)
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * step
    path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    return path - path.mean(axis=0) + start


def colon(scene: Scene) -> None:
    """Paint the colon: ascending, descending, transverse and sigmoid."""
    rng, z = scene.rng("colon"), scene.z
    wide = rng.uniform(0.1, 0.15)
    pieces = {
        "ascending": (0.42, 0.72, [(-0.68, 0.12), (-0.68, 0.2)], 1.25),
        "descending": (0.27, 0.72, [(0.76, 0.22), (0.75, 0.27)], 0.75),
    }
    drop = rng.uniform(0.36, 0.44)
    if abs(z - drop) < 0.075:
        sag = 6 * (z - drop)
        bend = rng.uniform(-0.1, 0.1, 10)
        s = np.linspace(-0.65, 0.6, 10)
        keep = np.abs(s) > sag - 0.2 if sag > 0 else np.ones(10, bool)
        path = np.stack([s, -0.62 + bend + 0.1 * s**2], axis=1)[keep]
        if len(path) > 1:
            pieces["transverse"] = (0.0, 1.0, path.tolist(), 0.95)
    if 0.66 < z < 0.86:
        path = _winding(rng, np.array([0.2, 0.1]), 6, 0.15, z)
        pieces["sigmoid"] = (0.0, 1.0, path.tolist(), 0.7)
    for name, (start, stop, path, scale) in pieces.items():
        if not start < z < stop:
            continue
        taper = min(1.0, 0.5 + (z - start) / 0.03, 0.5 + (stop - z) / 0.03)
        radius = wide * scale * taper
        own = scene.rng(f"colon {name}")
        folds = 1 + 0.18 * np.sin(own.uniform(0, 6.3) + np.arange(len(path)) * 2.4)
        organ = scene.tube(path, radius * folds)
        lumen = scene.tube(path, radius * folds - 0.024).within(scene.cavity)
        hollow(scene, organ, lumen, "colon", own, name)


def mesentery(scene: Scene) -> None:
    """Paint small vessels and lymph nodes in the fat; none is ever labelled."""
    rng, z = scene.rng("mesentery"), scene.z
    for s, t, r, height, length in rng.uniform(0, 1, (70, 5)):
        full = swell(z, 0.3 + 0.65 * height, 0.12)
        if full == 0:
            continue
        at = np.array([1.3 * s - 0.65, 1.1 * t - 0.8])
        if length < 0.2:
            mask = scene.blob(f"node {s:.4f}", tuple(at), (0.03 + 0.03 * r, 0.025 + 0.02 * r))
            scene.paint(mask.within(scene.cavity), "node", "lymph node")
        else:
            away = (at - (0, 0.1)) * 0.35 * (length - 0.2)
            aside = away[::-1] * (0.6, -0.6) * np.sin(20 * s)
            radii = np.array([0.015, 0.012, 0.006]) * (0.4 + 0.6 * full) * (0.6 + r)
            mask = scene.tube(np.array([at, at + away * 0.6 + aside, at + away]), radii)
            scene.paint(mask.within(scene.cavity), "vein", "mesenteric vessel")
