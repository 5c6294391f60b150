"""Score submissions against true labels, for people or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compkit.competition.base import Table
from compkit.competition.table import read_table
from compkit.display import print_table, print_text
from compkit.errors import CompkitError
from compkit.files import json_text
from compkit.intervals import resampling, shown
from compkit.metrics.named import beside
from compkit.progress import say
from compkit.submission.report import Report, score_tables


def score(
    submissions: Sequence[Path], truth: Path, as_json: bool = False, metrics: Sequence[str] = ()
) -> None:
    """Print the leaderboard's metrics, and the other measures, of some submissions.

    Parameters
    ----------
    submissions : sequence of Path
        CSVs in the submission's format.
    truth : Path
        The CSV of true labels, in the same format.
    as_json : bool
        Print one object a submission (in a list if there are several), with intervals and
        every image.
    metrics : sequence of str
        Which of those that are added to show, too.

    Raises
    ------
    CompkitError
        If a file is not what it should be, or they differ in images or size. Images without
        labels, all zero in `truth`, may be absent from all submissions alike.
    """
    shown_first = beside(*metrics)
    wanted = read_table(truth)
    reports: dict[str, Report] = {}
    for path in submissions:
        found = read_table(path)
        reports[str(path)] = score_tables(_labelled(wanted, found), found, str(path), shown_first)
    _say_left_out(reports, len(wanted.images), truth)
    if as_json:
        values = [{"submission": name, **report.as_dict()} for name, report in reports.items()]
        print_text(json_text(values if len(values) > 1 else values[0]))
        return
    measures = next(iter(reports.values())).scores
    others = [name for name in measures if name not in shown_first]
    over = resampling(len(next(iter(reports.values())).images), None)
    _show(f"leaderboard metrics: mean over images (95 %: {over})", shown_first, reports, True)
    pixels = [name for name in others if name.startswith("pixel_")]
    _show("foreground mask", pixels, reports, False)
    _show("regions matched one to one", [n for n in others if n not in pixels], reports, False)
    _show_sizes(reports)


def _labelled(truth: Table, prediction: Table) -> Table:
    """Return the truth without the images that have no labels in it and no prediction."""
    present = set(prediction.images)
    kept = [
        place
        for place, (name, labels) in enumerate(zip(truth.images, truth.labels, strict=True))
        if name in present or labels.any()
    ]
    if len(kept) == len(truth.images):
        return truth
    return Table(tuple(truth.images[place] for place in kept), truth.labels[kept])


def _say_left_out(reports: dict[str, Report], count: int, truth: Path) -> None:
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


def _show(title: str, measures: Sequence[str], reports: dict[str, Report], intervals: bool) -> None:
    rows = [[name, *(_cell(r, m, intervals) for m in measures)] for name, r in reports.items()]
    print_table(title, ["submission", *measures], rows)


def _show_sizes(reports: dict[str, Report]) -> None:
    classes = next(iter(reports.values())).by_size
    columns = ["submission", *(f"{name} ({count})" for name, (count, _) in classes.items())]
    rows = [
        [where, *(f"{iou:.4f}" for _, iou in report.by_size.values())]
        for where, report in reports.items()
    ]
    print_table("IoU of true regions by their share of the image (how many)", columns, rows)


def _cell(report: Report, measure: str, with_interval: bool) -> str:
    text = f"{report.means[measure]:.4f}"
    if with_interval:
        text += f" ({shown(report.intervals[measure], '.3f')})"
    return text
