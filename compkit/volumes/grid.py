"""A volume on its grid, turned so that its axial slices stand as a radiologist sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel import orientations
from nibabel.affines import apply_affine, voxel_sizes

from compkit.errors import CompkitError

#: Spacings in mm that a CT of a body can have.
_SPACINGS = (0.01, 100.0)


@dataclass(frozen=True)
class Grid:
    """Voxels (Z, Y, X), and the affine from indices (x, y, z) to mm in nibabel's RAS+."""

    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dz, dy, dx) in mm."""
        dx, dy, dz = (float(size) for size in voxel_sizes(self.affine))
        return dz, dy, dx

    def same(self, other: Grid) -> bool:
        """Whether no corner lies more than a tenth of a voxel from the other's."""
        if self.voxels.shape != other.voxels.shape:
            return False
        corners = np.array(list(np.ndindex(2, 2, 2))) * self.voxels.shape[::-1]
        away = apply_affine(self.affine, corners) - apply_affine(other.affine, corners)
        return bool(np.abs(away).max() <= 0.1 * min(self.spacing))


def canonical(voxels: np.ndarray, affine: np.ndarray, path: Path) -> Grid:
    """Turn voxels (i, j, k) so that x runs to the left, y to the back and z to the head.

    An oblique volume is not resampled: each axis is taken for the closest of the body's.
    """
    if voxels.ndim != 3 or not voxels.size:
        raise CompkitError(f"{path} has shape {voxels.shape}: give one volume of three axes")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise CompkitError(f"{path} has a singular affine: convert it anew from its source")
    sizes = voxel_sizes(affine)
    if sizes.min() < _SPACINGS[0] or sizes.max() > _SPACINGS[1]:
        raise CompkitError(
            f"{path} has voxels of {' × '.join(f'{size:g}' for size in sizes)} mm, which no CT has:"
            " correct its affine, or convert it anew from its source"
        )
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(("L", "P", "S"))
    )
    turned = affine @ orientations.inv_ornt_aff(turn, voxels.shape)
    return Grid(orientations.apply_orientation(voxels, turn).transpose(2, 1, 0), turned)
