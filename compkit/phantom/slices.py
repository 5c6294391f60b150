"""One image of the phantom with its regions: the generator's whole interface."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cc3d
import numpy as np

from compkit.phantom import organs, trunk
from compkit.phantom.kinds import KIND_NUMBER, LABELLED, TEST_ONLY
from compkit.phantom.patient import Patient, patient_of
from compkit.phantom.render import render
from compkit.phantom.scene import Scene

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
    patient = Patient((seed, SPLITS[split], number))
    scene = Scene(patient, patient.height(slice_number), size)
    for part in PARTS:
        part(scene)
    own = [seed, SPLITS[split], index]
    noise = np.random.default_rng([*own, size, zlib.crc32(b"noise")])
    kinds = np.array(scene.region_kind, np.uint8)[scene.region]
    labels = _annotate(scene, split, np.random.default_rng([*own, zlib.crc32(b"ids")]))
    return Slice(render(scene.look, patient, scene.z, noise), labels, kinds, number)


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
