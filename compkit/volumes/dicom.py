"""A CT series from a folder of DICOM files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from compkit.errors import CompkitError
from compkit.volumes.grid import Grid, canonical

_NEEDED = (
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "Rows", "Columns", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
#: What pydicom raises of files that are no DICOM, damaged, or of a kind that it cannot read.
_UNREADABLE = (
    InvalidDicomError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError,
    struct.error, BytesLengthException,
)  # fmt: skip
_LENGTHS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


def files_of(folder: Path) -> list[Path]:
    """Return a folder's DICOM files: those named .dcm, and those that begin as DICOM does."""
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return [file for file in files if file.suffix.lower() == ".dcm" or _begins_so(file)]


def read(folder: Path) -> Grid:
    """Read the one CT series of a folder in Hounsfield units, float32 or int16."""
    slices = [(file, _header(file)) for file in files_of(folder)]
    first = slices[0][1]
    if len({header.SeriesInstanceUID for _, header in slices}) > 1:
        raise CompkitError(f"{folder} holds more than one series: leave one of them in it")
    across = np.array(first.ImageOrientationPatient, float)
    for file, header in slices:
        same = (header.Rows, header.Columns) == (first.Rows, first.Columns)
        turned = np.abs(np.array(header.ImageOrientationPatient, float) - across).max() > 1e-3
        spaced = np.allclose(np.array(header.PixelSpacing, float), first.PixelSpacing, rtol=1e-3)
        if turned or not same or not spaced:
            raise CompkitError(
                f"{file} has another size, spacing or orientation than {slices[0][0].name}: "
                "leave only the slices of one volume in the folder"
            )
    normal = np.cross(across[:3], across[3:])
    slices.sort(key=lambda pair: float(normal @ np.array(pair[1].ImagePositionPatient, float)))
    step = _step(folder, slices, normal)
    affine = np.eye(4)
    rows, columns = (float(size) for size in first.PixelSpacing)
    affine[:3, 0], affine[:3, 1] = across[:3] * columns, across[3:] * rows
    affine[:3, 2], affine[:3, 3] = step, np.array(slices[0][1].ImagePositionPatient, float)
    voxels = np.stack([_hounsfield(file) for file, _ in slices])
    # DICOM counts mm towards the left and the back, nibabel towards the right and the front.
    return canonical(voxels.transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1]) @ affine, folder)


def _begins_so(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM" and file.name != "DICOMDIR"


def _header(file: Path) -> Any:
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        missing = [key for key in _NEEDED if header.get(key) is None]
        missing += [key for key, n in _LENGTHS.items() if np.size(header.get(key)) != n]
        kind = header.get("Modality")
        frames = int(header.get("NumberOfFrames") or 1)
        colours = int(header.get("SamplesPerPixel") or 1) > 1
        unit = header.get("RescaleType", "HU")
    except _UNREADABLE as error:
        raise CompkitError(
            f"{file} cannot be read as DICOM ({error}): copy or download it again"
        ) from None
    if kind != "CT":
        raise CompkitError(f"{file} is of modality {kind}: leave only the slices of a CT in it")
    if missing or frames > 1 or colours or unit not in ("HU", "", None):
        fault = (
            f"lacks {', '.join(missing)}" if missing else "has several frames, colours, or no HU"
        )
        raise CompkitError(f"{file} {fault}: give slices of a CT in Hounsfield units, one a file")
    return header


def _step(folder: Path, slices: list[tuple[Path, Any]], normal: np.ndarray) -> np.ndarray:
    """Return the way from slice to slice in mm; refuse gaps, and slices sheared by a tilt."""
    places = np.array([header.ImagePositionPatient for _, header in slices], float)
    if len(places) < 2:
        raise CompkitError(f"{folder} has one DICOM slice only: a volume takes two or more")
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > 0.05 * usual)
    if usual <= 0 or len(odd):
        at = int(odd[0]) if len(odd) else 0
        raise CompkitError(
            f"{folder}: from {slices[at][0].name} to {slices[at + 1][0].name} is {gaps[at]:g} mm, "
            f"elsewhere {usual:g} mm: a slice is missing or is there twice; complete the series"
        )
    step = (places[-1] - places[0]) / (len(places) - 1)
    if np.linalg.norm(step - normal * (step @ normal)) > 0.02 * usual:
        raise CompkitError(f"{folder} was taken with a tilted gantry: resample it upright first")
    return step


def _hounsfield(file: Path) -> np.ndarray:
    try:
        data = pydicom.dcmread(file)
        stored = data.pixel_array
    except _UNREADABLE as e:
        raise CompkitError(
            f"{file}: its pixels cannot be read ({str(e).splitlines()[0] if str(e) else e!r}): "
            "copy it again, or uncompress it (dcmdjpeg, dcmdjpls or gdcmconv --raw)"
        ) from None
    return stored.astype(np.float32) * float(data.RescaleSlope) + float(data.RescaleIntercept)
