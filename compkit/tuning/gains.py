"""How far the best trial is ahead of the configuration that the search began from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from compkit.metrics.bootstrap import interval

#: What the configuration without any trial's settings is called.
BASE = "the base configuration"


@dataclass(frozen=True)
class Gain:
    """How far the best trial is ahead of something, over images.

    Attributes
    ----------
    name : str
        What it is compared with.
    mean : float
        The other's score.
    gain : float
        The best trial's score minus that.
    low, high : float
        The paired 95 % bootstrap interval of the gain; NaN where the images differ.
    """

    name: str
    mean: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Confirmation:
    """What the trial that was chosen scored where the search did not look.

    Attributes
    ----------
    trial : int
        Its number.
    of : int
        It was picked as the best of so many by this very score; 1 if it was not.
    fold : int or None
        The hold-out, on whose images this is; None is all others, with another seed.
    mean, low, high : float
        Over images, with the 95 % bootstrap interval.
    gain : Gain
        Over the base configuration, trained with the same seed.
    """

    trial: int
    of: int
    fold: int | None
    mean: float
    low: float
    high: float
    gain: Gain


def gain_over(name: str, other: Mapping[str, Any], mean: float, scores: np.ndarray) -> Gain:
    """Return the gain over something of which `mean` and perhaps `image_scores` are known.

    Parameters
    ----------
    mean : float
        The best trial's.
    scores : ndarray of float, shape (N,)
        The best trial's, of each image.
    """
    low, high = np.nan, np.nan
    theirs = np.array(other.get("image_scores", []), dtype=float)
    if theirs.shape == scores.shape:
        low, high = interval(scores - theirs)
    return Gain(name, other["mean"], mean - other["mean"], low, high)


def confirmations(study: optuna.Study) -> list[Confirmation]:
    """Return what the study's attribute `confirmed` holds.

    It is a list of mappings: trial, of, fold, and the scores of all images as best and base.
    """
    found = []
    for one in study.user_attrs.get("confirmed", []):
        best, base = np.array(one["best"]), np.array(one["base"])
        other = {"mean": float(base.mean()), "image_scores": base}
        gain = gain_over(BASE, other, float(best.mean()), best)
        ends = interval(best)
        found.append(
            Confirmation(one["trial"], one["of"], one["fold"], float(best.mean()), *ends, gain=gain)
        )
    return found
