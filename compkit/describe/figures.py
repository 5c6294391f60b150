"""Pictures of a competition's data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from skimage.color import gray2rgb

from compkit.describe.colours import coloured
from compkit.describe.statistics import Regions
from compkit.files import replacing
from compkit.pixels import as_shown

_BARS, _MARK = "#64748b", "#c2410c"
_COLUMNS = 3  # of the gallery
_LETTERS = 24  # of an image's name there
_PANEL = 2.3  # inches, the side of one image there


def draw_statistics(images: Sequence[Regions], path: Path) -> None:
    """Draw histograms of regions per image, region sizes and coverage."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    one, two, three = figure.subplots(1, 3)
    counts = np.array([len(image.areas) for image in images])
    step = -(-int(np.ptp(counts) + 1) // 40)  # few enough bars to be seen
    edges = np.arange(counts.min(), counts.max() + step + 1, step) - 0.5
    _histogram(one, counts, edges, f"{np.median(counts):g}")
    one.set(xlabel="regions in an image", ylabel="images")
    one.xaxis.set_major_locator(MaxNLocator(integer=True))
    shares = 100 * np.concatenate([image.shares for image in images])
    low, high = np.log10(shares.min()), np.log10(shares.max())
    _histogram(two, shares, np.logspace(low - 0.02, high + 0.02, 31), f"{np.median(shares):.2g} %")
    two.set(xscale="log", xlabel="area of a region, % of the image", ylabel="regions")
    two.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    two.xaxis.set_minor_formatter(NullFormatter())
    coverage = 100 * np.array([image.coverage for image in images])
    ends = np.histogram_bin_edges(coverage, bins=20)
    _histogram(three, coverage, ends, f"{np.median(coverage):.3g} %")
    three.set(xlabel="labelled pixels, % of the image", ylabel="images")
    _save(figure, path, dpi=110)


def draw_gallery(slices: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw slices (name, image, label map (H, W)), each beside its regions."""
    columns = min(_COLUMNS, len(slices))
    rows = -(-len(slices) // columns)
    size = (columns * (2 * _PANEL + 0.2), rows * (_PANEL + 0.3))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, image, regions) in zip(axes, slices, strict=False):
        image = as_shown(image)
        gap = np.ones((len(image), max(1, len(image) // 64), 3))
        plain = (gray2rgb(image) if image.ndim == 2 else image) / 255
        axis.imshow(np.concatenate([plain, gap, coloured(regions, image)], axis=1))
        count = len(np.unique(regions[regions > 0]))
        short = name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…"
        axis.set_title(f"{short}: {count} region{'s' * (count != 1)}", fontsize=9)
    _save(figure, path, dpi=120)


def _histogram(axes: Axes, values: np.ndarray, edges: np.ndarray, median: str) -> None:
    axes.hist(values, bins=list(edges), color=_BARS, edgecolor="white", linewidth=0.5)
    axes.axvline(float(np.median(values)), color=_MARK, ls="--", lw=1.5, label=f"median {median}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(" ")  # room for the legend, which must not lie on the bars
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
