"""Whole volumes of phantom patients, in Hounsfield units, as public CT data sets hold them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from compkit.phantom.kinds import KINDS
from compkit.phantom.scene import Scene, generator
from compkit.phantom.slices import PARTS, blurred, grain, scanned

#: Beside those of `compkit.phantom.slices.SPLITS`: patients of volumes are in no competition.
_VOLUMES = 2
#: Axial slices from the chest to the thighs, the millimetres between them, and a slice's width.
SLICES, THICK, WIDTH = 100, 5.0, 400.0
#: What has no mask.
_NO_ORGAN = ("body wall", "skin", "subcutaneous fat", "table", "visceral fat")
#: Grey values 0..255 are these Hounsfield units; below, where air and lungs lie, they fall faster.
_LOW, _HIGH, _STEEP = -160.0, 240.0, 8.0


def draw_volume(
    seed: int, number: int, size: int, slices: int = SLICES
) -> tuple[np.ndarray, np.ndarray]:
    """Return a patient's CT and the kind of each of its voxels.

    Returns
    -------
    hounsfield : ndarray of int16, shape (slices, size, size)
        From feet to head, front to back, the patient's right to left.
    kinds : ndarray of uint8, shape (slices, size, size)
        Position in `compkit.phantom.kinds.KINDS` plus one; 0 for nothing.
    """
    rng = partial(generator, (seed, _VOLUMES, number))
    hounsfield = np.empty((slices, size, size), np.int16)
    kinds = np.empty((slices, size, size), np.uint8)
    for place, z in enumerate(np.linspace(0.99, 0.01, slices)):
        scene = Scene(rng, float(z), size)
        for part in PARTS:
            part(scene)
        grey, strength = scanned(scene)
        noise = grain(generator((seed, _VOLUMES, number, place, size), "noise"), size)
        grey = blurred(np.maximum(np.where(grey < 0, _STEEP * grey, grey), -530))
        grey += strength * noise
        unit = (_HIGH - _LOW) / 255
        hounsfield[place] = np.clip(np.rint(grey * unit + _LOW), -1024, 3071)
        kinds[place] = np.array(scene.region_kind, np.uint8)[scene.region]
    return hounsfield, kinds


def write_volume(folder: Path, seed: int, number: int, size: int, slices: int = SLICES) -> None:
    """Write a patient as TotalSegmentator's data hold one: ``ct.nii.gz``, and a mask an organ."""
    hounsfield, kinds = draw_volume(seed, number, size, slices)
    case = folder / f"s{number:04}"
    (case / "segmentations").mkdir(parents=True)
    width = WIDTH / size
    affine = np.diag([-width, -width, THICK * SLICES / slices, 1])
    _write(case / "ct.nii.gz", hounsfield, affine)
    for value, kind in enumerate(KINDS, start=1):
        if kind not in _NO_ORGAN:  # an empty mask says that the patient has none
            name = f"{kind.replace(' ', '_')}.nii.gz"
            _write(case / "segmentations" / name, (kinds == value).view(np.uint8), affine)


def _write(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(voxels.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
