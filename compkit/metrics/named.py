"""Metrics by name: those of one contingency table together, and what packages and plugins add.

A metric is a function of the true and the predicted label map of one image, integer (H, W). It
returns a number from −1 to 1, higher being better, or NaN where it says nothing. A score is the
mean over the images of which it says something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compkit.errors import CompkitError
from compkit.metrics.rand import METRICS, OfTable, contingency
from compkit.metrics.regions import MEASURES
from compkit.registry import Registry

_MODULES = {
    "rand": (*METRICS, "probabilistic_rand", "v_rand"),
    "information": ("v_info", "variation_of_information"),
    "instances": ("average_precision", "panoptic_quality", "aggregated_jaccard"),
}

REGISTRY = Registry(
    "compkit.metrics",
    "metric",
    {name: f"compkit.metrics.{m}:{name}" for m, names in _MODULES.items() for name in names},
)


#: What tables and files of ours call something else beside a metric.
_TAKEN = (
    "epoch", "step", "loss", "unlabelled_loss", "score", "made", "submission", "sha256", "runs",
    "members", "low", "high", "public", "private",
    *(f"{of}_{measure}" for of in ("pixel", "region") for measure in MEASURES),
)  # fmt: skip


def beside(*names: str) -> tuple[str, ...]:
    """Return the metrics that are measured where these are asked for: the Rand indices, and these.

    Raises
    ------
    CompkitError
        If there is no such metric, or it cannot be called so.
    """
    for name in names:
        REGISTRY.require(name)
        if name in _TAKEN:
            raise CompkitError(f"no metric can be called {name!r}, as a column is: rename it")
    return tuple(dict.fromkeys([*METRICS, *names]))


def image_scores(
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str] = METRICS,
    table: np.ndarray | None = None,
) -> dict[str, float]:
    """Return the metrics of one image by name.

    Parameters
    ----------
    truth : integer ndarray, shape (H, W) or (A, H, W)
        Region ids; 0 is background. Of several annotators, a metric is its mean over those of
        whom it says something.
    prediction : integer ndarray, shape (H, W)
    table : ndarray of int64, optional
        Their contingency table, if it is there already.

    Raises
    ------
    CompkitError
        If there is no such metric, or what it returns is none.
    """
    if truth.ndim > prediction.ndim:
        return mean_over_annotators([image_scores(one, prediction, names) for one in truth])
    table = contingency(truth, prediction) if table is None else table
    scores = {}
    for name in names:
        metric = REGISTRY.get(name)
        with REGISTRY.blaming(name, "cannot be computed"):
            of_table = isinstance(metric, OfTable)
            scores[name] = metric.of_table(table) if of_table else float(metric(truth, prediction))
        if not (-1 <= scores[name] <= 1 or math.isnan(scores[name])):
            raise CompkitError(
                f"the metric {name!r} is {scores[name]:g} of an image, but must be from -1 to 1, "
                "or NaN where it says nothing: correct it"
            )
    return scores


def image_score(truth: np.ndarray, prediction: np.ndarray, name: str) -> float:
    """Return one metric of one image, as `image_scores` does."""
    return image_scores(truth, prediction, [name])[name]


def mean_over_annotators(each: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each value of an image over its annotators but NaN, or NaN."""
    said = {name: [one[name] for one in each if not math.isnan(one[name])] for name in each[0]}
    return {name: float(np.mean(values)) if values else math.nan for name, values in said.items()}
