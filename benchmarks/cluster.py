"""What Ray costs on one node of one core, and what a second one brings.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py

Trains six networks (two encoders × three folds) one by one, on a cluster of one node of one core,
and on one of two, in turns; every time is of the whole command, decoders included. The start is
that of Ray and of a task which imports what trains. Two such commands at once, without Ray, tell
what a second core can bring at most, as cores may share caches and memory, or be half of one. They
must do nothing else: what shares them makes ratios meaningless, so the load is printed, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median

from ray.cluster_utils import Cluster

from compkit.cluster import on_ray
from compkit.config import MachineConfig
from compkit.display import print_table
from compkit.tasks import each


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="phantom:size=128,labelled=24,unlabelled=0,test=4")
    parser.add_argument("--steps", type=int, default=150, help="of each network")
    parser.add_argument("--repeats", type=int, default=2)
    a = parser.parse_args()
    load, here = os.getloadavg()[0], str(Path(__file__).absolute().parent)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["COMPKIT_CACHE"] = f"{folder}/cache"
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # tasks are functions of this file
        train(a.data, 4, "first")  # the data are read, and files are in memory
        for repeat in range(a.repeats):
            for name, nodes in (("one by one", 0), ("one node", 1), ("two nodes", 2)):
                with nodes_of_one_core(nodes) as where:
                    run = f"{name.replace(' ', '-')}-{repeat}"
                    seconds.setdefault(name, []).append(train(a.data, a.steps, run, where))
                    if nodes == 1:
                        start = clocked("-c", f"import cluster; cluster.start({where!r})")
                        seconds.setdefault("start", []).append(start)
            with ThreadPoolExecutor() as pool:
                runs = [f"half-{repeat}-{k}" for k in range(2)]
                both = max(pool.map(partial(train, a.data, a.steps), runs))
            seconds.setdefault("two at once", []).append(both / 2)
    times = {name: median(values) for name, values in seconds.items()}
    one, node, start, two, half = times.values()
    rows = [
        ["one by one", f"{one:.1f}", "1.00", "1.00"],
        ["one node of one core", f"{node:.1f}", f"{node / one:.2f}", f"{(node - start) / one:.2f}"],
        ["two nodes", f"{two:.1f}", f"{two / node:.2f} of one", f"{(two - start) / one:.2f}"],
        ["two at once, a command", f"{half:.1f}", f"{half / one:.2f}", f"{half / one:.2f}"],
        ["start of Ray and of a worker", f"{start:.1f}", f"{start / node:.2f} of one", ""],
    ]
    title = f"six networks of {a.steps} steps; load before {load:.1f}, median of {a.repeats}"
    print_table(title, ["", "s", "ratio", "without the start, to one by one"], rows)


def start(where: str) -> None:
    """Let a task import what trains."""
    with on_ray(where):
        list(each(warm, [()], MachineConfig()))


def warm() -> None:
    """Do what the first fit of a process does before it trains."""
    import_module("compkit.training.fit")


@contextmanager
def nodes_of_one_core(nodes: int) -> Iterator[str | None]:
    """Yield the address of a cluster of so many nodes of one core; None for none."""
    if not nodes:
        yield None
        return
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        yield made.address
    finally:
        made.shutdown()


def train(data: str, steps: int, run: str, where: str | None = None) -> float:
    """Return the seconds that a command takes which trains six networks."""
    settings = {
        "encoders": "[plain_unet16,plain_unet32]", "folds.k": "3", "training.steps": str(steps),
        "training.steps_per_epoch": str(max(2, steps // 3)), "training.warmup": "2",
        "machine.workers": "0",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    words += ["--ray", where] if where else []
    return clocked("-m", "compkit.cli", "train", "--data", data, "--run", run, *words)


def clocked(*words: str) -> float:
    """Return the seconds that Python takes for something."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
