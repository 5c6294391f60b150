"""How sure of the foreground a member should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import log_loss

from compkit.data.resample import shrunk_labels
from compkit.ensemble.members import Member
from compkit.ensemble.mixture import tempered

#: What is tried. Steps of √2 are coarse enough that most folds settle for the same, and what is
#: decoded for one serves the others.
TEMPERATURES = tuple(float(2 ** (step / 2)) for step in range(-4, 5))

#: Every so many rows and columns are looked at: neighbouring pixels say the same.
_STRIDE = 4


def losses(member: Member, images: Sequence[str]) -> np.ndarray:
    """Return how badly a member's foreground fits images that it did not see.

    Parameters
    ----------
    images : sequence of N str
        Of which it has out-of-fold maps.

    Returns
    -------
    ndarray of float64, shape (N, len(TEMPERATURES))
        The log loss of each image if logits are divided by each temperature.
    """
    store, rows = member.run.store, []
    for image in images:
        maps = member.out_of_fold_maps(image)
        assert maps is not None
        labels = shrunk_labels(store.labels_of(store.train.index(image)), maps.shape[-1])
        probability = maps[0, ::_STRIDE, ::_STRIDE].astype(np.float32).ravel()
        foreground = (labels[::_STRIDE, ::_STRIDE] > 0).ravel()
        rows.append([
            log_loss(foreground, tempered(probability, one), labels=[False, True])
            for one in TEMPERATURES
        ])  # fmt: skip
    return np.array(rows)


def temperature(found: np.ndarray) -> float:
    """Return what logits are best divided by, of the `losses` of some images.

    Source: C. Guo et al. (2017), "On calibration of modern neural networks".
    """
    return TEMPERATURES[int(found.mean(axis=0).argmin())]
