"""How near the phantom is to the challenge, and how fast it is made.

    python benchmarks/phantom.py [--images 400] [--baseline 60] [--timed 500]

Wanted values: the challenge's own statistics, and the scores of the organisers' watershed and of a
perfect foreground mask cut into connected components on real slices.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from scipy import ndimage as ndi

from compkit.baselines.watershed import watershed
from compkit.competition.phantom import PhantomSettings, PhantomSource
from compkit.describe.statistics import measure as measure_regions
from compkit.describe.statistics import summarise
from compkit.display import print_table
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
from compkit.phantom.slices import draw_slice

SIZE = 512
SEED = 0
WANTED = {
    "regions an image": "18 ± 7",
    "pixels labelled, %": "19",
    "mean region, % of the image": "1",
    "images with a region over 10 %, %": "20",
    "regions that touch another, %": "65 on real slices (ct-mini)",
    "patients among the images, %": "25 to 50 (2 to 4 slices each)",
    "watershed adjusted_all": "0.14 to 0.3",
    "watershed adjusted_foreground": "about 0.5",
    "watershed plain_foreground": "about 0.9",
    "perfect mask adjusted_all": "0.99",
    "perfect mask adjusted_foreground": "0.6",
    "perfect mask plain_foreground": "0.85",
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400, help="measured for the statistics")
    parser.add_argument("--baseline", type=int, default=60, help="given to the watershed")
    parser.add_argument("--timed", type=int, default=500, help="written against the clock")
    arguments = parser.parse_args()
    seconds = timed(arguments.timed)
    one = [(index, index < arguments.baseline) for index in range(arguments.images)]
    rows = joblib.Parallel(-1)(joblib.delayed(measure)(*each) for each in one)
    cells = [[name, value, WANTED[name]] for name, value in summary(rows).items()]
    cells.append(
        [
            f"{arguments.timed} images drawn and written, s",
            f"{seconds:.0f} on {joblib.cpu_count()} cores",
            "60 for 500 on 2 cores",
        ]
    )
    print_table(f"phantom, {SIZE}×{SIZE}, seed {SEED}", ["", "measured", "wanted"], cells)


def timed(count: int) -> float:
    """Return the seconds in which `count` images are drawn and written, start-up included."""
    source = PhantomSource(PhantomSettings(SIZE, test=count, seed=SEED))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        source.draw("test", Path(folder))
        return time.perf_counter() - start


def measure(index: int, baseline: bool) -> dict[str, Any]:
    """Return the statistics and scores of one training image."""
    drawn = draw_slice(SEED, "train", index, SIZE)
    labels = drawn.labels
    row: dict[str, Any] = {"regions": measure_regions(labels), "patient": drawn.patient}
    found = {"perfect mask": ndi.label(labels > 0)[0]}
    if baseline:
        found["watershed"] = watershed(drawn.image)
    for way, regions in found.items():
        scores = image_scores(labels, regions)
        row |= {f"{way} {metric}": scores[metric] for metric in METRICS}
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return what is printed, by name."""
    found = summarise([row["regions"] for row in rows])
    counts, patients = found["regions_per_image"], {row["patient"] for row in rows}
    text = {
        "regions an image": f"{counts['mean']:.1f} ± {counts['sd']:.1f}",
        "pixels labelled, %": f"{100 * found['coverage']['mean']:.1f}",
        "mean region, % of the image": f"{100 * found['region_share']['mean']:.2f}",
        "images with a region over 10 %, %": f"{100 * found['large']['images']:.0f}",
        "regions that touch another, %": f"{100 * found['touching']['share']:.0f}",
        "patients among the images, %": f"{100 * len(patients) / len(rows):.0f}",
    }
    for name in WANTED:
        values = [row[name] for row in rows if name in row]
        if values:
            text[name] = f"{np.mean(values):.3f}"
    return text


if __name__ == "__main__":
    main()
