"""Time of the leaderboard replica, against scikit-learn and the starter notebook's way.

python benchmarks/score.py                             # the challenge's size
python benchmarks/score.py --size 128 --images 100     # in a few seconds
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score
from table import apart, label_maps, make

from compkit.competition.table import read_table
from compkit.metrics.named import REGISTRY, image_scores
from compkit.metrics.rand import adjusted_rand_index, contingency
from compkit.submission.report import score_maps

Score = Callable[[np.ndarray, np.ndarray], object]


def notebook(truth: Path, prediction: Path) -> tuple[float, float]:
    """Return seconds and score of the starter notebook's way."""
    import pandas as pd

    start = time.perf_counter()
    tables = [pd.read_csv(path, index_col=0).T for path in (truth, prediction)]
    pairs = zip(*(table.to_numpy() for table in tables), strict=True)
    score = float(np.mean([adjusted_rand_score(t, p) for t, p in pairs]))
    return time.perf_counter() - start, score


def replica(truth: Path, prediction: Path) -> tuple[float, float]:
    """Return seconds and ranking score of compkit's way, all measures and intervals included."""
    start = time.perf_counter()
    report = score_maps(read_table(truth).by_name, read_table(prediction).by_name, str(prediction))
    score = report.as_dict()["means"]["adjusted_all"]
    return time.perf_counter() - start, score


def milliseconds(score: Score, truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the median over images of the time that one image takes."""
    times = []
    for pair in zip(truth, prediction, strict=True):
        start = time.perf_counter()
        score(*pair)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def flat_sklearn(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return scikit-learn's adjusted Rand index of two label maps."""
    return float(adjusted_rand_score(truth.ravel(), prediction.ravel()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=500, help="of the two files")
    settings = parser.parse_args()
    size, count = settings.size, settings.images
    noise = np.random.default_rng(0).integers(0, 256, (2, 20, size, size)).astype(np.uint8)
    regions = label_maps(20, size, 20), label_maps(20, size, 20, seed=1)
    squares = np.arange(size) * 15 // size
    tiled = np.broadcast_to(squares[:, None] * 15 + squares + 1, (20, size, size)).astype(np.uint8)
    many = tiled, np.roll(tiled, size // 50, axis=(1, 2))
    kinds = (("regions", regions), ("225 regions", many), ("noise of 256 ids", noise))
    print(f"{'':50}{'compkit':>12}{'other':>12}{'faster':>9}")
    for kind, (truth, prediction) in kinds:
        theirs = milliseconds(flat_sklearn, truth, prediction)
        for label, score in (
            ("ARI", lambda t, p: adjusted_rand_index(contingency(t, p))),
            ("three metrics", image_scores),
            ("all metrics", lambda t, p: image_scores(t, p, tuple(REGISTRY.builtin))),
        ):
            mine = milliseconds(score, truth, prediction)
            name = f"{label}, one {size}² image, {kind}"
            print(f"{name:50}{mine:9.2f} ms{theirs:9.2f} ms{theirs / mine:8.1f}×")
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "y.csv", Path(folder) / "s.csv"
        for seed, path in enumerate(paths):
            apart(make, path, count, size, count, seed)
        (mine, found), (theirs, wanted) = (apart(way, *paths) for way in (replica, notebook))
    name = f"from two CSVs of {count} × {size}²"
    print(f"{name:50}{mine:10.2f} s{theirs:10.2f} s{theirs / mine:8.1f}×")
    print(f"scores {found:.12f} and {wanted:.12f}")


if __name__ == "__main__":
    main()
