"""How sure of the foreground a member should be."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from compkit.data.resample import shrunk_labels
from compkit.ensemble.members import Member
from compkit.ensemble.mixture import tempered

#: Every so many rows and columns are looked at: neighbouring pixels say the same.
_STRIDE = 4

#: Natural logarithms of temperatures lie within.
_RANGE = (-1.5, 1.5)


def temperature(member: Member) -> float:
    """Return what the logits of a member's foreground are best divided by, on unseen images.

    Source: C. Guo et al. (2017), "On calibration of modern neural networks".
    """
    store, probabilities, foregrounds = member.run.store, [], []
    for image in member.out_of_fold:
        maps = member.out_of_fold_maps(image)
        assert maps is not None
        labels = shrunk_labels(store.labels_of(store.train.index(image)), maps.shape[-1])
        probabilities.append(maps[0, ::_STRIDE, ::_STRIDE].astype(np.float32).ravel())
        foregrounds.append((labels[::_STRIDE, ::_STRIDE] > 0).ravel())
    probability, foreground = np.concatenate(probabilities), np.concatenate(foregrounds)

    def loss(exponent: float) -> float:
        return float(log_loss(foreground, tempered(probability, np.exp(exponent))))

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))
