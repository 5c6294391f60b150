"""How far the best trial is ahead of the configuration that the search began from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from compkit.intervals import resampling
from compkit.metrics.bootstrap import Groups, interval

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
        The paired 95 % bootstrap interval of the gain; NaN where the images differ, or are all
        of one group.
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
        Over images, with the 95 % bootstrap interval; NaN where all are of one group.
    over : str
        What the interval rests on: `compkit.intervals.resampling`.
    gain : Gain
        Over the base configuration, trained with the same seed.
    """

    trial: int
    of: int
    fold: int | None
    mean: float
    low: float
    high: float
    over: str
    gain: Gain


def gain_over(
    name: str, other: Mapping[str, Any], mean: float, scores: np.ndarray, groups: Groups = None
) -> Gain:
    """Return the gain over something of which `mean` and perhaps `image_scores` are known.

    Parameters
    ----------
    mean : float
        The best trial's.
    scores : ndarray of float, shape (N,)
        The best trial's, of each image.
    groups : sequence of N, optional
        The group of each image, as of `compkit.metrics.bootstrap.interval`.
    """
    low, high = np.nan, np.nan
    theirs = np.array(other.get("image_scores", []), dtype=float)
    if theirs.shape == scores.shape:
        low, high = interval(scores - theirs, groups)
    return Gain(name, other["mean"], mean - other["mean"], low, high)


def confirmations(study: optuna.Study) -> list[Confirmation]:
    """Return what the study's attribute `confirmed` holds.

    It is a list of mappings: trial, of, fold, the scores of all images as best and base, and since
    they are known the groups of the images.
    """
    found = []
    for one in study.user_attrs.get("confirmed", []):
        best, base, groups = np.array(one["best"]), np.array(one["base"]), one.get("groups")
        other = {"mean": float(base.mean()), "image_scores": base}
        mean, ends = float(best.mean()), interval(best, groups)
        gain = gain_over(BASE, other, mean, best, groups)
        over = resampling(len(best), groups)
        found.append(
            Confirmation(one["trial"], one["of"], one["fold"], mean, *ends, over=over, gain=gain)
        )
    return found
