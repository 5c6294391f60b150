"""Variants of one configuration, trained at equal budgets on the same folds, in one table.

    python benchmarks/sweep.py benchmarks/sweeps/heads.yaml --data DIR

A sweep file names a `config`, `settings` on top of it, `seeds`, and `variants`: settings by name,
in which {data} and {seed} stand for what they say. What others build on comes first: the commands
of `before` whose run they name (each gets `--data`), then the variants of `first`.
With `seconds`, each variant trains for as many steps as fit in that time, measured first; otherwise
for as many as the configuration says. Runs are called <sweep>-<data>-<variant>-<seed>; those that
are done are not repeated. Other flags (`--training.steps 100`) go to train.py, over the settings.

Scores are out-of-fold, and no fold is decoded with parameters tuned on it. The three metrics stand
under a decoder tuned for the first, then the last two under one tuned for the second, where the
background does not count. Intervals are of the mean over seeds, resampling groups of images;
`error` is 1 − score under the first metric, relative to the first variant, and the last column how
far the score is above that variant's, in pairs of images.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from joblib import Parallel, delayed
from throughput import Bench

from compkit.display import print_table
from compkit.ensemble.calibrate import calibrate
from compkit.ensemble.decoder import Decoder, out_of_fold_regions
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.opened import open_mixture
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval
from compkit.metrics.rand import METRICS
from compkit.metrics.regions import SIZE_NAMES
from compkit.run import open_run, read_fitted
from compkit.submission.report import Report, report_of
from compkit.training.command import parse

ROOT = Path(__file__).parents[1]
TRAIN, COMPKIT = ROOT / "train.py", ROOT / "compkit/cli.py"
TIMED_STEPS = 8

#: Names of runs, by variant and seed.
Runs = dict[tuple[str, int], str]


@dataclass(frozen=True)
class Result:
    """What one variant reached with one seed."""

    report: Report
    groups: np.ndarray
    filled: dict[str, float]
    seconds: float
    steps: int
    decode: float


def main() -> None:
    """Train what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--seeds", type=int, help="instead of the file's")
    parser.add_argument("--workers", type=int, default=1, help="runs trained at a time")
    a, others = parser.parse_known_args()
    sweep = yaml.safe_load(a.sweep.read_text())
    seeds = range(a.seeds or sweep["seeds"])
    chosen = {k: v for k, v in sweep["variants"].items() if not a.only or k in a.only}
    place = a.data.split(":")[0].rstrip("/").split("/")[-1]
    runs = {
        (name, seed): re.sub(r"[^\w.+]+", "-", f"{a.sweep.stem}-{place}-{name}-{seed}")
        for seed in seeds
        for name in chosen
    }
    # Each run gets its share of the cores, also while its steps are timed.
    threads = max(1, (os.cpu_count() or 1) // a.workers)
    torch.set_num_threads(threads)
    before = _before(sweep, chosen, a.data, place, seeds)
    waves = [before, *_trainings(sweep, a.data, place, runs, others)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    for wave in waves:
        with ThreadPoolExecutor(a.workers) as pool:
            list(pool.map(partial(_run, environment), wave))
    found = Parallel(a.workers)(delayed(_result)(run) for run in runs.values())
    results: dict[str, list[Result]] = {name: [] for name in chosen}
    for (name, _), result in zip(runs, found, strict=True):
        results[name].append(result)
    _print(f"{a.sweep.stem}, {a.data}, {len(seeds)} seeds", results)


def _before(
    sweep: dict[str, Any], chosen: dict[str, Any], data: str, place: str, seeds: range
) -> list[list[str]]:
    named = json.dumps(chosen)
    return [
        [str(COMPKIT), *_filled(line, place, seed).split(), "--data", data]
        for line in sweep.get("before", [])
        if line.split("--run ")[1].split()[0] in named
        for seed in (seeds if "{seed}" in line else (0,))
    ]


def _trainings(
    sweep: dict[str, Any], data: str, place: str, runs: Runs, others: list[str]
) -> list[list[list[str]]]:
    """Return the commands of the runs that are missing: those that come first, and the others."""
    waves: list[list[list[str]]] = [[], []]
    for (name, seed), run in runs.items():
        if (Path("runs") / run / "decoder.json").is_file():
            continue
        settings = {**sweep.get("settings", {}), **sweep["variants"][name], "seed": seed}
        flags = [_filled(flag, place, seed) for flag in _flags(settings)]
        command = ["--config", sweep["config"], "--data", data, "--run", run, *flags, *others]
        if "seconds" in sweep:
            command += _budget(command, run, sweep["seconds"])
        waves[name not in sweep.get("first", [])].append([str(TRAIN), *command])
    return waves


def _flags(settings: dict[str, Any]) -> list[str]:
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    ]


def _filled(text: str, place: str, seed: int) -> str:
    return text.replace("{data}", place).replace("{seed}", str(seed))


def _run(environment: dict[str, str], command: list[str]) -> None:
    subprocess.run([sys.executable, *command], check=True, env=environment)


def _budget(command: list[str], run: str, seconds: float) -> list[str]:
    """Return the settings that train for `seconds`, in a few epochs; a begun run's stay."""
    if (begun := Path("runs") / run / "config.yaml").is_file():
        t = yaml.safe_load(begun.read_text())["training"]
        return [f"--training.{key}={t[key]}" for key in ("steps", "steps_per_epoch")]
    arguments, config = parse(command)
    bench = Bench(config, arguments["data"])
    bench.loaded()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS // 2):
        bench.step(bench.moved(next(bench.stream)))
    step = (time.perf_counter() - start) / (TIMED_STEPS // 2)
    epochs = config.training.steps // config.training.steps_per_epoch
    length = max(1, round(seconds / step / epochs))
    return [f"--training.steps={length * epochs}", f"--training.steps_per_epoch={length}"]


def _result(name: str) -> Result:
    run = open_run(name)
    mixture, decoder = open_mixture([name])
    fits = [read_fitted(run.part(*part)) for part in run.parts()]
    return Result(
        report_of(mixture.images, out_of_fold_regions(mixture, decoder)),
        run.folds.group[run.store.labelled],
        calibrate(mixture, METRICS[1]).scores,
        float(np.mean([fit.seconds for fit in fits])),
        run.config.training.steps,
        _decode_seconds(mixture, decoder),
    )


def _decode_seconds(mixture: Mixture, decoder: Decoder) -> float:
    size = mixture.store.size
    seconds = []
    for image in mixture.images:
        maps = mixture.out_of_fold(image)
        start = time.perf_counter()
        mixture.head.decode(maps, decoder.params, (size, size))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _print(title: str, results: dict[str, list[Result]]) -> None:
    scores, costs, sizes = [], [], []
    of_first = next(iter(results.values()))
    first, groups = _images(of_first, METRICS[0]), of_first[0].groups
    for name, seeds in results.items():
        cells = []
        for metric in METRICS:
            values = _images(seeds, metric)
            cells.append(f"{values.mean():.3f} ({shown(interval(values, groups), '.3f')})")
        spread = np.std([one.report.means[METRICS[0]] for one in seeds], ddof=len(seeds) > 1)
        ranked = _images(seeds, METRICS[0])
        ahead = shown(interval(ranked - first, groups), "+.3f")
        error = (1 - ranked.mean()) / (1 - first.mean())
        scores.append([name, *cells, f"{spread:.3f}", f"{error:.3f}", ahead])
        filled = [f"{np.mean([s.filled[m] for s in seeds]):.3f}" for m in METRICS[1:]]
        dice = np.mean([s.report.means["pixel_dice"] for s in seeds])
        steps, seconds, decode = np.mean([(s.steps, s.seconds, 1000 * s.decode) for s in seeds], 0)
        costs.append(
            [name, *filled, f"{dice:.3f}", f"{steps:.0f}", f"{seconds:.0f}", f"{decode:.1f}"]
        )
        ious = [[s.report.by_size.get(c, (0, np.nan))[1] for c in SIZE_NAMES] for s in seeds]
        sizes.append([name, *(f"{iou:.3f}" for iou in np.mean(ious, axis=0))])
    title += f"; 95 %: {resampling(len(first), groups)}"
    print_table(title, ["variant", *METRICS, "± seeds", "error", "over the first"], scores)
    columns = ["variant", *METRICS[1:], "mask Dice", "steps", "s/fit", "decode ms"]
    print_table(f"tuned for {METRICS[1]}; the mask; costs", columns, costs)
    print_table("IoU of true regions by their share of the image", ["variant", *SIZE_NAMES], sizes)


def _images(seeds: list[Result], metric: str) -> np.ndarray:
    """Return the score of every image, the mean over seeds."""
    return np.mean([one.report.scores[metric] for one in seeds], axis=0)


if __name__ == "__main__":
    main()
