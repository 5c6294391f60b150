"""Train the variants of a sweep file on the same folds, and keep a record of each run.

    python benchmarks/sweep.py benchmarks/sweeps/answers.yaml --data DIR … --records FILE
        [--workers 2] [--only VARIANT …] [--seeds 1] [--SETTING VALUE …]

A sweep file names a `config`, `settings` on top of it, and `variants`: settings by name, in which
{data} and {seed} stand for what they say, and beside them

    seeds   how many seeds, 1 if nothing is said
    data    on these data sets alone: a part of their names
    after   variants to be trained first, with the same seed (else with seed 0)
    command `pretrain mae` or the like: no variant of its own, others start from it
    copy    a variant whose networks these are: trained as that, predicted as the settings say
    mean    variants (with VARIANT/SEED of that seed) whose mean it is: nothing is trained

Runs are called <sweep>-<data>-<variant>-<seed>. Those with a record are not repeated; those that
were interrupted go on. `benchmarks/answers.py` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import yaml
from records import read_records, record

ROOT = Path(__file__).absolute().parents[1]
TRAIN, COMPKIT = ROOT / "train.py", ROOT / "compkit/cli.py"

#: Keys of a variant that are no settings.
OWN = ("seeds", "data", "after", "command", "copy", "mean")

#: Data set, variant, seed.
Key = tuple[str, str, int]


@dataclass
class Sweep:
    """A sweep file, and what has become of its runs."""

    name: str
    values: dict[str, Any]
    others: list[str]
    records: Path
    recorders: ProcessPoolExecutor
    trainers: ThreadPoolExecutor
    futures: dict[Key, Future[None]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def start(self, key: Key) -> None:
        """Start what a run needs, and then it, unless that has been done."""
        if key in self.futures:
            return
        data, variant, seed = key
        own = self.values["variants"][variant]
        needs = [name for name in (*own.get("after", ()), own.get("copy")) if name]
        before = [self.key(data, name, seed) for name in needs]
        before += [self.key(data, name, seed) for name in own.get("mean", ())]
        for other in before:
            self.start(other)
        waits = [self.futures[other] for other in before]
        self.futures[key] = self.trainers.submit(self.run, key, own, waits)

    def key(self, data: str, name: str, seed: int) -> Key:
        """Return the run that a variant means by another's name."""
        variant, _, given = name.partition("/")
        most = self.values["variants"][variant].get("seeds", 1)
        return data, variant, int(given or (seed if seed < most else 0))

    def run_name(self, key: Key) -> str:
        data, variant, seed = key
        return re.sub(r"[^\w.+]+", "-", f"{self.name}-{place_of(data)}-{variant}-{seed}")

    def run(self, key: Key, own: dict[str, Any], waits: list[Future[None]]) -> None:
        """Train one run, and write its record."""
        for future in waits:
            future.result()
        data, variant, seed = key
        done = {(one.data, one.variant, one.seed) for one in self.recorded()}
        name = self.run_name(key)
        if (Path(data).name, variant, seed) in done:
            return
        runs = [self.run_name(self.key(data, one, seed)) for one in own.get("mean", ())] or [name]
        if runs == [name]:
            self.train(key, own, name)
        if "command" not in own:
            line = self.recorders.submit(record, variant, seed, data, runs).result()
            with self.lock, self.records.open("a") as file:
                file.write(line + "\n")

    def recorded(self) -> list[Any]:
        with self.lock:
            return read_records([self.records]) if self.records.is_file() else []

    def train(self, key: Key, own: dict[str, Any], name: str) -> None:
        data, _, seed = key
        copied = own.get("copy")
        if copied and not (target := Path("runs") / name).is_dir():
            source = self.key(data, copied, seed)
            shutil.copytree(Path("runs") / self.run_name(source), target)
            own = self.values["variants"][copied] | own
        mine = {setting: value for setting, value in own.items() if setting not in OWN}
        settings = self.values.get("settings", {}) | mine | {"seed": seed}
        flags = [f"--{setting}={_text(value)}" for setting, value in settings.items()]
        flags = [f.replace("{data}", place_of(data)).replace("{seed}", str(seed)) for f in flags]
        command = [str(COMPKIT), *own["command"].split()] if "command" in own else [str(TRAIN)]
        command += ["--config", self.values["config"], "--data", data, "--run", name]
        done = subprocess.run(
            [sys.executable, *command, *flags, *self.others], capture_output=True, text=True
        )
        print(f"{name}: {'done' if done.returncode == 0 else done.stderr[-1000:]}", flush=True)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def place_of(data: str) -> str:
    """Return what a data set is called in the names of runs."""
    return Path(data.split(":")[0]).name


def main() -> None:
    """Train what is missing, in the order of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--records", required=True, type=Path)
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--seeds", type=int, help="at most so many")
    parser.add_argument("--workers", type=int, default=1, help="runs trained at a time")
    a, others = parser.parse_known_args()
    values = yaml.safe_load(a.sweep.read_text())
    values["config"] = str(a.sweep.parents[2] / values["config"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // a.workers)))
    # Not forked: torch does not survive that.
    fresh = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(a.workers, mp_context=fresh) as recorders,
        ThreadPoolExecutor(a.workers) as trainers,
    ):
        sweep = Sweep(a.sweep.stem, values, others, a.records, recorders, trainers)
        for key in _order(values["variants"], a.data, a.only, a.seeds):
            sweep.start(key)
        failed = {key: f.exception() for key, f in sweep.futures.items() if f.exception()}
    for key, error in failed.items():
        print(f"failed: {key}: {error}")
    sys.exit(bool(failed))


def _order(
    variants: dict[str, Any], data: list[str], only: list[str] | None, seeds: int | None
) -> list[Key]:
    return [
        (place, name, seed)
        for name, own in variants.items()
        if only is None or name in only
        for seed in range(min(own.get("seeds", 1), seeds or sys.maxsize))
        for place in data
        if any(part in place for part in own.get("data", [""]))
    ]


if __name__ == "__main__":
    main()
