"""The wheel, end to end: built, installed, and used where the repository is not at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import compkit

REPOSITORY = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
USE = """
import compkit
data = "phantom:size=32,labelled=6,unlabelled=0,test=2"
config = {
    "encoders": ["plain_unet16"], "folds": {"k": 2}, "input": {"batch": 2},
    "training": {"steps": 2, "steps_per_epoch": 2, "warmup": 1},
}
compkit.train(config, data, run="x")
compkit.submit("x", out="x.csv")
print(compkit.__file__)
"""


@pytest.mark.slow
def test_the_wheel_trains_and_submits_without_the_repository(tmp_path):
    source, empty, installed = tmp_path / "source", tmp_path / "empty", tmp_path / "installed"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "compkit", source / "compkit", ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*PIP, *build, str(source)], check=True)
    (wheel,) = tmp_path.glob("compkit-*.whl")
    put = ["install", "--no-deps", "--no-index", "--target", str(installed), str(wheel)]
    subprocess.run([*PIP, *put], check=True)

    files = {path.relative_to(source) for path in (source / "compkit").rglob("*") if path.is_file()}
    assert {path for path in files if not (installed / path).is_file()} == set()

    empty.mkdir()
    own = {"PYTHONPATH": str(installed), "COMPKIT_CACHE": str(tmp_path / "cache")}
    where = []
    for words in ([sys.executable, "-c", USE], [installed / "bin/compkit", "--version"]):
        done = subprocess.run(
            words, cwd=empty, env=os.environ | own, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        where.append(done.stdout.splitlines()[-1])
    assert where == [str(installed / "compkit/__init__.py"), f"compkit {compkit.__version__}"]
    assert (empty / "x.csv").is_file()
