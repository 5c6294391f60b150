"""How much each pixel of a training example counts."""

from __future__ import annotations

import cv2
import numpy as np

from compkit.config import WeightsConfig

#: What a pixel lies in: nothing (an augmentation brought it from outside the image), air, the body.
OUTSIDE, AIR, BODY = 0, 1, 2

#: The grey level from which on a pixel may be body: 8-bit CT shows air as 0, and fat, the darkest
#: tissue, from about 32. (Otsu's threshold lies higher, between fat and the other tissues.)
_TISSUE = 16

#: Between these the weight of a region lies, before their mean is made 1.
_LEAST, _MOST = 0.25, 8.0


def places(image: np.ndarray, config: WeightsConfig) -> np.ndarray:
    """Return what each pixel of a whole image lies in, uint8 (H, W) of AIR and BODY.

    Where the weights do not ask for the body, every pixel is in AIR. It is told from the image
    before it is augmented: a crop cuts bowel gas open to its edge, and other grey levels hide air.
    """
    if config.background == 1:
        return np.broadcast_to(np.uint8(AIR), image.shape)  # which takes no memory
    return np.where(body(image), BODY, AIR).astype(np.uint8)


def body(image: np.ndarray) -> np.ndarray:
    """Return the mask, bool (H, W), of the body in a grey image, uint8 (H, W).

    It is the largest connected part that is not air, with its holes (lungs, bowel gas) filled.
    """
    mask = (image >= _TISSUE).view(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count == 1:
        return np.zeros(image.shape, bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    # A frame of air joins everything around the body, so that one filling reaches all of it.
    framed = cv2.copyMakeBorder(
        (parts == largest).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    cv2.floodFill(framed, None, (0, 0), 2)
    return framed[1:-1, 1:-1] != 2


def pixel_weights(labels: np.ndarray, place: np.ndarray, config: WeightsConfig) -> np.ndarray:
    """Return how much each pixel counts, float32 (H, W); 0 outside the image.

    Parameters
    ----------
    labels : unsigned integer ndarray, shape (H, W)
        Region ids; 0 is background, or a structure that nobody labelled.
    place : ndarray of uint8, shape (H, W)
        What `places` returned, augmented as the labels were; OUTSIDE beyond the image.
    config : WeightsConfig
    """
    weights = np.ones(labels.shape, np.float32)
    if config.small_regions:
        weights = _region_weights(labels, config.small_regions)[labels]
    if config.background != 1:
        weights[(labels == 0) & (place == BODY)] = config.background
    weights[place == OUTSIDE] = 0
    return weights


def _region_weights(labels: np.ndarray, exponent: float) -> np.ndarray:
    """Return the weight of a pixel by its id, float32; the mean over all regions' pixels is 1."""
    areas = np.bincount(labels.ravel()).astype(float)
    areas[0] = 0
    weights = np.ones(len(areas), np.float32)
    regions = areas > 0
    if regions.any():
        area = areas[regions]
        relative = np.clip((area.mean() / area) ** exponent, _LEAST, _MOST)
        weights[regions] = relative * area.sum() / (relative * area).sum()
    return weights
