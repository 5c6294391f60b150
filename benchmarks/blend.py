"""What `compkit blend` gains over its inputs and over simpler ways, and how long an image takes.

    OMP_NUM_THREADS=1 python benchmarks/blend.py [--size 512] [--images 12] [--inputs 10]

The truths are phantoms; the inputs are the truths with boundaries moved and regions joined, cut in
two or dropped, each input in its own way and some more than others. Seconds are of one core.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from compkit.blend.consensus import find_consensus, joint_segments
from compkit.display import print_table
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS, contingency
from compkit.phantom.slices import draw_slice
from compkit.regions import numbered

#: How far boundaries move, pixels of 512 (deviation), and over how many pixels a shift is alike.
SHIFT, SMOOTH = 3.0, 12.0
#: How likely a pair of touching regions is joined, and a region cut in two or dropped.
JOINED, CUT, DROPPED = 0.1, 0.15, 0.1
#: All of that is multiplied by a factor between these, from the best input to the worst.
BEST, WORST = 0.5, 1.5


def noisy(truth: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return `truth` (H, W) as a method of some error `level` might give it, uint8."""
    labels = numbered(truth)
    touching = contingency(labels[1:], labels[:-1])[1:, 1:] > 0
    for one, other in np.argwhere(np.triu(touching, 1)) + 1:
        if rng.random() < JOINED * level:
            labels[labels == other] = one
    for region in np.unique(labels[labels > 0]):
        chance = rng.random()
        if chance < DROPPED * level:
            labels[labels == region] = 0
        elif chance < (DROPPED + CUT) * level:
            rows, columns = np.nonzero(labels == region)
            angle = rng.uniform(0, np.pi)
            along = rows * np.sin(angle) + columns * np.cos(angle)
            half = along > np.median(along)
            labels[rows[half], columns[half]] = labels.max() + 1
    scale = truth.shape[0] / 512
    places = []
    for indices in np.indices(truth.shape):
        shift = cv2.GaussianBlur(rng.normal(size=truth.shape), (0, 0), SMOOTH * scale)
        places.append((indices + SHIFT * level * scale * shift / shift.std()).astype(np.float32))
    small = labels.astype(np.uint8)
    return cv2.remap(small, places[1], places[0], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)


def majority(maps: np.ndarray) -> np.ndarray:
    """Return each pixel's most frequent region, the regions being named as the first input's are.

    They are matched one to one by overlap; one without a match is a region of its own.
    """
    votes = [numbered(maps[0])]
    for labels in map(numbered, maps[1:]):
        overlap = contingency(votes[0], labels)[1:, 1:]
        names = np.arange(overlap.shape[1] + 1) + 1000 * len(votes)
        names[0] = 0
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        hit = overlap[rows, columns] > 0
        names[columns[hit] + 1] = rows[hit] + 1
        votes.append(names[labels])
    segments = joint_segments(np.stack(votes))
    winners = []
    for column in segments.labels.T:
        ids, counts = np.unique(column, return_counts=True)
        winners.append(ids[counts.argmax()])
    return np.array(winners)[segments.index]


def main() -> None:
    """Blend phantoms and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--inputs", type=int, default=10)
    a = parser.parse_args()
    rng = np.random.default_rng(0)
    truths = [draw_slice(0, "test", index, a.size).labels for index in range(a.images)]
    levels = np.linspace(BEST, WORST, a.inputs)
    images = [np.stack([noisy(truth, level, rng) for level in levels]) for truth in truths]
    counts = [len(joint_segments(maps).sizes) for maps in images]
    print(f"{a.images} images of {a.size}², {a.inputs} inputs; joint segments: "
          f"median {np.median(counts):.0f}, at most {max(counts)}")  # fmt: skip
    for metric in METRICS:
        _report(metric, truths, images)


def _report(metric: str, truths: list[np.ndarray], images: list[np.ndarray]) -> None:
    """Print the scores under one metric, and what they cost."""
    weights = np.ones(len(images[0]))
    start = time.process_time()
    found = [find_consensus(maps, weights, metric) for maps in images]
    seconds = (time.process_time() - start) / len(images)
    scores = np.array(
        [
            [image_scores(truth, labels)[metric] for labels in maps]
            for truth, maps in zip(truths, images, strict=True)
        ]
    ).mean(axis=0)
    agreed = int(np.mean([one.mutual.mean(axis=0) for one in found], axis=0).argmax())
    votes = [majority(maps) for maps in images]

    def score(labels: list[np.ndarray]) -> float:
        pairs = zip(truths, labels, strict=True)
        return float(np.mean([image_scores(*pair)[metric] for pair in pairs]))

    values = {
        "inputs, mean": scores.mean(),
        "best input, were it known": scores.max(),
        "input of the best mean agreement": scores[agreed],
        "majority after matching to the first": score(votes),
        "consensus": score([one.labels for one in found]),
    }
    print_table(f"mean {metric}", ["", "score"], [[k, f"{v:.4f}"] for k, v in values.items()])
    regions = np.median([one.labels.max() for one in found])
    print(f"{seconds:.2f} s an image on one core, {seconds * 500 / 2 / 60:.1f} min for 500 on two; "
          f"{regions:.0f} regions (median)\n")  # fmt: skip


if __name__ == "__main__":
    main()
