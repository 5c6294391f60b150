"""What public volumes of other patients are worth, at equal steps, and how much imitation matters.

    python benchmarks/volumes.py
    python benchmarks/volumes.py --data DIR --source VOLUMES --turn vflip

Each variant trains three folds. With volumes, one network learns from their slices first, and the
folds start from it; the steps of both are what labels alone get. Or their slices are half of every
batch. Scores are out of fold, with the
standard error of the difference to labels alone over groups of near-duplicates, and of the
phantom's test. A second table tells how many of the test's true regions a predicted one overlaps by
half, of kinds that training labels and of each that it never does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compkit.competition.table import read_table
from compkit.display import print_table
from compkit.metrics.bootstrap import standard_error
from compkit.phantom.kinds import KINDS, LABELLED, TEST_ONLY
from compkit.phantom.slices import Slice, draw_slice

#: Ends the name of a variant in every batch under which the target's own background counts less.
LESS = ", own background a tenth"

METRICS = ("adjusted_all", "adjusted_foreground", "plain_foreground")

#: What an import of each variant is given.
IMPORTS: dict[str, list[str]] = {
    "volumes, like the target": ["--like", "DATA"],
    "and only organs that its labels show": ["--like", "DATA", "--organs", "shown"],
    "upside down": ["--like", "DATA", "--turn", "vflip"],
    "window of -1000 to 1000": ["--like", "DATA", "--window", "-1000", "1000"],
    "half the pixel size": ["--like", "DATA", "--spacing", "HALF"],
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a target; a phantom of 46 slices if not given")
    parser.add_argument("--source", type=Path, help="volumes; 20 phantom patients if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/volumes"))
    parser.add_argument("--steps", type=int, default=450, help="of each fold, after the volumes")
    parser.add_argument("--first", type=int, default=450, help="on the volumes")
    parser.add_argument("--slices", type=int, default=40, help="of a volume")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--only", nargs="*", default=list(IMPORTS), help="which imports are learnt first"
    )
    everything, shown = list(IMPORTS)[:2]
    parser.add_argument(
        "--beside", nargs="*", default=[everything, shown, everything + LESS],
        help="or in every batch",
    )  # fmt: skip
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ["COMPKIT_RUNS"] = str(a.out / "runs")
    a.data = a.data or phantom(a.out)
    a.source = a.source or volumes(a.out)
    scores: dict[str, list[dict[str, Any]]] = {}
    for seed in range(a.seeds):
        for name, steps in (("labels alone", a.steps), ("equal steps", a.steps + a.first)):
            scores.setdefault(name, []).append(trained(a, name, seed, steps))
        for name in a.only:
            start = learnt(a, name, seed)
            first = ("--model.start", start)
            scores.setdefault(name, []).append(trained(a, name, seed, a.steps, *first))
        for name in a.beside:
            folder = imported(a, name.removesuffix(LESS))
            other = ["--external.data", folder, "--external.batch", 8]
            other += ["--external.background", 0.1] if name.endswith(LESS) else []
            scores.setdefault(f"beside: {name}", []).append(
                trained(a, f"beside: {name}", seed, a.steps, *other)
            )
    show(scores)
    if (a.data / "phantom.json").exists():
        show_found(a, list(scores))


def phantom(out: Path) -> Path:
    """Write the target of 46 labelled slices."""
    target = out / "target"
    compkit("phantom", "--out", target, "--size", 128, "--labelled", 46, "--unlabelled", 24,
            "--test", 40)  # fmt: skip
    return target


def volumes(out: Path) -> Path:
    """Write 20 patients, none of whom the target shows."""
    source = out / "source"
    if not source.exists():
        compkit("phantom", "--volumes", 20, "--out", source, "--size", 128)
    return source


def learnt(a: argparse.Namespace, name: str, seed: int) -> Path:
    """Train one network on volumes as a variant has them, and return its checkpoint."""
    run = f"{slug(name)}-first-{seed}"
    train(a, run, imported(a, name), a.first, seed, "--fold", "all")
    return a.out / "runs" / run / "tf_efficientnet_lite0" / "all" / "last.ckpt"


def imported(a: argparse.Namespace, name: str) -> Path:
    """Import volumes as a variant has it."""
    folder = a.out / slug(name)
    half = 0.0
    if "HALF" in IMPORTS[name]:
        measured = a.out / slug("volumes, like the target") / "look.json"
        half = json.loads(measured.read_text())["spacing"] / 2
    words = [{"DATA": a.data, "HALF": half}.get(word, word) for word in IMPORTS[name]]
    compkit("data", "import", a.source, "--out", folder, "--slices", a.slices, *words)
    return folder


def trained(
    a: argparse.Namespace, name: str, seed: int, steps: int, *more: object
) -> dict[str, Any]:
    """Train the folds of a variant; return scores of every out-of-fold image, and of the test."""
    run = f"{slug(name)}-{seed}"
    train(a, run, a.data, steps, seed, *more)
    out = a.out / f"{run}.csv"
    compkit("submit", "--run", run, "--out", out, "--overwrite")
    held = json.loads(out.with_suffix(".json").read_text())["out_of_fold"]
    found = {"own": held["image_scores"], "groups": held["image_groups"], "test": {}}
    truth = a.data / "Y_test.csv"
    if truth.exists():
        found["test"] = json.loads(compkit("score", out, "--truth", truth, "--json"))["means"]
    return found


def train(
    a: argparse.Namespace, run: str, data: Path, steps: int, seed: int, *more: object
) -> None:
    """Train a run, which goes on where it was stopped."""
    compkit(
        "train", "--data", data, "--run", run, "--seed", seed, "--folds.k", 3, "--input.size", 160,
        "--input.crop", 96, "--training.steps", steps, "--training.steps_per_epoch", steps // 5,
        "--training.warmup", 20, "--training.lr", 0.004, "--training.ema", 0.98,
        "--training.validation_images", 40, *more,
    )  # fmt: skip


def compkit(*words: object) -> str:
    """Run a command; return what it printed."""
    command = [sys.executable, "-m", "compkit.cli", *map(str, words)]
    print("$ compkit", *map(str, words), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def slug(name: str) -> str:
    """Return a name as part of a path."""
    return name.replace(",", "").replace(":", "").replace(" ", "-")


def show(scores: dict[str, list[dict[str, Any]]]) -> None:
    """Print mean scores, and the difference of each variant to labels alone."""
    (alone, base), *_ = scores.items()
    rows = []
    for name, seeds in scores.items():
        row = [name]
        for metric in METRICS:
            own, other = (np.mean([o["own"][metric] for o in of], axis=0) for of in (seeds, base))
            told = f"{own.mean():.3f}"
            if name != alone:
                error = float(standard_error(own - other, seeds[0]["groups"]))
                told += f" ({(own - other).mean():+.3f} ± {error:.3f})"
            row.append(told)
        test = [one["test"].get(METRICS[0]) for one in seeds]
        rows.append((*row, "" if None in test else f"{np.mean(test):.3f}"))
    print_table("three folds", ["", *METRICS, "test, the first"], rows)


def show_found(a: argparse.Namespace, names: list[str]) -> None:
    """Print which share of the test's regions is found, by what training says of their kind."""
    made = json.loads((a.data / "phantom.json").read_text())
    drawn = [draw_slice(made["seed"], "test", i, made["size"]) for i in range(made["test"])]
    kinds = {"labelled": LABELLED, **{kind: (kind,) for kind in TEST_ONLY}}
    rows = []
    for name in names:
        hits: dict[str, list[bool]] = {kind: [] for kind in kinds}
        for seed in range(a.seeds):
            table = read_table(a.out / f"{slug(name)}-{seed}.csv").by_name
            for index, slice_ in enumerate(drawn):
                for kind, hit in found(slice_, table[f"{index}.png"]):
                    hits[next(group for group, of in kinds.items() if kind in of)].append(hit)
        rows.append((name, *(f"{np.mean(each):.2f}" for each in hits.values())))
    counts = [f"{kind} ({len(each) // a.seeds})" for kind, each in hits.items()]
    print_table("share of the test's regions that are found, IoU ≥ 0.5", ["", *counts], rows)


def found(slice_: Slice, labels: np.ndarray) -> Iterator[tuple[str, bool]]:
    """Yield the kind of each true region, and whether a predicted one has an IoU of 0.5 with it."""
    for region in np.unique(slice_.labels[slice_.labels > 0]).tolist():
        mask = slice_.labels == region
        inside = np.bincount(labels[mask], minlength=labels.max() + 1)[1:]
        unions = np.bincount(labels.ravel(), minlength=labels.max() + 1)[1:] + mask.sum() - inside
        kind = KINDS[int(slice_.kinds[mask][0]) - 1]
        yield kind, bool((inside / np.maximum(unions, 1)).max(initial=0) >= 0.5)


if __name__ == "__main__":
    main()
