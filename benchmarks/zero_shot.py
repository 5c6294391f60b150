"""How well structures are found that were never labelled in training, on the phantom's test.

    python benchmarks/zero_shot.py --data phantom:size=128,labelled=60,test=40 submissions/x.csv ...

Each true region is matched one to one with predicted ones; regions are told apart by their kind:
labelled in training and test, or in the test only. Found means an IoU of at least a half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from compkit.competition.phantom import PhantomSettings
from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS, contingency
from compkit.metrics.regions import match_regions
from compkit.phantom.kinds import KINDS, TEST_ONLY
from compkit.phantom.slices import Slice, draw_slice

GROUPS = ("labelled in training", "never labelled in training")


def main() -> None:
    """Score submissions on the phantom's test, regions by whether training labelled their kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("submissions", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    a = parser.parse_args()
    settings = PhantomSettings.parse(a.data)
    slices = [draw_slice(settings.seed, "test", i, settings.size) for i in range(settings.test)]
    rows = []
    for path in a.submissions:
        scores = []
        ious: list[list[float]] = [[], []]
        for drawn, labels in zip(slices, read_table(path).labels, strict=True):
            table = contingency(drawn.labels, labels)
            scores.append(list(image_scores(drawn.labels, labels, table=table).values()))
            for group, iou in zip(_groups(drawn), match_regions(table).ious, strict=True):
                ious[group].append(iou)
        found = [f"{np.mean(np.array(g) >= 0.5):.3f} / {np.mean(g):.3f}" for g in ious]
        rows.append([path.stem, *(f"{mean:.3f}" for mean in np.mean(scores, axis=0)), *found])
    columns = [f"{name}: found / IoU" for name in GROUPS]
    print_table(f"regions of {a.data}", ["submission", *METRICS, *columns], rows)


def _groups(drawn: Slice) -> list[int]:
    """Return for each true region, by increasing id, whether its kind is of the test only."""
    only = [KINDS.index(kind) + 1 for kind in TEST_ONLY]
    ids = [int(i) for i in np.unique(drawn.labels) if i]
    return [int(np.median(drawn.kinds[drawn.labels == i]) in only) for i in ids]


if __name__ == "__main__":
    main()
