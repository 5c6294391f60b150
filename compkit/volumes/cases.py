"""Cases of a folder of public CT volumes: where they lie, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compkit.errors import CompkitError
from compkit.files import read_json
from compkit.volumes import dicom, nifti
from compkit.volumes.grid import Grid

#: Hounsfield units as a CT of a body has them: air at about -1000, all but metal below 10,000.
_AIR, _MOST = -500, 100_000
_LABEL_FILES = ("labels", "segmentation", "seg")
_LAYOUTS = (
    "CASE/ct.nii.gz, CASE/ct/*.dcm or CASE/*.dcm, with CASE/segmentations/ORGAN.nii.gz or "
    "CASE/labels.nii.gz; or imagesTr/NAME_0000.nii.gz with labelsTr/NAME.nii.gz"
)


@dataclass(frozen=True)
class Volume:
    """A CT with its organs.

    Attributes
    ----------
    grey : ndarray of int16 or float32, shape (Z, Y, X)
        Hounsfield units. z runs from feet to head, y from front to back, x from the patient's right
        to left, so that ``grey[z]`` is an axial slice as it is displayed. An oblique volume is not
        resampled: each of its axes is taken for the closest of the body's.
    spacing : tuple of float
        (dz, dy, dx) in mm.
    organs : tuple of str
        Names, sorted.
    labels : ndarray of uint8 or uint16, shape (Z, Y, X)
        n is ``organs[n - 1]``, 0 none. A voxel of several organs belongs to the smallest.
    overlapping : int
        Voxels of more than one organ.
    """

    grey: np.ndarray
    spacing: tuple[float, float, float]
    organs: tuple[str, ...]
    labels: np.ndarray
    overlapping: int


@dataclass(frozen=True)
class Case:
    """A CT (a NIfTI file or a folder of DICOM slices) and its masks, by organ or in one file."""

    name: str
    ct: Path
    masks: dict[str, Path] = field(default_factory=dict)
    labels: Path | None = None
    names: Path | None = None

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of organs as files tell them; empty for a file of several labels."""
        return tuple(sorted(self.masks))


def find_cases(folder: Path) -> list[Case]:
    """Find the cases of a folder, 2 before 10; raise `CompkitError` if it has none."""
    if not folder.is_dir():
        raise CompkitError(f"{folder} is no folder: give one of {_LAYOUTS}")
    if (folder / "imagesTr").is_dir():
        found = _of_nnunet(folder)
    else:
        each = (_case(path, folder) for path in folder.iterdir() if path.is_dir())
        found = [case for case in each if case]
    cases = sorted(found, key=lambda case: _numeric(case.name))
    if not cases:
        raise CompkitError(f"{folder} has no CT volumes: looked for {_LAYOUTS}")
    return cases


def read_case(case: Case, classes: Callable[[str], str | None] | None = None) -> Volume:
    """Read a case.

    Parameters
    ----------
    classes : callable, optional
        Maps an organ's name to a new one, or to None to leave it out. Organs of one new name are
        merged.

    Raises
    ------
    CompkitError
        For files that cannot be read, masks of another grid, and voxels that are not Hounsfield
        units: those have air (a voxel of -500 or less), and none above 100,000.
    """
    if case.masks and case.labels:
        raise CompkitError(f"{case.labels} lies beside segmentations/: keep one of them")
    try:
        grid = dicom.read(case.ct) if case.ct.is_dir() else nifti.read(case.ct)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        # What libraries raise of damaged headers, which are read only where they are used.
        raise CompkitError(f"{case.ct} is damaged ({error}): copy or download it again") from None
    grey = _hounsfield(grid.voxels, case.ct)
    rename = classes or (lambda name: name)
    painted = _of_one_file(case, grid, rename) if case.labels else _of_masks(case, grid, rename)
    return Volume(grey, grid.spacing, *painted)


def _case(folder: Path, above: Path) -> Case | None:
    ct = _nifti(folder, "ct")
    if ct is None:
        ct = next((at for at in (folder / "ct", folder) if dicom.files_of(at)), None)
    if ct is None:
        return None
    masks = {}
    if (folder / "segmentations").is_dir():
        masks = {
            _stem(file): file
            for file in sorted((folder / "segmentations").iterdir())
            if file.name.endswith(nifti.SUFFIXES)
        }
    labels = next(filter(None, (_nifti(folder, stem) for stem in _LABEL_FILES)), None)
    return Case(folder.name, ct, masks, labels, _names_file(folder, above))


def _of_nnunet(folder: Path) -> list[Case]:
    images = [f for f in (folder / "imagesTr").iterdir() if f.name.endswith(nifti.SUFFIXES)]
    cases = []
    for image in images:
        name, _, channel = _stem(image).rpartition("_")
        if channel != "0000" or not name:
            raise CompkitError(f"{image} is not named NAME_0000.nii.gz: give CTs of one channel")
        cases.append(Case(name, image, {}, _nifti(folder / "labelsTr", name), _names_file(folder)))
    return cases


def _names_file(*folders: Path) -> Path | None:
    files = (at / name for at in folders for name in ("labels.json", "dataset.json"))
    return next((file for file in files if file.is_file()), None)


def _nifti(folder: Path, stem: str) -> Path | None:
    files = (folder / (stem + suffix) for suffix in nifti.SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _stem(file: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", file.name)


def _numeric(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]


def _hounsfield(voxels: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(voxels).all():
        raise CompkitError(f"{path} has NaN or infinity: convert it anew from its source")
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise CompkitError(f"{path} is empty, all {low:g}: convert it anew from its source")
    if low > _AIR or high > _MOST:
        raise CompkitError(
            f"{path} has values from {low:g} to {high:g}, which are no Hounsfield units (air is "
            "-1000): give the CT before windowing or scaling, with its intercept"
        )
    limits = np.iinfo(np.int16)
    whole = voxels.dtype.kind in "iu" or bool((voxels == np.floor(voxels)).all())
    return voxels.astype(np.int16 if whole and limits.min <= low <= high <= limits.max else "f4")


def _of_masks(
    case: Case, grid: Grid, rename: Callable[[str], str | None]
) -> tuple[tuple[str, ...], np.ndarray, int]:
    """Paint masks one by one; as each voxel knows its smallest organ so far, any order will do."""
    files: dict[str, list[Path]] = {}
    for organ in case.organs:
        if (name := rename(organ)) is not None:
            files.setdefault(name, []).append(case.masks[organ])
    organs = tuple(sorted(files))
    labels = np.zeros(grid.voxels.shape, np.min_scalar_type(len(organs)))
    several = np.zeros(labels.shape, bool)
    sizes = np.zeros(len(organs) + 1, np.int64)
    sizes[0] = labels.size + 1
    for number, organ in enumerate(organs, start=1):
        mask = np.zeros(labels.shape, bool)
        for file in files[organ]:
            mask |= _one_organ(file, grid)
        sizes[number] = np.count_nonzero(mask)
        several |= mask & (labels > 0)
        labels[mask & (sizes[labels] > sizes[number])] = number
    return organs, labels, int(np.count_nonzero(several))


def _one_organ(file: Path, grid: Grid) -> np.ndarray:
    values = nifti.read_labels(file, grid)
    mask = values > 0
    if mask.any() and values[mask].min() != values.max():
        raise CompkitError(f"{file} has several labels: give one organ a file, or labels.nii.gz")
    return mask


def _of_one_file(
    case: Case, grid: Grid, rename: Callable[[str], str | None]
) -> tuple[tuple[str, ...], np.ndarray, int]:
    assert case.labels is not None
    values = nifti.read_labels(case.labels, grid)
    present = [int(value) for value in np.flatnonzero(np.bincount(values.ravel())) if value]
    names = _names(case.names) if case.names else {n: f"label {n}" for n in present}
    if unnamed := [n for n in present if n not in names]:
        raise CompkitError(
            f"{case.labels} has label {unnamed[0]}, which {case.names} does not name"
        )
    new = {n: name for n, old in names.items() if (name := rename(old)) is not None}
    organs = tuple(sorted(set(new.values())))
    table = np.zeros(1 << 16, np.min_scalar_type(len(organs)))
    for number, name in new.items():
        table[number] = organs.index(name) + 1
    return organs, table[values], 0


def _names(path: Path) -> dict[int, str]:
    """Read names by number, whichever way round a file has them; without the background, 0."""
    remedy = 'give {"labels": {"liver": 1, …}}'
    record = read_json(path, remedy)
    labels: Any = record.get("labels", record) if isinstance(record, dict) else None
    try:
        pairs = [(k, v) if isinstance(v, str) else (v, k) for k, v in labels.items()]
        names = {int(number): str(name) for number, name in pairs}
    except (AttributeError, TypeError, ValueError):
        raise CompkitError(f"{path} does not name labels by one number each: {remedy}") from None
    if len(names) != len(pairs) or not all(0 <= number < 1 << 16 for number in names):
        raise CompkitError(f"{path} names a number twice, or one beyond 65535: {remedy}")
    return {number: name for number, name in names.items() if number}
