"""The organs of chest, abdomen and pelvis, and what lies in the fat between them."""

from __future__ import annotations

import numpy as np

from compkit.phantom.scene import SIDES, Pair, Scene, ramp, swell

#: Fewest and most loops along the whole bowel of a patient.
LOOPS = 16, 46


def lungs(scene: Scene) -> None:
    """Paint lungs with their vessels, heart and oesophagus."""
    rng, z = scene.rng("lungs"), scene.z
    full = swell(z, 0.0, rng.uniform(0.17, 0.23))
    for side in SIDES if full >= 0.15 else ():
        at, radii = (side * 0.53, 0.1), (0.44 * full**0.3, 0.88 * full**0.3)
        mask = scene.blob(f"lung {side}", at, radii, 0, 0.1, 2.6)
        region = scene.paint(mask & scene.cavity, "lung", "lung")
        for s, t, r, drift in rng.normal(0, 1, (16, 4)):
            where = side * (0.5 + 0.17 * s) + 0.6 * drift * z, 0.1 + 0.3 * t
            vessel = scene.spot(where, 0.008 + 0.009 * abs(r))
            scene.detail(scene.part_of(vessel, region), "lung vessel")
    _heart(scene)
    if z < 0.2:
        scene.organ(scene.spot((0.1, 0.08), 0.045), "bowel wall", "oesophagus")


def _heart(scene: Scene) -> None:
    rng = scene.rng("heart")
    full = swell(scene.z, rng.uniform(-0.02, 0.03), 0.15)
    if full == 0:
        return
    at = rng.uniform(0.1, 0.18), -0.4
    sac = scene.blob("heart", at, (0.42 * full, 0.42 * full), 0.5, 0.1)
    scene.paint(sac & scene.cavity, "visceral fat", "visceral fat")
    wall = scene.blob("heart", at, (0.38 * full, 0.37 * full), 0.5, 0.1)
    region = scene.paint(wall & scene.cavity, "muscle", "myocardium")
    for number, (s, t, a, b) in enumerate(((0.12, 0.06, 0.16, 0.2), (-0.17, -0.1, 0.13, 0.2))):
        where = at[0] + s * full, at[1] + t * full
        chamber = scene.blob(f"chamber {number}", where, (a * full, b * full), 0.5, 0.2)
        scene.paint(scene.part_of(chamber, region), "blood", "ventricle")


def liver(scene: Scene) -> None:
    """Paint the liver's two lobes with vessels, tumours and cysts."""
    rng, z = scene.rng("liver"), scene.z
    size = rng.uniform(0.72, 1.02)
    full = swell(z, rng.uniform(0.2, 0.27), rng.uniform(0.2, 0.25)) * size
    if full == 0:
        return
    at = -0.47, -0.1
    left = scene.blob("left lobe", (-0.02, -0.5), (0.42 * full, 0.3 * full), 0.2, 0.2)
    right = scene.blob("liver", at, (0.44 * full**0.6, 0.73 * full**0.8), 0.1, 0.16, 2.5)
    region = scene.organ(left | right, "liver", "liver")
    for k, angle in enumerate(rng.uniform(-2.6, 2.6, 6)):
        bend, end = rng.normal(0, 0.1, 2), np.array([np.cos(angle) * 0.3, np.sin(angle) * 0.5])
        path = np.array([at, at + end * 0.5 + bend, at + end]) + 0.4 * (z - 0.23) * (k % 3 - 1)
        vessel = scene.tube(path, np.array([0.025, 0.018, 0.006]))
        scene.detail(scene.part_of(vessel, region), "vein")
    corners = [(-0.2, -0.75), (-0.16, -0.5), (-0.2, -0.3)]
    fissure = scene.tube(corners, np.array([0.004, 0.012, 0.025]))
    scene.paint(scene.part_of(fissure, region), "visceral fat", "visceral fat")
    scene.paint(scene.blob("portal", (-0.2, -0.12), (0.09, 0.05), 0.5), "vein", "portal vein")
    _lumps(scene, "liver", region, at, (0.34, 0.5), (0.05, 0.5), 6)


def _lumps(
    scene: Scene, name: str, region: int, at: Pair, reach: Pair, heights: Pair, most: int
) -> None:
    """Paint up to `most` tumours and cysts inside the organ `region`."""
    rng = scene.rng(f"lumps {name}")
    for number in range(rng.integers(0, most + 1)):
        s, t = at + rng.uniform(-1, 1, 2) * reach
        radius, height = rng.uniform(0.035, 0.11), rng.uniform(*heights)
        kind = "lesion" if rng.random() < 0.7 else "cyst"
        full = swell(scene.z, height, 0.12)
        if full > 0.3:
            lump = scene.blob(f"{name} lump {number}", (s, t), (radius * full, radius * full))
            scene.paint(scene.part_of(lump, region), kind, kind)


def spleen(scene: Scene) -> None:
    """Paint the spleen: a crescent at the left back."""
    rng = scene.rng("spleen")
    full = swell(scene.z, rng.uniform(0.2, 0.28), rng.uniform(0.11, 0.16))
    if full > 0:
        mask = scene.blob("spleen", (0.72, 0.26), (0.2 * full, 0.42 * full**0.7), 0.45, 0.18)
        scene.organ(mask, "spleen", "spleen")


def kidneys(scene: Scene) -> None:
    """Paint kidneys with cortex, medulla, the fat of the sinus and lumps; and the adrenals."""
    rng, z = scene.rng("kidneys"), scene.z
    for side in SIDES:
        height = rng.uniform(0.37, 0.42) - (0.02 if side > 0 else 0)
        full = swell(z, height, rng.uniform(0.12, 0.15))
        at = side * rng.uniform(0.5, 0.56), rng.uniform(0.36, 0.46)
        if abs(z - (height - 0.12)) < 0.05:
            knot, adrenal = (side * 0.32, 0.22), None
            for s, t in ((0.1, 0.16), (0.02, 0.2), (-0.03, -0.06)):
                limb = scene.tube([knot, (knot[0] + side * s, knot[1] + t)], 0.022)
                adrenal = scene.paint(limb, "gland", "adrenal gland", adrenal)
        if full == 0:
            continue
        radius, turn = 0.2 * full**0.8, side * -0.4
        fat = scene.blob(f"kidney {side}", at, (radius * 1.25, radius * 1.6), turn, 0.12)
        scene.paint(fat & scene.cavity, "visceral fat", "visceral fat")
        mask = scene.blob(f"kidney {side}", at, (radius, radius * 1.3), turn, 0.12)
        region = scene.paint(mask, "cortex", "kidney")
        inner = scene.blob(f"medulla {side}", at, (radius * 0.68, radius * 0.95), turn, 0.3)
        scene.detail(inner, "medulla")
        if abs(z - height) < 0.07:
            path = [at, (at[0] - side * radius * 1.3, at[1] - 0.1 * radius)]
            sinus = scene.tube(path, np.array([0.42, 0.3]) * radius)
            scene.paint(scene.part_of(sinus, region), "visceral fat", "renal sinus")
        _lumps(scene, f"kidney {side}", region, at, (0.15, 0.2), (0.3, 0.5), 3)


def stomach(scene: Scene) -> None:
    """Paint the stomach, and beside it pancreas, duodenum and gallbladder."""
    rng, z = scene.rng("stomach"), scene.z
    full = swell(z, rng.uniform(0.2, 0.27), rng.uniform(0.12, 0.17))
    if full > 0:
        a, b = rng.uniform(0.26, 0.4) * full, rng.uniform(0.22, 0.36) * full
        at = rng.uniform(0.38, 0.48), rng.uniform(-0.5, -0.4)
        organ = scene.blob("stomach", at, (a, b), -0.4, 0.3)
        lumen = scene.blob("stomach", at, (a - 0.045, b - 0.055), -0.4, 0.3)
        _hollow(scene, organ, lumen, "stomach", rng)
    if full := swell(z, 0.34, 0.065):
        lift = 2 * (z - 0.34)
        path = [(-0.26, 0.02), (-0.08, -0.06), (0.14, -0.12 + lift), (0.34, -0.02), (0.52, 0.1)]
        thick = np.array([0.08, 0.05, 0.065, 0.05, 0.04]) * (0.5 + 0.6 * full)
        scene.organ(scene.tube(path, thick), "pancreas", "pancreas")
    if full := swell(z, 0.37, 0.08):
        at, radius = (-0.33, 0.06), 0.1 * full + 0.02
        organ = scene.blob("duodenum", at, (radius, radius * 1.2))
        lumen = scene.blob("duodenum", at, (radius * 0.6, radius * 0.75))
        _hollow(scene, organ, lumen, "duodenum", rng)
    full = swell(z, rng.uniform(0.33, 0.38), 0.06)
    if full > 0.2:
        mask = scene.blob("gallbladder", (-0.33, -0.3), (0.11 * full, 0.15 * full), 0.5, 0.15)
        scene.organ(mask, "gallbladder", "gallbladder")


def _hollow(
    scene: Scene,
    organ: np.ndarray,
    lumen: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    name: str = "",
) -> None:
    """Paint a hollow organ: wall, content, and the gas that floats on it.

    Draws three numbers from `rng`, whatever the height of the slice.
    """
    content, level, gassy = rng.random(3)
    lumen = scene.part_of(lumen, scene.organ(organ, "bowel wall", kind, name))
    drink = scene.rng("drink").random() < 0.15
    look = "stool" if kind in ("colon", "rectum") and content < 0.7 else "chyme"
    scene.detail(lumen, "contrast drink" if drink and look == "chyme" else look)
    rows = np.flatnonzero(lumen.any(axis=1))
    if gassy < 0.55 and len(rows):
        share = 0.15 + 0.75 * level if kind != "small bowel" else 0.5 * level
        above = np.arange(scene.size) < rows[0] + share * len(rows)
        scene.detail(lumen & above[:, None], "gas")


def great_vessels(scene: Scene) -> None:
    """Paint aorta and vena cava, or the iliac vessels into which they part."""
    rng, z = scene.rng("vessels"), scene.z
    wide, calcified = rng.uniform(0.06, 0.085), rng.random() < 0.4
    if z < 0.56:
        at = 0.08, 0.13 + 0.03 * np.sin(9 * z)
        scene.organ(scene.spot(at, wide), "artery", "aorta")
        if calcified:
            rim = [(at[0] + wide * np.cos(a), at[1] + wide * np.sin(a)) for a in (0.4, 0.7, 1.0)]
            scene.detail(scene.tube(rim, 0.012), "bone")
        if z > 0.1:
            at = -0.13, 0.12 + 0.03 * np.cos(7 * z)
            mask = scene.blob("cava", at, (wide * 1.15, wide * 0.95), 0.3)
            scene.organ(mask, "vein", "vena cava")
        return
    away = ((z - 0.56) / 0.44) ** 0.7
    for side in SIDES:
        at = side * (0.09 + 0.36 * away), 0.14 - 0.5 * away
        scene.paint(scene.spot((at[0] - side * 0.05, at[1] + 0.09), 0.055), "vein", "iliac vein")
        scene.organ(scene.spot(at, 0.048), "artery", "iliac artery")


def small_bowel(scene: Scene) -> None:
    """Paint the loops of the small bowel, the upper left ones (jejunum) with a feathery look."""
    rng, z = scene.rng("small bowel"), scene.z
    for number in range(rng.integers(*LOOPS)):
        loop = np.random.default_rng(rng.integers(2**63))
        height, half = loop.uniform(0.36, 0.84), loop.uniform(0.05, 0.1)
        full = swell(z, height, half)
        if full == 0:
            continue
        bearing, distance = loop.uniform(0, 2 * np.pi), loop.random() ** 0.6
        low = ramp(height, 0.6, 0.85)
        start = np.array([0.55 * (1 - 0.45 * low) * np.cos(bearing), 0.42 * np.sin(bearing)])
        start = start * distance + (0.02, -0.3 + 0.12 * low)
        radius = loop.uniform(0.07, 0.115) * (0.55 + 0.45 * full)
        path = _winding(loop, start, steps=int(loop.integers(2, 7)), step=0.1, z=z)
        radii = radius * (1 + 0.15 * np.sin(loop.uniform(0, 6.3) + np.arange(len(path)) * 1.7))
        organ = scene.tube(path, radii)
        if height < 0.5 and start[0] > 0.1:
            region = scene.organ(organ, "bowel wall", "jejunum", str(number))
            scene.detail(scene.part_of(scene.tube(path, radii * 0.75), region), "feathers")
        else:
            own = scene.rng(f"small bowel {number}")
            _hollow(scene, organ, scene.tube(path, radii - 0.026), "small bowel", own, str(number))


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
        "ascending": (0.42, 0.72, np.array([(-0.68, 0.12), (-0.68, 0.2)]), 1.25),
        "descending": (0.27, 0.72, np.array([(0.76, 0.22), (0.75, 0.27)]), 0.75),
    }
    drop = rng.uniform(0.36, 0.44)
    if abs(z - drop) < 0.075:
        bend, s = rng.uniform(-0.1, 0.1, 10), np.linspace(-0.65, 0.6, 10)
        path = np.stack([s, -0.62 + bend + 0.1 * s**2], axis=1)
        if z > drop:
            path = path[np.abs(s) > 6 * (z - drop) - 0.2]
        pieces["transverse"] = (0.0, 1.0, path, 0.95)
    if 0.66 < z < 0.86:
        pieces["sigmoid"] = (0.0, 1.0, _winding(rng, np.array([0.2, 0.1]), 6, 0.15, z), 0.7)
    for name, (start, stop, path, scale) in pieces.items():
        if not start < z < stop:
            continue
        taper = min(1.0, 0.5 + (z - start) / 0.03, 0.5 + (stop - z) / 0.03)
        own = scene.rng(f"colon {name}")
        folds = 1 + 0.18 * np.sin(own.uniform(0, 6.3) + np.arange(len(path)) * 2.4)
        radii = wide * scale * taper * folds
        _hollow(scene, scene.tube(path, radii), scene.tube(path, radii - 0.024), "colon", own, name)


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
            scene.paint(mask & scene.cavity, "node", "lymph node")
        else:
            away = (at - (0, 0.1)) * 0.35 * (length - 0.2)
            aside = away[::-1] * (0.6, -0.6) * np.sin(20 * s)
            radii = np.array([0.015, 0.012, 0.006]) * (0.4 + 0.6 * full) * (0.6 + r)
            mask = scene.tube(np.array([at, at + away * 0.6 + aside, at + away]), radii)
            scene.paint(mask & scene.cavity, "vein", "mesenteric vessel")


def pelvic_organs(scene: Scene) -> None:
    """Paint bladder, rectum, and prostate or uterus."""
    rng, z = scene.rng("pelvic organs"), scene.z
    full = swell(z, rng.uniform(0.83, 0.88), rng.uniform(0.1, 0.14))
    radius = rng.uniform(0.18, 0.42) * full
    excreted = scene.rng("drink").random() > 0.85
    if full > 0:
        mask = scene.blob("bladder", (0, -0.22), (radius, radius), 0, 0.14, 2.4)
        scene.organ(mask, "bowel wall", "bladder")
        inner = scene.blob("bladder", (0, -0.22), (radius - 0.02, radius - 0.025), 0, 0.14, 2.4)
        scene.detail(inner & scene.cavity, "contrast drink" if excreted else "urine")
    if full := swell(z, 0.92, 0.09):
        mask = scene.blob("gland", (0, 0.16), (0.2 * full, 0.14 * full), 0, 0.2)
        scene.organ(mask, "gland", "prostate or uterus")
    if z > 0.76:
        a = rng.uniform(0.1, 0.15)
        organ = scene.blob("rectum", (0, 0.44), (a, a * 1.1))
        lumen = scene.blob("rectum", (0, 0.44), (a - 0.04, a * 1.1 - 0.045))
        _hollow(scene, organ, lumen, "rectum", rng)
