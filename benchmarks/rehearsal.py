"""A competition of the real size, from its data to a scored submission: time, memory and disk.

    python benchmarks/rehearsal.py [--images 500 2000 500] [--keep DIR] [--steps 4]

Three encoders × two folds of few steps on a phantom of 512², by the commands that a competitor
gives. Memory is that of all processes of a command together, each page of memory that several share
counted once; disk is what the run's folder, or the cache, takes afterwards.
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
    parser.add_argument("--steps", type=int, default=4, help="of each network")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--head", default="boundary")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything there")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = (a.keep or Path(folder)).absolute()
        place.mkdir(exist_ok=True)
        with chdir(place):
            os.environ["COMPKIT_CACHE"] = str(place / "cache")
            _rehearse(a)


def _rehearse(a: argparse.Namespace) -> None:
    labelled, unlabelled, test = map(str, a.images)
    Path("config.yaml").write_text(
        yaml.safe_dump({
            "encoders": ENCODERS,
            "head": a.head,
            "folds": {"k": 2},
            "model": {"weights": "none"},
            "input": {"batch": 4, "crop": a.crop},
            "training": {"steps": a.steps, "steps_per_epoch": a.steps, "warmup": 1},
            "inference": {"views": ["identity"]},
        })
    )  # fmt: skip
    data = ["--data", "data"]
    runs = ["--run", "big"]
    stages = {
        "phantom": ["--out", "data", "--size", str(a.size), "--labelled", labelled,
                    "--unlabelled", unlabelled, "--test", test],
        "folds": [*data, "--out", "folds.csv", "--k", "2"],
        "train": ["--config", "config.yaml", *data, *runs, "--folds.file", "folds.csv"],
        "ensemble": ["--name", "mean", *runs],
        "submit": ["--run", "mean", "--out", "s.csv"],
        "check": ["s.csv", *data],
        "score": ["s.csv", "--truth", "data/Y_test.csv"],
    }  # fmt: skip
    rows = []
    for name, words in stages.items():
        if name == "phantom" and Path("data").exists():
            continue
        seconds, peak = measured([sys.executable, "-m", "compkit.cli", name, *words])
        disk = [f"{_size(Path(folder)):.2f}" for folder in ("runs", "cache")]
        rows.append([name, f"{seconds:.0f}", f"{peak:.2f}", *disk])
        say(" ".join(rows[-1]))
    whole = sum(float(row[1]) for row in rows)
    rows.append(["all", f"{whole:.0f}", f"{max(float(row[2]) for row in rows):.2f}", *disk])
    print_table(
        f"{a.images} images of {a.size}², {len(ENCODERS)} encoders × 2 folds, {a.head}",
        ["stage", "s", "peak GB", "runs GB", "cache GB"],
        rows,
    )


def measured(words: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and the GB of all its processes at their peak."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(words)
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.5):
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
