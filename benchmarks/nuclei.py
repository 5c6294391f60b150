"""Heads, sizes, colours and steps compared on nuclei of several sizes and stains.

    python benchmarks/nuclei.py --data DIR

Trains `configs/dsb2018.yaml` on a folder in the layout of Kaggle's Data Science Bowl 2018, and
variants of it, on the same folds. Out-of-fold average precision and panoptic quality, with 95 %
intervals over images, and what a variant adds to the first. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from compkit.data.store import open_store
from compkit.display import print_table
from compkit.intervals import shown
from compkit.metrics.bootstrap import interval
from compkit.pixels import as_grey

ROOT = Path(__file__).absolute().parents[1]
RANKED, BESIDE = "average_precision", "panoptic_quality"

#: Settings of each variant; `grey` is of the data.
VARIANTS: dict[str, dict[str, Any]] = {
    "configs/dsb2018.yaml": {},
    "head affinity": {"head": "affinity"},
    "head foreground": {"head": "foreground"},
    "grey": {"colour": "grey"},
    "at 512 pixels": {"input.size": 512},
    "crops of 256, 120 steps": {
        "input.crop": 256,
        "training.steps": 120,
        "training.steps_per_epoch": 40,
    },
    "900 steps": {"training.steps": 900, "training.steps_per_epoch": 300},
}


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ["COMPKIT_RUNS"] = str(a.out / "runs")
    scores = {name: scored(a, name, VARIANTS[name]) for name in a.only}
    store = open_store(str(a.data))
    dark = [as_grey(store.images[i]).mean() < 128 for i in store.labelled.tolist()]
    names = [store.train[i] for i in store.labelled.tolist()]
    show(scores, dict(zip(names, dark, strict=True)))


def scored(a: argparse.Namespace, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train a variant; return the scores of each image that its networks did not see."""
    run, data = name.replace("configs/dsb2018.yaml", "default").replace(" ", "-"), a.data
    if "colour" in settings:
        data = a.out / f"{run}.yaml"
        layout = yaml.safe_load((ROOT / "compkit/competition/shipped/dsb2018.yaml").read_text())
        layout["images"]["colour"] = settings["colour"]
        data.write_text(yaml.safe_dump(layout | {"folder": str(a.data.resolve())}))
    options = [w for key, value in settings.items() if "." in key or key == "head"
               for w in (f"--{key}", value)]  # fmt: skip
    compkit(
        "train", "--config", ROOT / "configs/dsb2018.yaml", "--data", data, "--run", run, *options
    )
    out = a.out / f"{run}.csv"
    out.unlink(missing_ok=True)
    compkit("oof", "--run", run, "--out", out)
    told = compkit("score", out, "--truth", a.data / "stage1_train_labels.csv", "--data", a.data,
                   "--metric", BESIDE, "--json")  # fmt: skip
    return dict(json.loads(told)["per_image"])


def compkit(*words: object) -> str:
    """Run a command; return what it printed."""
    command = [sys.executable, "-m", "compkit.cli", *map(str, words)]
    print("$ compkit", *map(str, words), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def show(scores: dict[str, dict[str, Any]], dark: dict[str, bool]) -> None:
    """Print scores of all images, the dark and the bright, and what a variant adds to the first."""
    images = [image for image in dark if image in next(iter(scores.values()))]
    is_dark = np.array([dark[image] for image in images])
    first, rows = None, []
    for name, of in scores.items():
        ranked, beside = (np.array([of[i][m] for i in images]) for m in (RANKED, BESIDE))
        first = ranked if first is None else first
        over = ranked - first
        rows.append([
            name, f"{ranked.mean():.3f} ({shown(interval(ranked), '.3f')})",
            "" if first is ranked else f"{over.mean():+.3f} ({shown(interval(over), '+.3f')})",
            f"{ranked[is_dark].mean():.3f}", f"{ranked[~is_dark].mean():.3f}",
            f"{beside.mean():.3f}",
        ])  # fmt: skip
    columns = [
        "",
        RANKED,
        "over the first",
        f"{is_dark.sum()} dark",
        f"{(~is_dark).sum()} bright",
        BESIDE,
    ]
    print_table(f"out of fold, {len(images)} images", columns, rows)


if __name__ == "__main__":
    main()
