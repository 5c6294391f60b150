"""Print the tables of docs/results.md that records of `benchmarks/sweep.py` support, as Markdown.

    python benchmarks/answers.py [--sweep FILE] [--records FILE]

Scores are out of fold: means over images and seeds. Intervals (95 %) resample groups of images, of
the mean over seeds; `over` is how far a variant is above the first of its table, image by image, on
seeds that both have; a mean of networks, above the mean of its members' scores. The test's score
(of phantoms, whose truth is known) is of the mean of all networks of a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml
from records import Record, read_records

from compkit.intervals import shown
from compkit.metrics.bootstrap import interval
from compkit.metrics.rand import METRICS

HERE = Path(__file__).parent
COLUMNS = (
    "variant", "seeds", "adjusted_all", "over", "adj. fg", "plain fg", "tuned for fg", "test"
)  # fmt: skip


SWEEP, RECORDS = HERE / "sweeps" / "answers.yaml", HERE / "records" / "answers.jsonl"


def tables(sweep: Path = SWEEP, kept: Path = RECORDS) -> list[str]:
    """Return each table of a sweep that its records support, with its heading."""
    spec = yaml.safe_load(sweep.read_text())["tables"]
    records = read_records([kept])
    found = []
    for data in dict.fromkeys(one.data for one in records):
        here = [one for one in records if one.data == data]
        for title, variants in spec.items():
            rows = [[one for one in here if one.variant == name] for name in variants]
            if rows[0] and sum(map(bool, rows)) > 1:
                found.append(_table(title, data, [row for row in rows if row], here))
    return found


def _table(title: str, data: str, rows: list[list[Record]], here: list[Record]) -> str:
    groups = len(set(rows[0][0].groups))
    images = len(rows[0][0].groups)
    lines = [f"**{title}** ({data.split(':')[0]}: {images} images in {groups} groups)", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cells(row, rows[0], here))} |" for row in rows]
    return "\n".join(lines)


def _cells(row: list[Record], first: list[Record], here: list[Record]) -> list[str]:
    ranked, fg, plain = METRICS
    values = _mean([one.scores[ranked] for one in row])
    ends = shown(interval(values, row[0].groups), ".3f")
    pairs = [
        np.asarray(one.scores[ranked]) - _mean([other.scores[ranked] for other in against])
        for one in row
        if (against := _compared(one, first, here))
    ]
    over = "" if row is first else _over(np.mean(pairs, axis=0), row[0].groups)
    tests = [one.test[ranked] for one in row if one.test]
    return [
        row[0].variant,
        str(len(row)),
        f"{values.mean():.3f} ({ends})",
        over,
        f"{_mean([one.scores[fg] for one in row]).mean():.3f}",
        f"{_mean([one.scores[plain] for one in row]).mean():.3f}",
        f"{_mean([one.other[fg] for one in row]).mean():.3f}",
        f"{_mean(tests).mean():.3f}" if tests else "",
    ]


def _compared(one: Record, first: list[Record], here: list[Record]) -> list[Record]:
    """Return what is compared with: of a mean its members, else the first row of its seed."""
    if len(one.runs) == 1:
        return [other for other in first if other.seed == one.seed]
    return [other for other in here if len(other.runs) == 1 and other.runs[0] in one.runs]


def _over(values: np.ndarray, groups: list[str]) -> str:
    return f"{values.mean():+.3f} ({shown(interval(values, groups), '+.3f')})"


def _mean(seeds: list[list[float]]) -> np.ndarray:
    """Return the score of every image, the mean over seeds."""
    return np.mean(seeds, axis=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sweep", type=Path, default=SWEEP)
    parser.add_argument("--records", type=Path, default=RECORDS)
    a = parser.parse_args()
    print("\n\n".join(tables(a.sweep, a.records)))
