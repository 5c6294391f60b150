"""What each head loses on perfect maps, and how long one core decodes.

    OMP_NUM_THREADS=1 python benchmarks/decode.py [--data DIR] [--size 512] [--slices 20]

Phantoms of the given size, or the labelled slices of a competition. Scores are of perfect maps;
times are of the same maps under smooth noise, as networks give them.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from compkit.config import RunConfig
from compkit.data.store import open_store
from compkit.display import print_table
from compkit.heads import HEADS, make_head
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
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


def _row(name: str, labels: list[np.ndarray]) -> list[str]:
    head = make_head(RunConfig(head=name), labels[0].shape[0])
    rng = np.random.default_rng(0)
    scores, seconds = [], []
    for truth in labels:
        maps = head.ideal(truth)
        scores.append(image_scores(truth, head.decode(maps, head.defaults)))
        noise = [cv2.GaussianBlur(rng.normal(0, NOISE, m.shape), (0, 0), BLUR) for m in maps]
        noisy = np.clip(maps + np.array(noise, np.float32), 0, 1)
        start = time.perf_counter()
        head.decode(noisy, head.defaults)
        seconds.append(1000 * (time.perf_counter() - start))
    means = [f"{np.mean([one[metric] for one in scores]):.4f}" for metric in METRICS]
    return [name, *means, f"{np.median(seconds):.1f}", f"{max(seconds):.1f}"]


if __name__ == "__main__":
    main()
