"""Seconds that k TTA views take, against k times the plain image.

python benchmarks/views.py --size 128
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from compkit.config import MachineConfig, ModelConfig, RunConfig
from compkit.display import print_table
from compkit.heads import make_head
from compkit.inference.predict import Predictor
from compkit.machine import autocast, device_of
from compkit.models.network import Network

VIEWS = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270", "hflip+rot90", "hflip+rot270")


def main() -> None:
    """Print seconds and ratios for heads of few and of many channels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="side of the images, pixels")
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 255, (8, a.size, a.size), np.uint8)
    rows = []
    for name in ("foreground", "boundary", "affinity"):
        config = RunConfig(head=name, model=ModelConfig(weights="none"))
        head = make_head(config, a.size)
        network = Network(a.encoder, len(head.outputs), config.model)
        network = network.eval().to(device_of(MachineConfig()))
        one = Predictor(network, head, VIEWS[:1])
        ratios = []
        with autocast(MachineConfig()):
            for k in (2, 4, 8):
                views = Predictor(network, head, VIEWS[:k])
                # Side by side, and equally long, as the machine's speed varies.
                pairs = [(timed(views, images), timed(one, images, k)) for _ in range(a.repeats)]
                together, apart = np.min(pairs, axis=0)
                ratios.append(f"{together / apart:.2f}")
        rows.append([name, f"{apart / k:.3f}", *ratios])
    columns = ["head", "1 view, s", *(f"{k} views / ({k} × 1)" for k in (2, 4, 8))]
    print_table(f"{a.encoder}, 8 images of {a.size}²", columns, rows)


def timed(predictor: Predictor, images: np.ndarray, times: int = 1) -> float:
    """Return the seconds of as many predictions."""
    start = time.perf_counter()
    for _ in range(times):
        predictor(images).cpu()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
