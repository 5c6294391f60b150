"""Reconstructions beside what they are of, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from compkit.files import replacing


def draw_reconstructions(
    images: np.ndarray, shown: np.ndarray, answers: np.ndarray, hides: bool, path: Path
) -> None:
    """Draw a row an image: the image, what the network saw, and what it made of that.

    Parameters
    ----------
    images, shown, answers : ndarray of float32, shape (N, H, W)
        Grey values from 0 to 1.
    hides : bool
        Whether the network saw a part of the images alone; else the middle column is left out.
    path : Path
        The PNG to write.
    """
    columns = {"image": images, "what the network saw": shown, "hidden windows filled in": answers}
    if not hides:
        columns = {"image": images, "reconstruction": answers}
    size = (2.0 * len(columns), 2.0 * len(images) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize="small")
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[row, column].set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
