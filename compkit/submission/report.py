"""The local leaderboard: every measure of predicted label maps, for people or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from compkit.competition import competition_of
from compkit.competition.base import HIGHEST, require_images
from compkit.data.store import open_store
from compkit.display import print_table, print_text
from compkit.errors import CompkitError
from compkit.files import json_text
from compkit.intervals import known, resampling, shown
from compkit.labels.run_lengths import Shapes
from compkit.metrics.bootstrap import interval, mean
from compkit.metrics.named import beside, image_scores, mean_over_annotators
from compkit.metrics.rand import METRICS, contingency
from compkit.metrics.regions import SIZE_NAMES, Matched, match_regions, pixel_scores
from compkit.progress import say, track
from compkit.submission.forms import Form, UntoldForm, form_of


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
        table = pd.DataFrame(self.scores, list(self.images)).astype(object)
        return {
            "means": self.means,
            "intervals": self.intervals,
            "region_iou_by_size": {
                name: {"regions": count, "iou": iou} for name, (count, iou) in self.by_size.items()
            },
            "per_image": table.where(table.notna(), None).to_dict("index"),
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


def score_maps(
    truth: Mapping[str, np.ndarray],
    prediction: Mapping[str, np.ndarray],
    where: str,
    metrics: Sequence[str] = METRICS,
    unit: str = "column",
) -> Report:
    """Score predicted label maps against the true ones.

    Parameters
    ----------
    truth, prediction : mapping of str to integer ndarray, shape (H, W)
        Of the same images in the same order; truth of several annotators is (A, H, W).
    where, unit : str
        What the prediction is called in an error, usually its path, and what an image is there.

    Raises
    ------
    CompkitError
        If images or sizes differ.
    """
    require_images(list(prediction), list(truth), where, unit)
    for name, wanted in truth.items():
        if wanted.shape[-2:] != (found := prediction[name].shape):
            raise CompkitError(
                f"{where} has images of {found[0]}×{found[1]} pixels, but the true ones are of "
                f"{wanted.shape[-2]}×{wanted.shape[-1]}"
            )
    pairs = zip(truth.values(), prediction.values(), strict=True)
    return report_of(tuple(truth), track(pairs, "scoring", len(truth)), metrics)


def report_of(
    images: tuple[str, ...],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    metrics: Sequence[str] = METRICS,
) -> Report:
    """Return the report of true and predicted label maps, (H, W) each, one pair an image.

    Truth of several annotators, (A, H, W), gives the mean over them, and the regions of all.
    """
    rows, matches = list[dict[str, float]](), list[Matched]()
    for truth, prediction in pairs:
        truths = truth if truth.ndim > prediction.ndim else truth[None]
        each, matched = zip(*(score_image(t, prediction, metrics) for t in truths), strict=True)
        rows.append(mean_over_annotators(each))
        matches += matched
    return Report(
        images,
        {name: np.array([row[name] for row in rows]) for name in rows[0]},
        np.concatenate([matched.sizes for matched in matches]),
        np.concatenate([matched.ious for matched in matches]),
    )


def score(
    submissions: Sequence[Path],
    truths: Sequence[Path],
    as_json: bool = False,
    metrics: Sequence[str] = (),
    data: str | None = None,
) -> None:
    """Print the leaderboard's metrics, and the other measures, of some submissions.

    Parameters
    ----------
    submissions, truths : sequence of Path
        Files in the submission's form. Of several truths, an annotator each, the mean is told; an
        image counts those that hold it.
    as_json : bool
        Print one object a submission (in a list if there are several), with intervals and
        every image.
    metrics : sequence of str
        Which of those that are not always told to show, too.
    data : str, optional
        The competition's data, whose form of submissions, and what ranks, is taken; by default the
        files are tables of pixels.

    Raises
    ------
    CompkitError
        If a file is not what it should be, or they differ in images or size. Images without
        labels, all zero in `truths`, may be absent from all submissions alike.
    """
    form, shapes, told = _asked(data)
    shown_first = tuple(dict.fromkeys([*told, *metrics]))
    measured = beside(*shown_first)
    wanted = _in_order(_truth(truths, form, shapes), shapes)
    reports: dict[str, Report] = {}
    for path in submissions:
        found = _in_order(form.read(path, shapes, HIGHEST), shapes)
        labelled = {name: one for name, one in wanted.items() if name in found or one.any()}
        reports[str(path)] = score_maps(labelled, found, str(path), measured, form.unit)
    _say_left_out(reports, len(wanted), ", ".join(map(str, truths)))
    if as_json:
        values = [{"submission": name, **report.as_dict()} for name, report in reports.items()]
        print_text(json_text(values if len(values) > 1 else values[0]))
        return
    _show(reports, shown_first)


def _truth(paths: Sequence[Path], form: Form, shapes: Shapes) -> dict[str, np.ndarray]:
    """Return the true label maps of all images, (H, W), or (A, H, W) where there are several."""
    if len(paths) == 1:
        return form.read(paths[0], shapes, HIGHEST)
    found: dict[str, list[np.ndarray]] = {}
    for path in paths:
        for name, labels in form.read(path, shapes, HIGHEST).items():
            maps = found.setdefault(name, [])
            if maps and labels.shape != maps[0].shape:
                raise CompkitError(
                    f"{path} and {paths[0]} hold {name} in other sizes: give truths of one "
                    "competition"
                )
            maps.append(labels)
    return {name: np.stack(maps) for name, maps in found.items()}


def _in_order(labels: dict[str, np.ndarray], shapes: Shapes) -> dict[str, np.ndarray]:
    """Return label maps in the competition's order, if that is known, as no score depends on it."""
    return {name: labels[name] for name in shapes if name in labels} if shapes else labels


def _asked(data: str | None) -> tuple[Form, Shapes, tuple[str, ...]]:
    """Return the form of files, the sizes of images that may be in them, and metrics to tell."""
    if data is None:
        return UntoldForm(), {}, METRICS
    competition = competition_of(data)
    form, store = form_of(competition), open_store(data)
    shapes = dict(store.shapes("train")) | dict(store.shapes("test"))
    return form, shapes if form.tells_names else {}, competition.rules.told()


def _say_left_out(reports: dict[str, Report], count: int, truth: str) -> None:
    """Say how many unlabelled images are left out; refuse to compare scores of other images."""
    (first, one), *others = reports.items()
    for name, other in others:
        if other.images != one.images:
            raise CompkitError(
                f"{first} and {name} hold other images of those that {truth} has no labels of, so "
                "their scores do not compare: score them one by one"
            )
    if left_out := count - len(one.images):
        say(
            f"{left_out} of {count} images are left out: they have no labels in {truth}, and no "
            "column in the submissions"
        )


def _show(reports: dict[str, Report], metrics: Sequence[str]) -> None:
    """Print the means of all measures, a table for each kind."""
    one = next(iter(reports.values()))
    over = resampling(len(one.images), None)
    rows = {
        name: [f"{report.means[m]:.4f} ({shown(report.intervals[m], '.3f')})" for m in metrics]
        for name, report in reports.items()
    }
    _table(f"mean over images (95 %: {over})", metrics, rows)
    for title, kind in (("foreground mask", "pixel_"), ("regions matched one to one", "region_")):
        measures = [name for name in one.scores if name.startswith(kind) and name not in metrics]
        rows = {name: [f"{r.means[m]:.4f}" for m in measures] for name, r in reports.items()}
        _table(title, measures, rows)
    sizes = [f"{name} ({count})" for name, (count, _) in one.by_size.items()]
    rows = {name: [f"{iou:.4f}" for _, iou in r.by_size.values()] for name, r in reports.items()}
    _table("IoU of true regions by their share of the image (how many)", sizes, rows)


def _table(title: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    print_table(title, ["submission", *columns], [[name, *row] for name, row in rows.items()])
