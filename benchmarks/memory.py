"""Time and memory of each stage, by the number of images: memory is to stay as it is.

    python benchmarks/memory.py [--images 500 2000 20000] [--size 32] [--keep DIR]

A fifth of the images is labelled, and there are a quarter as many test images; networks are tiny,
and decoders hardly tuned.
Every stage is a process of its own. Memory is that of all its processes together, without pages of
files, which the system may take back at any time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import cv2
import numpy as np
import yaml
from rehearsal import measured

from compkit.competition.table import write_table
from compkit.display import print_table
from compkit.files import replacing_directory
from compkit.phantom.slices import draw_slice
from compkit.progress import say, track

STORE = "from compkit.data.store import open_store; open_store('data')"

#: A command of compkit's whose decoders are tuned no further than their starts: that takes long,
#: and no more memory.
COMMAND = """
import sys
from compkit import cli, crossfit
crossfit._ROUNDS = 0
sys.exit(cli.main(sys.argv[1:]))
"""
RUN, ENSEMBLE = ["--run", "tiny"], ["--run", "mean"]


def compkit(*words: str) -> list[str]:
    """Return such a command as a process takes it."""
    return [sys.executable, "-c", COMMAND, *words]


#: What is run of each number of images, in this order.
STAGES = {
    "store": [sys.executable, "-c", STORE],
    "folds": compkit("folds", "--data", "data", "--out", "folds.csv", "--k", "2"),
    "train, fold 0": compkit("train", "--config", "config.yaml", "--data", "data", *RUN,
                             "--folds.file", "folds.csv", "--fold", "0"),
    "train, fold 1, decoder": compkit("train", "--config", "config.yaml", "--data", "data", *RUN,
                                      "--folds.file", "folds.csv"),
    "ensemble": compkit("ensemble", "--name", "mean", *RUN),
    "submit": compkit("submit", *ENSEMBLE, "--out", "s.csv"),
    "predict": compkit("predict", *ENSEMBLE, "--images", "data/X_test", "--out", "predicted"),
    "check": compkit("check", "s.csv", "--data", "data"),
    "score": compkit("score", "s.csv", "--truth", "data/Y_test.csv"),
    "blend": compkit("blend", "s.csv", "data/Y_test.csv", "--out", "blended.csv"),
}  # fmt: skip


def main() -> None:
    """Run every stage on every number of images, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000, 20000], metavar="N")
    parser.add_argument("--size", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything there")
    a = parser.parse_args()
    columns = []
    with tempfile.TemporaryDirectory() as folder:
        for count in a.images:
            place = (a.keep or Path(folder)).absolute() / str(count)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            with chdir(place):
                columns.append(_stages(count, a.size))
    rows = [
        [stage, *(f"{seconds:.0f} s, {peak:.2f} GB" for seconds, peak in row)]
        for stage, row in zip(STAGES, zip(*columns, strict=True), strict=True)
    ]
    print_table(f"images of {a.size}²", ["stage", *map(str, a.images)], rows)


def _stages(count: int, size: int) -> list[tuple[float, float]]:
    """Return the seconds and the GB of each stage on so many images."""
    _write_data(Path("data"), count, size)
    config = {
        "encoders": ["plain_unet16"],
        "model": {"weights": "none"},
        "folds": {"k": 2},
        "training": {"steps": 2, "steps_per_epoch": 2, "warmup": 1},
        "inference": {"views": ["identity"]},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    os.environ["COMPKIT_CACHE"] = str(Path("cache").absolute())
    found = []
    for stage, words in STAGES.items():
        found.append(measured(words))
        say(f"{count} images, {stage}: {found[-1][0]:.0f} s, {found[-1][1]:.2f} GB")
    return found


def _write_data(folder: Path, count: int, size: int) -> None:
    """Write a competition of phantom slices, each of them many times: shifted, under noise."""
    drawn = [draw_slice(0, "train", index, size) for index in range(min(count, 400))]
    rng = np.random.default_rng(0)
    with replacing_directory(folder) as temporary:
        for split, number in (("train", count), ("test", count // 4)):
            (temporary / f"X_{split}").mkdir()
            labels = np.zeros((number, size, size), np.uint8)
            for index in track(range(number), f"{split} images", number):
                one, shift = drawn[index % len(drawn)], tuple(rng.integers(0, size, 2))
                image = np.roll(one.image, shift, (0, 1)) + rng.normal(0, 5, (size, size))
                path = temporary / f"X_{split}" / f"{index}.png"
                cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
                if split == "test" or index < number // 5:
                    labels[index] = np.roll(one.labels, shift, (0, 1))
            names = [f"{index}.png" for index in range(number)]
            write_table(temporary / f"Y_{split}.csv", names, labels)


if __name__ == "__main__":
    main()
