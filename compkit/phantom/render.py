"""From looks to grey values: texture, the scanner's blur, and its noise."""

from __future__ import annotations

import cv2
import numpy as np

from compkit.phantom.kinds import LOOKS
from compkit.phantom.patient import Patient

GRIDS = {"fine": 170, "mid": 45, "coarse": 12}


def render(look: np.ndarray, patient: Patient, z: float, noise: np.random.Generator) -> np.ndarray:
    """Return the grey image of a map of looks.

    Parameters
    ----------
    look : ndarray of uint8, shape (size, size)
        Numbers of looks.
    patient : Patient
        Gives texture, contrast agent, window and the strength of the noise.
    z : float
        Height of the slice: texture changes slowly along it.
    noise : numpy.random.Generator
        Of this slice alone.

    Returns
    -------
    ndarray of uint8, shape (size, size)
    """
    size = look.shape[0]
    rng = patient.rng("scan")
    contrast = rng.random() if rng.random() < 0.55 else 0.0
    gain, offset = rng.uniform(0.94, 1.06), rng.normal(0, 3)
    strength = rng.uniform(6, 13)
    shade = rng.normal(0, 3, len(LOOKS)).astype(np.float32)
    table = np.array(
        [(k.grey + contrast * k.uptake, k.fine, k.mid, k.coarse) for k in LOOKS.values()],
        np.float32,
    ).T
    grey = (table[0] + shade)[look]
    for amount, (name, cells) in zip(table[1:], GRIDS.items(), strict=True):
        grey += amount[look] * _texture(patient.rng(f"texture {name}"), cells, size, z)
    grey = grey * np.float32(gain) + np.float32(offset)
    np.maximum(grey, -80, out=grey)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.15 + size * 0.0012)
    grey += strength * (size / 512) ** 0.5 * _grain(noise, size)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, cells: int, size: int, z: float) -> np.ndarray:
    """Return smooth noise of unit variance that turns into other noise along z."""
    one, other = rng.standard_normal((2, cells, cells), np.float32)
    angle = 20 * z
    grid = one * np.float32(np.cos(angle)) + other * np.float32(np.sin(angle))
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * np.float32(1.3)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise of unit variance, correlated over about a pixel as a reconstruction's is."""
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.7)
    return grain / grain.std()
