"""What threads that spin cost in training, alone and beside other processes.

    python benchmarks/threads.py [--seconds 8]

Prints optimiser steps a second (EfficientNet-Lite0 U-Net, 8 crops of 96²) where threads that wait
for each other spin as GNU's OpenMP has them by default, as compkit has them, and not at all, each
beside 0, 1 and 2 processes that do nothing but count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from compkit.display import print_table

BUSY = "while True: pass"

STEPS = """
import sys, time
import torch
from compkit.config import ModelConfig
from compkit.models.network import Network

network = Network("tf_efficientnet_lite0", 4, ModelConfig(weights="none")).train()
optimizer = torch.optim.AdamW(network.parameters())
images = torch.rand(8, 1, 96, 96)

def step():
    network(images).mean().backward()
    optimizer.step()
    optimizer.zero_grad()

step()
done, start = 0, time.perf_counter()
while time.perf_counter() - start < float(sys.argv[1]):
    step()
    done += 1
print(done / (time.perf_counter() - start))
"""

#: What is set of the environment, by what it is called.
WAYS = {
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "compkit's": {"GOMP_SPINCOUNT": "1000"},
    "none": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def main() -> None:
    """Measure every way beside every number of processes, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = str(parser.parse_args().seconds)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for count in range(3):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
        try:
            for name, setting in WAYS.items():
                command = [sys.executable, "-c", STEPS, seconds]
                done = subprocess.check_output(command, env=os.environ | setting, text=True)
                rates[name].append(float(done))
        finally:
            for process in busy:
                process.kill()
                process.wait()
    first = rates["OpenMP's default"]
    rows = [
        [name, *(f"{r:.2f} ({r / d:.1f}×)" for r, d in zip(own, first, strict=True))]
        for name, own in rates.items()
    ]
    title = f"steps a second on {os.cpu_count()} cores"
    print_table(title, ["spinning", *(f"beside {n} processes" for n in range(3))], rows)


if __name__ == "__main__":
    main()
