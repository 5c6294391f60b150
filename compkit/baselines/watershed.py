"""The challenge organisers' baseline: a marker-controlled watershed of the grey image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
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
    background_below : int
        A pixel is background where the smoothed image, in grey levels, is below this; 0 leaves
        none.
    median_radius : int
        Radius in pixels of the disk over which the image is smoothed before markers are sought.
    gradient_radius : int
        Radius in pixels of the disk over which the local gradient is taken.
    gradient_below : int
        Markers are the connected areas whose local gradient, in grey levels, is below this.
    compactness : float
        Of the watershed; higher makes basins more evenly sized.
    """

    background_below: int = 0
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
        Basins 1, 2, …, which cover all but the background; all 0 where there is no marker. There
        may be more than 255 of them: see `compkit.regions.keep_largest`.
    """
    smooth = smoothed(image, params.median_radius)
    return np.where(smooth < params.background_below, 0, basins(image, smooth, params))


def smoothed(image: np.ndarray, radius: int) -> np.ndarray:
    """Return the median of an image, uint8 (H, W), over a disk."""
    return rank.median(np.array(image), disk(radius))  # it wants a writable image; a store's is not


def basins(image: np.ndarray, smooth: np.ndarray, params: WatershedParams) -> np.ndarray:
    """Return the basins of an image, int32 (H, W), before any is background.

    Parameters
    ----------
    image, smooth : ndarray of uint8, shape (H, W)
        The image, and the same as `smoothed` by the parameters' radius.
    """
    # The same as skimage's rank.gradient, in a hundredth of the time.
    gradient = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, disk(params.gradient_radius))
    markers, _ = ndi.label(gradient < params.gradient_below)
    return segmentation.watershed(sobel(image), markers, compactness=params.compactness)
