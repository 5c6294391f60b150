"""One image of the phantom with its regions: the generator's whole interface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import cc3d
import cv2
import numpy as np

from compkit.phantom import organs, trunk
from compkit.phantom.kinds import KIND_NUMBER, LABELLED, LOOKS, TEST_ONLY
from compkit.phantom.scene import Scene, generator

WAITING = 20  # patients known before the first image
NEW_PATIENT = 0.37  # probability that an image brings one more
MOST_SLICES = 4
SPACING = 0.011  # between neighbouring slices, in lengths of the trunk
GRIDS = {"fine": 170, "mid": 45, "coarse": 12}  # cells of a texture, along a side

SPLITS = {"train": 0, "test": 1}
#: Smallest labelled region, as a share of the image; and in pixels, whatever the size.
SMALLEST_SHARE, SMALLEST_PIXELS = 1.2e-4, 5
#: Painted in this order: what comes later lies over what came before.
PARTS = (
    trunk.shell,
    trunk.buttocks,
    trunk.back,
    organs.lungs,
    organs.liver,
    organs.spleen,
    organs.stomach,
    organs.kidneys,
    organs.mesentery,
    organs.small_bowel,
    organs.colon,
    organs.pelvic_organs,
    trunk.spine,
    organs.great_vessels,
    trunk.pelvis,
    trunk.ribs,
)


@dataclass(frozen=True)
class Slice:
    """One image and what it shows.

    Attributes
    ----------
    image : ndarray of uint8, shape (size, size)
    labels : ndarray of uint8, shape (size, size)
        Regions as an annotator of this split would give them; each is 4-connected.
    kinds : ndarray of uint8, shape (size, size)
        For every pixel the number of its kind: position in `kinds.KINDS` plus one, 0 for nothing.
    patient : int
        Number within the split.
    """

    image: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    patient: int


def draw_slice(seed: int, split: str, index: int, size: int) -> Slice:
    """Return image `index` of a split; it depends on nothing but the arguments."""
    number, slice_number = patient_of(seed, SPLITS[split], index)
    rng = partial(generator, (seed, SPLITS[split], number))
    # 0 is the middle of the chest, 1 the top of the thighs
    start = rng("height").uniform(0.02, 0.98 - SPACING * MOST_SLICES)
    scene = Scene(rng, start + SPACING * slice_number, size)
    for part in PARTS:
        part(scene)
    own = seed, SPLITS[split], index
    image = _render(scene, generator((*own, size), "noise"))
    labels = _annotate(scene, split, generator(own, "ids"))
    return Slice(image, labels, np.array(scene.region_kind, np.uint8)[scene.region], number)


@lru_cache(maxsize=16)
def _roster(seed: int, split: int, count: int) -> tuple[tuple[int, int], ...]:
    rng = generator((seed, split), "roster")
    shown = [0] * WAITING
    unfinished = list(range(WAITING))
    places = []
    for draw, choice in rng.random((count, 2)):
        if draw < NEW_PATIENT or not unfinished:
            unfinished.append(len(shown))
            shown.append(0)
        patient = unfinished[int(choice * len(unfinished))]
        places.append((patient, shown[patient]))
        shown[patient] += 1
        if shown[patient] == 2 + patient % (MOST_SLICES - 1):
            unfinished.remove(patient)
    return tuple(places)


def patient_of(seed: int, split: int, index: int) -> tuple[int, int]:
    """Return the patient that image `index` shows, and which of the patient's slices it is.

    Every image shows one of the patients known by then, at random, so that an image's patient does
    not depend on how many images follow. A patient has 2 to 4 slices.
    """
    count = 1 << max(10, index.bit_length())  # few, large rosters: the cache serves all images
    return _roster(seed, split, count)[index]


def _annotate(scene: Scene, split: str, rng: np.random.Generator) -> np.ndarray:
    """Number the connected parts of what is labelled in `split`, at random, in 1..255."""
    named = LABELLED + TEST_ONLY if split == "test" else LABELLED
    wanted = np.isin(scene.region_kind, [KIND_NUMBER[kind] for kind in named])
    parts = cc3d.connected_components(scene.region * wanted[scene.region], connectivity=4)
    area = np.bincount(parts.ravel())
    large = area >= max(SMALLEST_PIXELS, SMALLEST_SHARE * scene.size**2)
    large[0] = False
    ids = np.zeros(len(area), np.uint8)
    ids[large] = rng.permutation(np.arange(1, 256, dtype=np.uint8))[: large.sum()]
    return ids[parts]


def _render(scene: Scene, noise: np.random.Generator) -> np.ndarray:
    """Return the grey image: what the patient's scan shows in a window of 0..255, and own noise."""
    grey, strength = scanned(scene)
    np.maximum(grey, -80, out=grey)
    grey = blurred(grey)
    grey += strength * grain(noise, scene.size)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def scanned(scene: Scene) -> tuple[np.ndarray, float]:
    """Return grey values, float32 (size, size), of a patient's texture, contrast agent and window.

    They may lie outside 0..255. The number is the strength of the scan's noise.
    """
    look, size, rng = scene.look, scene.size, scene.rng("scan")
    contrast = rng.random() if rng.random() < 0.55 else 0.0
    gain, offset = rng.uniform(0.94, 1.06), rng.normal(0, 3)
    strength = rng.uniform(6, 13)
    shade = rng.normal(0, 3, len(LOOKS)).astype(np.float32)
    table = np.array(
        [(k.grey + contrast * k.uptake, k.fine, k.mid, k.coarse) for k in LOOKS.values()],
        np.float32,
    ).T
    grey = (table[0] + shade)[look]
    for amount, (name, cells) in zip(table[1:], GRIDS.items(), strict=True):
        grey += amount[look] * _texture(scene.rng(f"texture {name}"), cells, size, scene.z)
    return grey * np.float32(gain) + np.float32(offset), strength


def blurred(grey: np.ndarray) -> np.ndarray:
    """Return a slice as sharp as a scanner of its size shows it."""
    return cv2.GaussianBlur(grey, (0, 0), 0.15 + len(grey) * 0.0012)


def _texture(rng: np.random.Generator, cells: int, size: int, z: float) -> np.ndarray:
    """Return smooth noise of unit variance that turns into other noise along z."""
    one, other = rng.standard_normal((2, cells, cells), np.float32)
    angle = 20 * z
    grid = one * np.float32(np.cos(angle)) + other * np.float32(np.sin(angle))
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(1.3)


def grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise of unit variance at 512, correlated over a pixel as a reconstruction's is."""
    noise = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.7)
    return noise / noise.std() * np.float32((size / 512) ** 0.5)
