"""Opening the data and splitting them at the challenge's full size, beside decoding every time.

Usage: python benchmarks/store.py [--train 2000] [--labelled 400] [--test 500] [--size 512]

Writes made-up images and labels to a temporary folder (1.6 GB at full size), then measures each
step in a process of its own, so that memory is the step's alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from compkit.competition.table import write_table
from compkit.data import store
from compkit.display import print_table
from compkit.folds import make_folds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("train", 2000), ("labelled", 400), ("test", 500), ("size", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["COMPKIT_CACHE"] = f"{scratch}/cache"
        folder = Path(scratch, "data")
        write_images(folder, args.train, args.test, args.size)
        write_labels(folder / "Y_train.csv", args.train, args.labelled, args.size)
        show([(step.__doc__ or "", *measured(step, folder)) for step in STEPS])


def decode(folder: Path) -> None:
    """decode the PNGs in a loop, no CSV"""
    for name in ("X_train", "X_test"):
        np.stack([np.asarray(Image.open(path)) for path in sorted((folder / name).iterdir())])


def reopen(folder: Path) -> None:
    """open the store again"""
    store.open_store(str(folder))


def build(folder: Path) -> None:
    """build the store: PNGs and CSV"""
    store.open_store(str(folder))


def split(folder: Path) -> None:
    """open it and make grouped folds"""
    make_folds(store.open_store(str(folder)))


STEPS: list[Callable[[Path], None]] = [decode, build, reopen, split]


def measured(step: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Return the seconds that `step` takes and its process's peak memory in GB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(step, folder, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def _run(step: Callable[[Path], None], folder: Path, sender: object) -> None:
    start = time.perf_counter()
    step(folder)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sender.send((seconds, peak))  # type: ignore[attr-defined]


def show(rows: list[tuple[str, float, float]]) -> None:
    """Print the figures, and how many times faster each step is than decoding the images."""
    cells = [
        [name, f"{seconds:.3f}", f"{peak:.2f}", f"{rows[0][1] / seconds:.1f}"]
        for name, seconds, peak in rows
    ]
    print_table("the store", ["step", "seconds", "peak GB", "× decoding"], cells)


def write_images(folder: Path, train: int, test: int, size: int) -> None:
    """Write smooth random images with grain; four in a row are near-duplicates."""
    rng = np.random.default_rng(0)
    grain = rng.integers(-6, 7, (size, size))

    def write(path: Path, seed: int) -> None:
        coarse = gaussian_filter(np.random.default_rng(seed // 4).standard_normal((64, 64)), 1.5)
        smooth = zoom(coarse / coarse.std() * 40 + 128, size / 64, order=1)
        pixels = np.clip(smooth + np.roll(grain, seed, axis=1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)

    with ThreadPoolExecutor() as pool:
        for name, count in (("X_train", train), ("X_test", test)):
            (folder / name).mkdir(parents=True)
            paths = [folder / name / f"{index}.png" for index in range(count)]
            list(pool.map(write, paths, range(count)))


def write_labels(path: Path, train: int, labelled: int, size: int) -> None:
    """Write the label CSV with 0 to 9 in the labelled columns."""
    labels = np.zeros((train, size, size), np.uint8)
    coarse = np.random.default_rng(0).integers(0, 10, (labelled, 16, 16), np.uint8)
    place = np.arange(size) * 16 // size
    labels[:labelled] = coarse[:, place[:, None], place]
    write_table(path, [f"{index}.png" for index in range(train)], labels)


if __name__ == "__main__":
    main()
