"""A competition of the real size, from its data to a scored submission: time, memory and disk.

    python benchmarks/rehearsal.py --keep DIR [--images 400 1600 500] [--steps 24]

Three encoders × two folds of few steps on a phantom of 512², by the commands that a competitor
gives. Memory is that of all processes of a command together, each page of memory that several share
counted once, without pages of files; disk is what the runs' folder, or the cache, takes afterwards.
The same command goes on after a kill, from the stage that it fell in.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import chdir, suppress
from pathlib import Path

import yaml

from compkit.display import print_table
from compkit.files import read_json, write_json
from compkit.progress import say

ENCODERS = ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"]


def main() -> None:
    """Run one command after the other and print what each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, nargs=3, default=(400, 1600, 500), metavar="N",
        help="labelled, unlabelled and test images",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    parser.add_argument("--steps", type=int, default=24, help="of each network")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--head", default="boundary")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything there")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = (a.keep or Path(folder)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        with chdir(place):
            os.environ["COMPKIT_CACHE"] = str(place / "cache")
            _rehearse(a)


def _rehearse(a: argparse.Namespace) -> None:
    config = {
        "encoders": ENCODERS,
        "head": a.head,
        "folds": {"k": 2},
        "model": {"weights": "none"},
        "input": {"batch": 4, "crop": a.crop},
        "training": {"steps": a.steps, "steps_per_epoch": a.steps, "warmup": 1},
        "inference": {"views": ["identity"]},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    settings = {"images": list(a.images), "size": a.size, "config": config}
    kept = Path("stages.json")
    found = read_json(kept) if kept.is_file() else {"settings": settings, "stages": {}}
    if found["settings"] != settings:
        sys.exit(f"{kept.absolute()} is of other settings: give another --keep")
    for name, words in _stages(a).items():
        if name not in found["stages"]:
            seconds, peak = measured(words)
            disk = [_size(Path(folder)) for folder in ("runs", "cache")]
            found["stages"][name] = [seconds, peak, *disk]
            write_json(kept, found)
            say(f"{name}: {seconds:.0f} s, {peak:.2f} GB")
    rows = list(found["stages"].items())
    whole = [sum(row[0] for _, row in rows), *(max(row[i] for _, row in rows) for i in (1, 2, 3))]
    print_table(
        f"{a.images} images of {a.size}², {len(ENCODERS)} encoders × 2 folds, {a.head}",
        ["stage", "s", "peak GB", "runs GB", "cache GB"],
        [[name, f"{row[0]:.0f}", *(f"{one:.2f}" for one in row[1:])]
         for name, row in [*rows, ("all", whole)]],
    )  # fmt: skip


def _stages(a: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command of each stage."""
    labelled, unlabelled, test = map(str, a.images)
    data = ["--data", "data"]
    train = compkit("train", "--config", "config.yaml", *data, "--run", "big",
                    "--folds.file", "folds.csv")  # fmt: skip
    fits = {
        f"train {encoder}, fold {fold}": [*train, "--encoder", encoder, "--fold", fold]
        for encoder in ENCODERS
        for fold in ("0", "1")
    }
    fits.popitem()  # the command that trains the last one goes on to the decoders
    return {
        "phantom": compkit("phantom", "--out", "data", "--size", str(a.size),
                           "--labelled", labelled, "--unlabelled", unlabelled, "--test", test),
        "folds": compkit("folds", *data, "--out", "folds.csv", "--k", "2"),
        **fits,
        "train the last one, tune decoders": train,
        "ensemble": compkit("ensemble", "--name", "mean", "--run", "big"),
        "submit": compkit("submit", "--run", "mean", "--out", "s.csv"),
        "check": compkit("check", "s.csv", *data),
        "score": compkit("score", "s.csv", "--truth", "data/Y_test.csv"),
    }  # fmt: skip


def compkit(*words: str) -> list[str]:
    """Return a command of compkit's as a process takes it."""
    return [sys.executable, "-m", "compkit.cli", *words]


def measured(words: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and the GB of all its processes at their peak."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(words)
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.25):
            peak = max(peak, sum(map(_memory, _family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    over.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(words)} ended with {code}")
    return time.monotonic() - start, peak / 1e6


def _family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _memory(pid: int) -> int:
    """Return the kB of a process that are not files' pages, shared ones by their share."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        values = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        return int(values["Pss_Anon"]) + int(values["Pss_Shmem"])
    return 0


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


if __name__ == "__main__":
    main()
