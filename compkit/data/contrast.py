"""Local contrast, for training and prediction alike."""

from __future__ import annotations

import cv2
import numpy as np

#: Tiles along a side, and by how much a tile's histogram may be steepened.
_TILES, _STEEPEST = 8, 2.0


def equalised(image: np.ndarray) -> np.ndarray:
    """Return a grey image, uint8 (H, W), with its contrast equalised tile by tile.

    Contrast limited adaptive histogram equalisation (Zuiderveld 1994, Graphics Gems IV, VIII.5).
    """
    return cv2.createCLAHE(_STEEPEST, (_TILES, _TILES)).apply(image)
