"""Pictures of a study as SVG elements, to stand in a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from compkit.tuning.evidence import Effect
from compkit.tuning.findings import Findings

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
}
_SIZE = (4.4, 3.0)
_TIED, _OTHER, _MEAN = "#c2410c", "#64748b", "#111827"
#: Longer words do not fit at an axis.
_WORD = 22


def history(findings: Findings) -> str:
    """Draw all trials in order, and the best score so far."""
    events, low = findings.events, _floor(findings)

    def draw(axes: Axes) -> None:
        done = events["value"].dropna()
        _points(axes, done.index.to_numpy(), done, findings, low)
        best = done.cummax()
        axes.step(best.index, np.maximum(best, low), where="post", color=_MEAN, lw=1, label="best")
        for state, mark in (("pruned", "|"), ("failed", "x")):
            numbers = events.index[events["state"] == state]
            if len(numbers):
                bottom = axes.get_xaxis_transform()
                axes.plot(numbers, np.full(len(numbers), 0.03), mark, color=_OTHER, label=state,
                          transform=bottom, ms=5)  # fmt: skip
        for number, gain in enumerate(findings.baselines):
            label = f"{_clip(gain.name)}, {gain.mean:.3f}"  # a low one stands at the edge
            axes.axhline(max(gain.mean, low), color="#2563eb", lw=1, label=label,
                         ls=("--", ":", "-.")[number % 3])  # fmt: skip
        axes.set(xlabel="trial", ylabel="score")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.figure.legend(loc="outside upper left", ncols=3, fontsize="small")

    return _svg("history", "scores of all trials in order", _SIZE, draw)


def curve(name: str, found: Effect, findings: Findings) -> str:
    """Draw scores against one parameter, with the means and standard errors of bins."""
    low = _floor(findings)

    def draw(axes: Axes) -> None:
        score = found.trials.set_index("number")["score"]
        _scale_x(axes, found.trials["x"].to_numpy(float), findings.scales.get(name, "log"))
        _points(axes, found.trials["x"].to_numpy(float), score, findings, low)
        bins = found.bins
        if len(bins) > 1:
            axes.errorbar(bins["middle"], bins["mean"], bins["error"].fillna(0), color=_MEAN,
                          lw=1.2, capsize=3, marker="s", ms=4, label="mean ± s.e.")  # fmt: skip
        axes.set(xlabel=f"{found.symbol} ({name})", ylabel="score", ylim=_limits(findings))
        axes.figure.legend(loc="outside upper left", ncols=3, fontsize="small")

    return _svg(f"curve-{found.symbol}", f"score against {found.symbol}", _SIZE, draw)


def slices(findings: Findings) -> list[str]:
    """Draw scores against each parameter that varies and has no curve of its own."""
    names, low = findings.labels, _floor(findings)
    pictures = []
    for number, name in enumerate(findings.varying):
        if name in findings.curves:
            continue
        values = findings.params[name].dropna()
        score = findings.trials.loc[values.index, "value"]

        def draw(
            axes: Axes, name: str = name, values: pd.Series = values, score: pd.Series = score
        ) -> None:
            if findings.scales[name] == "category":
                levels = _levels(values)
                places = values.map(lambda one: levels.index(str(one))).to_numpy(float)
                shift = np.random.default_rng(0).uniform(-0.2, 0.2, len(places))
                _points(axes, places + shift, score, findings, low)
                tilt = sum(len(_clip(level)) for level in levels) > 30
                axes.set_xticks(range(len(levels)), [_clip(level) for level in levels],
                                rotation=25 if tilt else 0, ha="right" if tilt else "center",
                                rotation_mode="anchor" if tilt else "default")  # fmt: skip
            else:
                x = values.to_numpy(float)
                _scale_x(axes, x, findings.scales[name])
                _points(axes, x, score, findings, low)
            axes.set(xlabel=names[name], ylabel="score", ylim=_limits(findings))

        pictures.append(_svg(f"slice-{number}", f"score against {name}", (3.6, 2.6), draw))
    return pictures


def parallel(findings: Findings) -> str:
    """Draw every trial as a line through its parameters to its score; the best lie on top."""
    names = findings.varying
    places = [_places(findings.params[name], findings.scales[name]) for name in names]
    score = findings.trials["value"]
    low = _floor(findings)
    height = (score.clip(lower=low).to_numpy() - low) / ((score.max() - low) or 1)
    below = "≤ " if score.min() < low else ""
    ends = [(f"{below}{low:.3g}", 0.0), (f"{score.max():.3g}", 1.0)]
    columns = [*(place for place, _ in places), height]
    ticks = [*(tick for _, tick in places), ends if score.max() > low else ends[:1]]
    lines = np.stack([np.broadcast_to(np.arange(len(columns)), (len(score), len(columns))),
                      np.column_stack(columns)], axis=-1)[::-1]  # fmt: skip
    tied = findings.trials["tied"].to_numpy()[::-1]

    def draw(axes: Axes) -> None:
        colors = mpl.colormaps["Greys"](0.2 + 0.6 * height[::-1])
        colors[tied] = mpl.colors.to_rgba(_TIED, 0.6)
        colors[-1] = mpl.colors.to_rgba(_MEAN)
        widths = [*np.full(len(lines) - 1, 1), 2]
        axes.add_collection(LineCollection(list(lines), colors=colors, linewidths=widths))
        for number in range(len(columns)):
            axes.axvline(number, color="#9ca3af", lw=0.8)
        paper = {"facecolor": "white", "alpha": 0.75, "pad": 0.6, "lw": 0}
        for number, tick in enumerate(ticks):
            for word, place in tick:
                axes.text(number + 0.03, place, _clip(word), fontsize=8, va="center", bbox=paper)
        labels = [_clip(findings.labels[name]) for name in names]
        axes.set_xticks(range(len(columns)), [*labels, "score"], rotation=20, ha="right",
                        rotation_mode="anchor")  # fmt: skip
        axes.set(xlim=(-0.05, len(columns) - 0.3), ylim=(-0.22, 1.06), yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return _svg("parallel", "parameters and scores of all trials", (1.2 + 1.1 * len(columns), 3.8),
                draw)  # fmt: skip


def _places(values: pd.Series, scale: str) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Return where values cross their axis, 0 to 1, and its labels; absent ones below it."""
    have = values.notna().to_numpy()
    place = np.full(len(values), -0.15)
    absent = [] if have.all() else [("none", -0.15)]
    if scale == "category":
        levels = _levels(values[have])
        step = 1 / max(len(levels) - 1, 1)
        place[have] = [levels.index(str(one)) * step for one in values[have]]
        return place, [*absent, *((level, index * step) for index, level in enumerate(levels))]
    x = values[have].to_numpy(float)
    ends = np.array([x.min(), x.max()])
    bend = np.log if scale == "log" else np.asarray
    width = np.ptp(bend(ends)) or 1.0
    place[have] = (bend(x) - bend(ends)[0]) / width
    labels = [(f"{end:.3g}", place) for end, place in zip(ends, (0.0, 1.0), strict=True)]
    return place, [*absent, *(labels if ends[1] > ends[0] else labels[:1])]


def _levels(values: pd.Series) -> list[str]:
    return sorted({str(one) for one in values})


def _clip(word: str) -> str:
    return word if len(word) <= _WORD else word[: _WORD - 1] + "…"


def _floor(findings: Findings) -> float:
    """Return the lowest score worth drawing: a few disasters must not flatten all the rest."""
    score = findings.trials["value"]
    if not len(score):
        return 0.0
    low, middle, high = score.quantile([0.1, 0.5, 1])
    return float(max(score.min(), middle - 2 * max(high - middle, middle - low)))


def _limits(findings: Findings) -> tuple[float, float]:
    low, high = _floor(findings), findings.trials["value"].max()
    margin = 0.06 * (high - low) or 0.01
    return low - margin, high + margin


def _points(axes: Axes, x: np.ndarray, score: pd.Series, findings: Findings, low: float) -> None:
    """Scatter trials: those tied with the best in colour, those below the picture as arrows."""
    tied = findings.trials["tied"].reindex(score.index).to_numpy(bool)
    below = score.to_numpy() < low
    height = np.maximum(score.to_numpy(), low)
    for which, color, mark, label in (
        (~tied & ~below, _OTHER, "o", "complete"),
        (tied, _TIED, "o", "tied with the best"),
        (below, _OTHER, "v", "lower than drawn"),
    ):
        if which.any():
            axes.plot(x[which], height[which], mark, color=color, ms=4.5, mew=0, alpha=0.75,
                      label=label)  # fmt: skip


def _scale_x(axes: Axes, x: np.ndarray, scale: str) -> None:
    if scale != "log":
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    wide = x.max() > 100 * x.min()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _svg(name: str, label: str, size: tuple[float, float], draw: Callable[[Axes], Any]) -> str:
    """Return the element; its ids begin with `name`, as all pictures of a page share their ids."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", text[text.index("<svg") :])
    words = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{words}"', 1)
