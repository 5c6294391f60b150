"""Volumes and masks from NIfTI files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from compkit.errors import CompkitError
from compkit.volumes.grid import Grid, canonical

SUFFIXES = (".nii.gz", ".nii")


def read(path: Path) -> Grid:
    """Read a NIfTI file after its slope and intercept; voxels are integers or float32."""
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # Nifti2Image is one too
            raise CompkitError(f"{path} is no NIfTI file: give .nii or .nii.gz")
        if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
            raise CompkitError(
                f"{path} has neither sform nor qform, so nobody knows which side is left: "
                "convert it anew from its source"
            )
        stored, proxy = image.get_data_dtype(), cast(Any, image.dataobj)
        if len(image.shape) != 3 or stored.kind not in "iuf":
            raise CompkitError(
                f"{path} has shape {image.shape} of {stored}: give one volume of three axes, "
                "of integers or floats"
            )
        plain = stored.kind in "iu" and (proxy.slope, proxy.inter) == (1, 0)
        voxels = proxy.get_unscaled() if plain else image.get_fdata("unchanged", np.float32)
    except (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine refuses, not the file
        raise CompkitError(
            f"{path} cannot be read as NIfTI ({error}): copy or download it again"
        ) from None
    if voxels.dtype.kind == "f":
        voxels = np.asarray(voxels, np.float32)
    return canonical(np.asarray(voxels), np.asarray(image.affine, float), path)


def read_labels(path: Path, like: Grid) -> np.ndarray:
    """Read whole numbers from 0 to 65,535 (Z, Y, X) as uint16, of the grid of a CT."""
    mask = read(path)
    if not mask.same(like):
        raise CompkitError(
            f"{path} lies on another grid than its CT (shape {mask.voxels.shape} and "
            f"{like.voxels.shape}, or another affine): resample it to the CT's grid"
        )
    values = mask.voxels
    whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    if not whole or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise CompkitError(
            f"{path} holds values other than whole numbers from 0 to 65535: give a mask, not "
            "probabilities"
        )
    return values.astype(np.uint16)
