"""The organs of chest and upper abdomen."""

from __future__ import annotations

import numpy as np

from compkit.phantom.canvas import Mask
from compkit.phantom.scene import Scene, swell
from compkit.phantom.trunk import SIDES


def lungs(scene: Scene) -> None:
    """Paint lungs with their vessels, heart and oesophagus."""
    rng, z = scene.rng("lungs"), scene.z
    end = rng.uniform(0.17, 0.23)
    for side in SIDES:
        full = swell(z, 0.0, end)
        if full < 0.15:
            continue
        at = side * 0.53, 0.1
        mask = scene.blob(f"lung {side}", at, (0.44 * full**0.3, 0.88 * full**0.3), 0, 0.1, 2.6)
        region = scene.paint(mask.within(scene.cavity), "lung", "lung")
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
    scene.paint(sac.within(scene.cavity), "visceral fat", "visceral fat")
    wall = scene.blob("heart", at, (0.38 * full, 0.37 * full), 0.5, 0.1).within(scene.cavity)
    region = scene.paint(wall, "muscle", "myocardium")
    for number, (s, t, a, b) in enumerate(((0.12, 0.06, 0.16, 0.2), (-0.17, -0.1, 0.13, 0.2))):
        where = at[0] + s * full, at[1] + t * full
        chamber = scene.blob(f"chamber {number}", where, (a * full, b * full), 0.5, 0.2)
        scene.paint(scene.part_of(chamber, region), "blood", "ventricle")


def liver(scene: Scene) -> None:
    """Paint the liver's two lobes with vessels, tumours and cysts."""
    rng, z = scene.rng("liver"), scene.z
    size = rng.uniform(0.72, 1.02)
    full = swell(z, rng.uniform(0.2, 0.27), rng.uniform(0.2, 0.25)) * size
    at = -0.47, -0.1
    if full == 0:
        return
    left = scene.blob("left lobe", (-0.02, -0.5), (0.42 * full, 0.3 * full), 0.2, 0.2)
    right = scene.blob("liver", at, (0.44 * full**0.6, 0.73 * full**0.8), 0.1, 0.16, 2.5)
    both = Mask(0, 0, right.full(scene.size) | left.full(scene.size))
    region = scene.organ(both, "liver", "liver")
    for k, angle in enumerate(rng.uniform(-2.6, 2.6, 6)):
        bend, end = rng.normal(0, 0.1, 2), np.array([np.cos(angle) * 0.3, np.sin(angle) * 0.5])
        path = np.array([at, at + end * 0.5 + bend, at + end]) + 0.4 * (z - 0.23) * (k % 3 - 1)
        vessel = scene.tube(path, np.array([0.025, 0.018, 0.006]))
        scene.detail(scene.part_of(vessel, region), "vein")
    fissure = scene.tube(
        [(-0.2, -0.75), (-0.16, -0.5), (-0.2, -0.3)], np.array([0.004, 0.012, 0.025])
    )
    scene.paint(scene.part_of(fissure, region), "visceral fat", "visceral fat")
    portal = scene.blob("portal", (-0.2, -0.12), (0.09, 0.05), 0.5)
    scene.paint(portal, "vein", "portal vein")
    _lumps(scene, "liver", region, at, (0.34, 0.5), (0.05, 0.5), 6)


def _lumps(
    scene: Scene,
    name: str,
    region: int,
    at: tuple[float, float],
    reach: tuple[float, float],
    heights: tuple[float, float],
    most: int,
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
        radii = 0.2 * full, 0.42 * full**0.7
        mask = scene.blob("spleen", (0.72, 0.26), radii, 0.45, 0.18)
        scene.organ(mask, "spleen", "spleen")


def kidneys(scene: Scene) -> None:
    """Paint kidneys with cortex, medulla, the fat of the sinus and lumps; and the adrenals."""
    rng, z = scene.rng("kidneys"), scene.z
    for side in SIDES:
        height = rng.uniform(0.37, 0.42) - (0.02 if side > 0 else 0)
        full = swell(z, height, rng.uniform(0.12, 0.15))
        at = side * rng.uniform(0.5, 0.56), rng.uniform(0.36, 0.46)
        top = height - 0.12
        if abs(z - top) < 0.05:
            knot, adrenal = (side * 0.32, 0.22), None
            for s, t in ((0.1, 0.16), (0.02, 0.2), (-0.03, -0.06)):
                limb = scene.tube([knot, (knot[0] + side * s, knot[1] + t)], 0.022)
                adrenal = scene.paint(limb, "gland", "adrenal gland", adrenal)
        if full == 0:
            continue
        radius = 0.2 * full**0.8
        turn = side * -0.4
        fat = scene.blob(f"kidney {side}", at, (radius * 1.25, radius * 1.6), turn, 0.12)
        scene.paint(fat.within(scene.cavity), "visceral fat", "visceral fat")
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
        radii = rng.uniform(0.26, 0.4) * full, rng.uniform(0.22, 0.36) * full
        at = rng.uniform(0.38, 0.48), rng.uniform(-0.5, -0.4)
        organ = scene.blob("stomach", at, radii, -0.4, 0.3)
        lumen = scene.blob("stomach", at, (radii[0] - 0.045, radii[1] - 0.055), -0.4, 0.3)
        hollow(scene, organ, lumen.within(scene.cavity), "stomach", rng)
    if swell(z, 0.34, 0.065):
        lift = 2 * (z - 0.34)
        path = [(-0.26, 0.02), (-0.08, -0.06), (0.14, -0.12 + lift), (0.34, -0.02), (0.52, 0.1)]
        thick = np.array([0.08, 0.05, 0.065, 0.05, 0.04]) * (0.5 + 0.6 * swell(z, 0.34, 0.065))
        scene.organ(scene.tube(path, thick), "pancreas", "pancreas")
    if swell(z, 0.37, 0.08):
        at, radius = (-0.33, 0.06), 0.1 * swell(z, 0.37, 0.08) + 0.02
        organ = scene.blob("duodenum", at, (radius, radius * 1.2))
        lumen = scene.blob("duodenum", at, (radius * 0.6, radius * 0.75))
        hollow(scene, organ, lumen, "duodenum", rng)
    full = swell(z, rng.uniform(0.33, 0.38), 0.06)
    if full > 0.2:
        at = -0.33, -0.3
        mask = scene.blob("gallbladder", at, (0.11 * full, 0.15 * full), 0.5, 0.15)
        scene.organ(mask, "gallbladder", "gallbladder")


def hollow(
    scene: Scene,
    organ: Mask,
    lumen: Mask,
    kind: str,
    rng: np.random.Generator,
    name: str = "",
) -> int:
    """Paint a hollow organ: wall, content, and the gas that floats on it; return its number.

    Draws three numbers from `rng`, whatever the height of the slice.
    """
    content, level, gassy = rng.random(3)
    region = scene.organ(organ, "bowel wall", kind, name)
    lumen = scene.part_of(lumen, region)
    drink = scene.rng("drink").random() < 0.15
    look = "stool" if kind in ("colon", "rectum") and content < 0.7 else "chyme"
    scene.detail(lumen, "contrast drink" if drink and look == "chyme" else look)
    rows = np.flatnonzero(lumen.inside.any(axis=1))
    if gassy < 0.55 and len(rows):
        share = 0.15 + 0.75 * level if kind != "small bowel" else 0.5 * level
        surface = (lumen.top + rows[0] + share * len(rows)) / scene.size * 2 - 1
        scene.detail(lumen.above(surface, scene.size), "gas")
    return region


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
