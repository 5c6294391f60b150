"""Small studies on a tiny phantom, and workers that take part in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from compkit.entry import guarded
from compkit.tuning.command import run_command
from compkit.tuning.space import SHIPPED

DATABASE = "sqlite:///runs/s/study.db"
DATA = "phantom:size=32,labelled=6,unlabelled=0,test=1"
#: What of the shipped space is searched here; the rest is left to the configuration.
SPACE = """
loss.terms: {choice: [{dice: 1}, {cross_entropy: 1}]}
training.lr: {float: [1e-4, 1e-2], log: true}
head: foreground
"""
SETTINGS = {
    "--encoders": "[resnet10t]", "--folds.k": "2", "--input.batch": "2", "--training.steps": "4",
    "--training.steps_per_epoch": "2", "--training.warmup": "1", "--inference.views": "[identity]",
}  # fmt: skip


#: Runs tune.py, but that a worker is taken for dead after seconds.
WORKER = """
import sys
from compkit.tuning import storage
storage.BEAT, storage.GRACE = 1, 5
from compkit.entry import guarded
from compkit.tuning.command import run_command
sys.exit(guarded(lambda: run_command(sys.argv[1:])))
"""


def study_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty place for a study, with a small search space."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COMPKIT_CACHE", str(place / "cache"))
    others = [name for name in yaml.safe_load(SHIPPED.read_text()) if f"{name}:" not in SPACE]
    Path("space.yaml").write_text(SPACE + "".join(f"{name}: null\n" for name in others))
    return place


#: Of a test that tells little beside a like one, and takes long.
only_if_all = pytest.mark.skipif(
    "COMPKIT_ALL_TESTS" not in os.environ, reason="COMPKIT_ALL_TESTS=1 runs it"
)


def arguments(study: str = "s", **changed: str) -> list[str]:
    options = {"--data": DATA, "--study": study, "--narrow": "space.yaml", "--sampler": "random",
               "--retrain": "0", "--trials": "3"} | SETTINGS  # fmt: skip
    options |= {
        f"--{name.replace('__', '.').replace('hold_out', 'hold-out')}": value
        for name, value in changed.items()
    }
    return [word for pair in options.items() for word in pair]


def tune(**changed: str) -> int:
    return guarded(lambda: run_command(arguments(**changed)))


def worker(**changed: str) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, *arguments(**changed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def loaded(storage: str = DATABASE) -> optuna.Study:
    journal = storage.endswith(".log")
    opened = JournalStorage(JournalFileBackend(storage)) if journal else storage
    return optuna.load_study(study_name="s", storage=opened)


def states(storage: str = DATABASE) -> list[TrialState]:
    return [trial.state for trial in loaded(storage).get_trials(deepcopy=False)]
