"""Time and peak memory of the label CSV, against pandas.

    python benchmarks/table.py                                       # the challenge's size
    python benchmarks/table.py --size 128 --images 500 --labelled 100   # in a few seconds

Every figure comes from a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import filecmp
import multiprocessing
import resource
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from compkit.competition.table import read_table, write_table

T = TypeVar("T")


def label_maps(count: int, size: int, labelled: int, seed: int = 0) -> np.ndarray:
    """Return uint8 label maps (count, size, size) of ellipses; all but `labelled` are zero."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, size, size), np.uint8)
    y, x = np.ogrid[-1:1:64j, -1:1:64j]
    for image in labels[:labelled]:
        for region in rng.permutation(np.arange(1, 256))[: rng.integers(11, 26)]:
            height, width = rng.integers(size // 20, size // 4, 2)
            top, left = rng.integers(0, size - height), rng.integers(0, size - width)
            rows, columns = np.arange(height) * 64 // height, np.arange(width) * 64 // width
            inside = (y**2 + x**2 < 1)[np.ix_(rows, columns)]
            image[top : top + height, left : left + width][inside] = region
    return labels


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Return what `function` returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak() -> float:
    """Return this process's peak resident memory in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def names(count: int) -> list[str]:
    """Return the challenge's column names."""
    return [f"{index}.png" for index in range(count)]


def make(path: Path, count: int, size: int, labelled: int, seed: int = 0) -> None:
    """Write a CSV of `label_maps`."""
    write_table(path, names(count), label_maps(count, size, labelled, seed))


def read_pandas(path: Path) -> tuple[float, float, int]:
    """Return seconds, peak GB and a checksum of reading with pandas."""
    import pandas as pd

    start = time.perf_counter()
    labels = pd.read_csv(path, index_col=0).T.to_numpy()
    taken = time.perf_counter() - start, peak()
    return *taken, checksum(labels)


def read_compkit(path: Path) -> tuple[float, float, int]:
    """Return seconds, peak GB and a checksum of reading with compkit."""
    start = time.perf_counter()
    labels = read_table(path).labels
    taken = time.perf_counter() - start, peak()
    return *taken, checksum(labels)


def checksum(labels: np.ndarray) -> int:
    """Return a checksum of labels of any dtype."""
    value = 0
    for image in labels:
        value = zlib.crc32(image.astype(np.uint8).tobytes(), value)
    return value


def write_pandas(path: Path, count: int, size: int) -> tuple[float, float]:
    """Return seconds and peak GB of writing with pandas."""
    import pandas as pd

    labels = label_maps(count, size, count)
    start = time.perf_counter()
    index = [f"Pixel {pixel}" for pixel in range(size * size)]
    pd.DataFrame(labels.reshape(count, -1).T, index=index, columns=names(count)).to_csv(path)
    return time.perf_counter() - start, peak()


def write_compkit(path: Path, count: int, size: int) -> tuple[float, float]:
    """Return seconds and peak GB of writing with compkit."""
    labels = label_maps(count, size, count)
    start = time.perf_counter()
    write_table(path, names(count), labels)
    return time.perf_counter() - start, peak()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=2000, help="columns of the file that is read")
    parser.add_argument("--labelled", type=int, default=400, help="how many of them hold regions")
    parser.add_argument("--test", type=int, default=500, help="columns of the file that is written")
    settings = parser.parse_args()
    size = settings.size
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "y.csv", Path(folder) / "z.csv"
        apart(make, path, settings.images, size, settings.labelled)
        reads = apart(read_compkit, path), apart(read_pandas, path)
        megabytes = path.stat().st_size / 1e6
        path.unlink()
        writes = [
            apart(function, file, settings.test, size)
            for function, file in ((write_compkit, path), (write_pandas, other))
        ]
        same = reads[0][2] == reads[1][2], filecmp.cmp(path, other, shallow=False)
    print(f"{'':38}{'compkit':>16}{'pandas':>18}{'faster':>8}{'less memory':>13}{'same':>6}")
    for label, ((mine, my_peak, *_), (theirs, their_peak, *_)), equal in (
        (f"read {settings.images} × {size}² ({megabytes:.0f} MB)", reads, same[0]),
        (f"write {settings.test} × {size}²", writes, same[1]),
    ):
        print(
            f"{label:38}{mine:7.2f} s {my_peak:4.2f} GB{theirs:9.2f} s {their_peak:4.2f} GB"
            f"{theirs / mine:7.1f}×{their_peak / my_peak:12.1f}×{'yes' if equal else 'NO':>6}"
        )


if __name__ == "__main__":
    main()
