"""The loss curve of one fit, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from compkit.files import replacing
from compkit.metrics.rand import METRICS


def draw_curve(
    rows: Sequence[dict[str, float]],
    title: str,
    path: Path,
    names: Sequence[str] = METRICS,
    label: str = "score on the validation fold",
) -> None:
    """Draw training loss and validation scores against optimiser steps into a PNG.

    `names` are those of the scores in `rows`, and `label` says what they are.
    """
    history = pd.DataFrame(rows)
    figure = Figure(figsize=(8, 3), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot(history["step"], history["loss"])
    losses.set(xlabel="step", ylabel="training loss", title=title)
    for name in names:
        scores.plot(history["step"], history[name], label=name.replace("_", ", "))
    scores.set(xlabel="step", ylabel=label, ylim=(0, 1))
    scores.legend(loc="lower right", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
