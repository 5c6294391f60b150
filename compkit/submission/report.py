"""The local leaderboard: every measure of a set of predicted label maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compkit.competition.base import Table
from compkit.errors import CompkitError
from compkit.metrics.bootstrap import interval
from compkit.metrics.pixels import pixel_scores
from compkit.metrics.rand import contingency, table_scores
from compkit.metrics.regions import region_scores
from compkit.progress import track
from compkit.submission.check import require_images


@dataclass(frozen=True)
class Report:
    """Scores of several images.

    Attributes
    ----------
    images : tuple of str
        Image names.
    scores : dict of str to ndarray of float64, shape (N,)
        One value an image, by measure: the metrics of `compkit.metrics.rand`, then those of
        pixels and regions as ``pixel_…`` and ``region_…``.
    """

    images: tuple[str, ...]
    scores: dict[str, np.ndarray]

    @cached_property
    def means(self) -> dict[str, float]:
        """The mean over images, by measure."""
        return {name: float(values.mean()) for name, values in self.scores.items()}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of the mean, by measure."""
        return {name: interval(values) for name, values in self.scores.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        per_image = zip(*(values.tolist() for values in self.scores.values()), strict=True)
        return {
            "means": self.means,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "per_image": {
                image: dict(zip(self.scores, values, strict=True))
                for image, values in zip(self.images, per_image, strict=True)
            },
        }


def score_image(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Return every measure of one image.

    Parameters
    ----------
    truth, prediction : integer ndarray, shape (H, W)
        Region ids; 0 is background.
    """
    table = contingency(truth, prediction)
    pixels = {f"pixel_{name}": value for name, value in pixel_scores(truth, prediction).items()}
    regions = {f"region_{name}": value for name, value in region_scores(table).items()}
    return table_scores(table) | pixels | regions


def score_tables(truth: Table, prediction: Table, where: str) -> Report:
    """Score predicted label maps against the true ones.

    Parameters
    ----------
    truth, prediction : Table
        Of the same images in the same order, of one size.
    where : str
        What the prediction is called in an error, usually its path.

    Raises
    ------
    CompkitError
        If images or sizes differ.
    """
    require_images(prediction.images, truth.images, where)
    (_, *wanted), (_, *found) = truth.labels.shape, prediction.labels.shape
    if wanted != found:
        raise CompkitError(
            f"{where} has images of {found[0]}×{found[1]} pixels, but the true ones are of "
            f"{wanted[0]}×{wanted[1]}"
        )
    pairs = zip(truth.labels, prediction.labels, strict=True)
    rows = [score_image(*pair) for pair in track(pairs, "scoring", len(truth.images))]
    return Report(truth.images, {name: np.array([row[name] for row in rows]) for name in rows[0]})
