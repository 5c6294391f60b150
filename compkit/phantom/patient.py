"""Who lies in the scanner: which images show the same patient, and what is particular to one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WAITING = 20  # patients known before the first image
NEW_PATIENT = 0.37  # probability that an image brings one more
MOST_SLICES = 4
SPACING = 0.011  # between neighbouring slices, in lengths of the trunk


@lru_cache(maxsize=16)
def _roster(seed: int, split: int, count: int) -> tuple[tuple[int, int], ...]:
    rng = np.random.default_rng([seed, split, zlib.crc32(b"roster")])
    shown = [0] * WAITING
    unfinished = list(range(WAITING))
    places = []
    for draw, choice in rng.random((count, 2)):
        if draw < NEW_PATIENT or not unfinished:
            unfinished.append(len(shown))
            shown.append(0)
        patient = unfinished[int(choice * len(unfinished))]
        places.append((patient, shown[patient]))
        shown[patient] += 1
        if shown[patient] == 2 + patient % (MOST_SLICES - 1):
            unfinished.remove(patient)
    return tuple(places)


def patient_of(seed: int, split: int, index: int) -> tuple[int, int]:
    """Return the patient that image `index` shows, and which of the patient's slices it is.

    Every image shows one of the patients known by then, at random, so that an image's patient does
    not depend on how many images follow. A patient has 2 to 4 slices.
    """
    count = 1 << max(10, index.bit_length())  # few, large rosters: the cache serves all images
    return _roster(seed, split, count)[index]


@dataclass(frozen=True)
class Patient:
    """One seeded anatomy.

    Attributes
    ----------
    key : tuple of int
        What every random draw of this patient starts from.
    """

    key: tuple[int, ...]

    def rng(self, name: str) -> np.random.Generator:
        """Return the generator of the part `name`: parts do not disturb one another's draws."""
        return np.random.default_rng([*self.key, zlib.crc32(name.encode())])

    def height(self, slice_number: int) -> float:
        """Return where a slice lies: 0 is the middle of the chest, 1 the top of the thighs."""
        start = self.rng("height").uniform(0.02, 0.98 - SPACING * MOST_SLICES)
        return start + SPACING * slice_number
