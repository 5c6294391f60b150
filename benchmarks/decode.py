"""What each head loses on perfect maps, and how long one core decodes.

    OMP_NUM_THREADS=1 python benchmarks/decode.py [--data DIR] [--size 512] [--slices 20]

Phantoms of the given size, or the labelled slices of a competition. Scores are of perfect maps;
times are of the same maps under smooth noise, as networks give them. With --together N, also the
seconds in which one process and all cores decode N such maps, one way after the other.
"""

from __future__ import annotations

import argparse
import sys
import time

import cv2
import numpy as np
from joblib import cpu_count

from compkit.config import RunConfig
from compkit.data.store import open_store
from compkit.display import print_table
from compkit.heads import HEADS, make_head
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
from compkit.parallel import each_image
from compkit.phantom.slices import draw_slice

#: Deviation of the noise before its blur, and the blur's radius in pixels.
NOISE, BLUR = 0.5, 2.0


def main() -> None:
    """Decode and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", help="a competition, instead of phantoms")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--together", type=int, metavar="N")
    a = parser.parse_args()
    if a.data is None:
        labels = [draw_slice(0, "train", i, a.size).labels for i in range(a.slices)]
    else:
        store = open_store(a.data)
        labels = [np.asarray(store.labels_of(int(i))) for i in store.labelled]
    rows = [_row(name, labels) for name in [*HEADS.names(), "+".join(HEADS.names()[1:])]]
    columns = ["head", *METRICS, "median ms", "slowest ms"]
    title = f"perfect maps of {len(labels)} slices of {labels[0].shape[0]}², {a.data or 'phantom'}"
    print_table(title, columns, rows)
    if a.together:
        rows = [_together(name, labels, a.together) for name in ("boundary", "affinity")]
        columns = ["head", "1 process, s", f"{cpu_count()} processes, s", "ratio"]
        print_table(f"{a.together} maps of {labels[0].shape[0]}²", columns, rows)


def _together(name: str, labels: list[np.ndarray], count: int) -> list[str]:
    head = make_head(RunConfig(head=name), labels[0].shape[0])
    rng = np.random.default_rng(0)
    maps = [_noisy(head.ideal(truth), rng) for truth in labels]
    seconds: dict[int, list[float]] = {0: [], sys.maxsize: []}
    for pixels in (sys.maxsize, 0, sys.maxsize, 0, sys.maxsize):
        start = time.perf_counter()
        work = ((maps[i % len(maps)], head.defaults) for i in range(count))
        for _ in each_image(head.decode, work, name, count, pixels):
            pass
        seconds[pixels].append(time.perf_counter() - start)
    alone, apart = min(seconds[0]), min(seconds[sys.maxsize][1:])  # after processes have started
    return [name, f"{alone:.1f}", f"{apart:.1f}", f"{apart / alone:.2f}"]


def _row(name: str, labels: list[np.ndarray]) -> list[str]:
    head = make_head(RunConfig(head=name), labels[0].shape[0])
    rng = np.random.default_rng(0)
    scores, seconds = [], []
    for truth in labels:
        maps = head.ideal(truth)
        scores.append(image_scores(truth, head.decode(maps, head.defaults)))
        noisy = _noisy(maps, rng)
        start = time.perf_counter()
        head.decode(noisy, head.defaults)
        seconds.append(1000 * (time.perf_counter() - start))
    means = [f"{np.mean([one[metric] for one in scores]):.4f}" for metric in METRICS]
    return [name, *means, f"{np.median(seconds):.1f}", f"{max(seconds):.1f}"]


def _noisy(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = [cv2.GaussianBlur(rng.normal(0, NOISE, m.shape), (0, 0), BLUR) for m in maps]
    return np.clip(maps + np.array(noise, np.float32), 0, 1)


if __name__ == "__main__":
    main()
