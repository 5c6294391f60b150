"""What becomes of a study whose workers are killed (SIGKILL) in the middle of their trials.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --trials 8 --kills 5

Two workers share a study of short trials. Again and again one is killed and begun anew; then both
may end. Counted is what the study then holds: every kill that met a trial under way left one that
failed, and that another one goes on with.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import chdir
from pathlib import Path

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.trial import FrozenTrial, TrialState

from compkit.display import print_table

TUNE = Path(__file__).absolute().parents[1] / "tune.py"
SHORT = TUNE.parent / "configs" / "tune-short.yaml"
STORAGE = "sqlite:///runs/kills/study.db"

#: Seconds between two kills, so that a new worker has begun to train.
PAUSE = 30.0


def main() -> None:
    """Search, kill, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="phantom:size=64,labelled=12,unlabelled=0,test=1")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    a = parser.parse_args()
    data = a.data if a.data.startswith("phantom:") else str(Path(a.data).absolute())
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.setdefault("COMPKIT_CACHE", str(Path(folder) / "cache"))
        workers = [begun(data, a.trials) for _ in range(2)]
        for kill in range(a.kills):
            time.sleep(PAUSE)
            workers[kill % 2].kill()
            workers[kill % 2].wait()
            workers[kill % 2] = begun(data, a.trials)
        codes = [worker.wait() for worker in workers]
        found = trials()
    states = Counter(trial.state.name.lower() for trial in found)
    again = [trial for trial in found if Retry.retried_trial_number(trial) is not None]
    rows = [
        ["workers killed", str(a.kills)],
        ["exit codes of the last workers", " and ".join(map(str, codes))],
        ["trials asked for", str(a.trials)],
        ["complete or pruned", str(states["complete"] + states["pruned"])],
        ["failed; gone on with as another trial", f"{states['fail']}; {len(again)}"],
        ["left running or in line", str(states["running"] + states["waiting"])],
        ["settings lost", str(len(settings(found) - settings(ended(found))))],
    ]
    print_table("a study whose workers are killed", ["", ""], rows)


def begun(data: str, count: int) -> subprocess.Popen[bytes]:
    """Return a new worker of the study."""
    command = [sys.executable, str(TUNE), "--data", data, "--study", "kills"]
    command += ["--narrow", str(SHORT), "--trials", str(count), "--retrain", "0"]
    command += ["--folds.k=2", "--training.steps=60", "--training.steps_per_epoch=5"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trials() -> list[FrozenTrial]:
    """Return the study's trials."""
    return optuna.load_study(study_name="kills", storage=STORAGE).get_trials(deepcopy=False)


def ended(found: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that came to an end of their own."""
    return [trial for trial in found if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def settings(found: list[FrozenTrial]) -> set[str]:
    """Return what trials were about: their runs' names, which are made of their settings."""
    return {trial.user_attrs["run"] for trial in found if "run" in trial.user_attrs}


if __name__ == "__main__":
    main()
