"""The challenge organisers' baseline: a marker-controlled watershed of the grey image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi
from skimage import segmentation
from skimage.filters import rank, sobel
from skimage.morphology import disk


@dataclass(frozen=True)
class WatershedParams:
    """Settings of `watershed`; the defaults are the organisers'.

    Attributes
    ----------
    median_radius : int
        Radius in pixels of the disk over which the image is smoothed before markers are sought.
    gradient_radius : int
        Radius in pixels of the disk over which the local gradient is taken.
    gradient_below : int
        Markers are the connected areas whose local gradient, in grey levels, is below this.
    compactness : float
        Of the watershed; higher makes basins more evenly sized.
    """

    median_radius: int = 2
    gradient_radius: int = 5
    gradient_below: int = 20
    compactness: float = 1e-4


def watershed(image: np.ndarray, params: WatershedParams = WatershedParams()) -> np.ndarray:
    """Cut a grey image into basins.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
    params : WatershedParams

    Returns
    -------
    ndarray of int32, shape (H, W)
        Basins 1, 2, …, which cover the whole image; all 0 where there is no marker. There may be
        more than 255 of them: see `compkit.regions.keep_largest`.
    """
    image = np.array(image)  # the rank filters want a writable one, and a store's are not
    denoised = rank.median(image, disk(params.median_radius))
    gradient = rank.gradient(denoised, disk(params.gradient_radius))
    markers, _ = ndi.label(gradient < params.gradient_below)
    return segmentation.watershed(sobel(image), markers, compactness=params.compactness)
