"""What a trial of compkit tune takes beyond what compkit train does with the same settings.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py --data phantom:size=128,labelled=46 --steps 120

One process runs some trials; its clock is read around what compkit train does, too (fits, tuning
the decoder), and around what Optuna does within the fits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from compkit.config import FoldsConfig, MachineConfig, RunConfig
from compkit.display import print_table
from compkit.tuning import trial
from compkit.tuning.job import tune
from compkit.tuning.space import read_space

_SECONDS: dict[str, float] = defaultdict(float)


def main() -> None:
    """Run trials and print where their seconds went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="phantom:size=128,labelled=46")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--trials", type=int, default=2)
    a = parser.parse_args()
    default = RunConfig()
    config = replace(
        default,
        folds=FoldsConfig(k=3),
        training=replace(default.training, steps=a.steps, steps_per_epoch=a.steps // 3, warmup=20),
        machine=MachineConfig(workers=0),
    )
    data = a.data if a.data.startswith("phantom:") else str(Path(a.data).absolute())
    narrow = Path(__file__).absolute().parents[1] / "configs" / "tune-short.yaml"
    trial.fit_fold = timed("fits", trial.fit_fold)
    trial.tune_run = timed("decoder", trial.tune_run)
    trial.group_scores = timed("scores fold by fold", trial.group_scores)
    for name in ("report", "should_prune"):
        setattr(optuna.Trial, name, timed("Optuna within fits", getattr(optuna.Trial, name)))
    whole = timed("trials", trial.Objective.__call__)
    trial.Objective.__call__ = whole  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.setdefault("COMPKIT_CACHE", str(Path(folder) / "cache"))
        tune(data, "overhead", read_space(narrow, config), trials=a.trials, retrain=0)
    bare = _SECONDS["fits"] - _SECONDS["Optuna within fits"] + _SECONDS["decoder"]
    rows = [[name, f"{seconds:.1f}"] for name, seconds in _SECONDS.items()]
    rows.append(["trials over what compkit train does", f"{_SECONDS['trials'] / bare:.3f}"])
    print_table(f"{a.trials} trials", ["", "s"], rows)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose seconds are counted under a name."""

    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            _SECONDS[name] += time.perf_counter() - start

    return run


if __name__ == "__main__":
    main()
