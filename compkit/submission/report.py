"""The local leaderboard: every measure of a set of predicted label maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compkit.competition.base import Table, require_images
from compkit.errors import CompkitError
from compkit.intervals import known
from compkit.metrics.bootstrap import interval, mean
from compkit.metrics.named import image_scores
from compkit.metrics.pixels import pixel_scores
from compkit.metrics.rand import METRICS, contingency
from compkit.metrics.regions import SIZE_NAMES, Matched, match_regions
from compkit.progress import track


@dataclass(frozen=True)
class Report:
    """Scores of several images.

    Attributes
    ----------
    images : tuple of str
        Image names.
    scores : dict of str to ndarray of float64, shape (N,)
        One value an image, by measure: the metrics, which may be NaN, then the measures of pixels
        and regions as ``pixel_…`` and ``region_…``.
    region_sizes, region_ious : ndarray, shape (R,)
        Of every true region of every image: its class of `compkit.metrics.regions.SIZE_NAMES`, and
        the IoU with the predicted region that it is matched to (0 without one).
    """

    images: tuple[str, ...]
    scores: dict[str, np.ndarray]
    region_sizes: np.ndarray
    region_ious: np.ndarray

    @cached_property
    def means(self) -> dict[str, float]:
        """The mean over images, by measure."""
        return {name: float(mean(values)) for name, values in self.scores.items()}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """The 95 % bootstrap interval of the mean, by measure; None for a single image."""
        return {name: known(interval(values)) for name, values in self.scores.items()}

    @property
    def by_size(self) -> dict[str, tuple[int, float]]:
        """By class of region size: how many true regions there are, and their mean IoU."""
        chosen = {name: self.region_sizes == i for i, name in enumerate(SIZE_NAMES)}
        return {
            name: (int(inside.sum()), float(self.region_ious[inside].mean()))
            for name, inside in chosen.items()
            if inside.any()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        plain = [[known(value) for value in values.tolist()] for values in self.scores.values()]
        per_image = zip(*plain, strict=True)
        return {
            "means": self.means,
            "intervals": self.intervals,
            "region_iou_by_size": {
                name: {"regions": count, "iou": iou} for name, (count, iou) in self.by_size.items()
            },
            "per_image": {
                image: dict(zip(self.scores, values, strict=True))
                for image, values in zip(self.images, per_image, strict=True)
            },
        }


def score_image(
    truth: np.ndarray, prediction: np.ndarray, metrics: Sequence[str] = METRICS
) -> tuple[dict[str, float], Matched]:
    """Return every measure of one image, and its regions matched one to one.

    Parameters
    ----------
    truth, prediction : integer ndarray, shape (H, W)
        Region ids; 0 is background.
    """
    table = contingency(truth, prediction)
    matched = match_regions(table)
    pixels = {f"pixel_{name}": value for name, value in pixel_scores(truth, prediction).items()}
    regions = {f"region_{name}": value for name, value in matched.scores.items()}
    return image_scores(truth, prediction, metrics, table) | pixels | regions, matched


def score_tables(
    truth: Table, prediction: Table, where: str, metrics: Sequence[str] = METRICS
) -> Report:
    """Score predicted label maps against the true ones.

    Parameters
    ----------
    truth, prediction : Table
        Of the same images in the same order, of one size.
    where : str
        What the prediction is called in an error, usually its path.
    metrics : sequence of str
        Which.

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
    return report_of(truth.images, track(pairs, "scoring", len(truth.images)), metrics)


def report_of(
    images: tuple[str, ...],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    metrics: Sequence[str] = METRICS,
) -> Report:
    """Return the report of true and predicted label maps, (H, W) each, one pair an image."""
    rows, matches = zip(*(score_image(*pair, metrics) for pair in pairs), strict=True)
    return Report(
        images,
        {name: np.array([row[name] for row in rows]) for name in rows[0]},
        np.concatenate([matched.sizes for matched in matches]),
        np.concatenate([matched.ious for matched in matches]),
    )
