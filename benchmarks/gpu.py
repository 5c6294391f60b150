"""What compkit reaches on a GPU, in at most nine minutes, with nothing to download.

    python benchmarks/gpu.py [--out gpu.json] [--size 512] [--images 64]

Prints, as each is done: steps a second of the network alone (forward and backward on one repeated
batch, the loss left out), with its loss, with the loader, and through the trainer, at several
precisions and compiled, with peak memory; prediction with eight views, and decoding beside it; a
short fit on CPU and GPU; and what a fit becomes that is killed and resumed, or repeated. The data
are phantoms. What fails is said, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from throughput import Bench

from compkit.data.store import open_store
from compkit.display import print_table
from compkit.heads.base import Head
from compkit.inference.predict import Predictor, batches, mean_of
from compkit.machine import autocast, precision_of
from compkit.progress import say
from compkit.training.command import parse

TRAIN = Path(__file__).absolute().parents[1] / "train.py"

#: The eight ways a square can lie.
VIEWS = tuple(
    "+".join(part for part in (flip, turn) if part != "identity") or "identity"
    for flip in ("identity", "hflip")
    for turn in ("identity", "rot90", "rot180", "rot270")
)

Rows = list[list[str]]


def main() -> None:
    """Measure one thing after the other; keep what is known after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="keep the tables as JSON, too")
    parser.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    parser.add_argument("--images", type=int, default=64, help="labelled images")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--only", nargs="+", help="of prediction, steps, trainer, agreement, resuming"
    )
    a = parser.parse_args()
    a.out = a.out.absolute() if a.out else None
    tables: dict[str, Any] = {"machine": _machine()}
    say(json.dumps(tables["machine"]))
    data = f"phantom:size={a.size},labelled={a.images},unlabelled=0,test=1"
    small = "phantom:size=128,labelled=24,unlabelled=0,test=1"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        sections = {
            "prediction": lambda: prediction(data, a.device),
            "steps": lambda: steps(data, a.device),
            "trainer": lambda: trainer(data, a.device),
            "agreement": lambda: agreement(small),
            "resuming": lambda: resuming(small, a.device),
        }
        for name in a.only or sections:
            title, columns, rows = sections[name]()
            found: Rows = []
            try:
                for row in rows:
                    found.append(row)
                    say("  ".join(row))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                say(f"{title}: {' '.join(str(error).split())[:500]}")
            print_table(title, columns, found)
            tables[title] = {"columns": columns, "rows": found}
            if a.out:
                a.out.write_text(json.dumps(tables, indent=1))


Section = tuple[str, list[str], Iterator[list[str]]]


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "gpu": gpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def steps(data: str, device: str) -> Section:
    """Steps a second of the network alone, with its loss, and with the loader."""
    kinds = [
        ("tf_efficientnet_lite0", 8, "32", False),
        ("tf_efficientnet_lite0", 8, "bf16-mixed", False),
        ("tf_efficientnet_lite0", 32, "bf16-mixed", False),
        ("resnet34", 24, "bf16-mixed", False),
        ("resnet34", 24, "bf16-mixed", True),
    ]
    columns = ["encoder, batch, precision", "alone", "with loss", "loader", "loader/alone"]
    columns += ["loader/loss", "peak GB"]
    return "steps a second", columns, (_steps(data, device, *kind) for kind in kinds)


def _steps(
    data: str, device: str, encoder: str, batch: int, precision: str, compiled: bool
) -> list[str]:
    bench = _bench(data, device, encoder, batch, precision)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if compiled:
        bench.network.compile()
    works: list[Callable[[], None]] = [bench.network_alone, bench.repeated, bench.loaded]
    for work in works:
        bench.seconds(work)  # warm-up
    times = torch.tensor([[bench.seconds(work) for work in works] for _ in range(ROUNDS)])
    alone, loss, loaded = times.median(dim=0).values.tolist()
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    del bench.stream  # its processes
    name = f"{encoder}, {batch}, {precision}{', compiled' if compiled else ''}"
    rates = [f"{bench.count / seconds:.1f}" for seconds in (alone, loss, loaded)]
    return [name, *rates, f"{alone / loaded:.3f}", f"{loss / loaded:.3f}", f"{peak:.2f}"]


ROUNDS = 3


def _bench(data: str, device: str, encoder: str, batch: int, precision: str) -> Bench:
    line = ["--data", data, "--run", "none", "--encoders", f"[{encoder}]"]
    line += ["--model.weights", "none", "--input.batch", str(batch)]
    line += ["--machine.precision", precision, "--machine.device", device]
    return Bench(parse(line)[1], data, 20 if torch.cuda.is_available() else 2)


def trainer(data: str, device: str) -> Section:
    """Return steps a second of whole fits, validation and checkpoints included."""

    def rows() -> Iterator[list[str]]:
        for encoder, batch in (("tf_efficientnet_lite0", 8), ("resnet34", 24)):
            bench = _bench(data, device, encoder, batch, "auto")
            bench.seconds(bench.network_alone)
            alone = min(bench.seconds(bench.network_alone) for _ in range(ROUNDS))
            del bench.stream
            length = 200 if torch.cuda.is_available() else 4
            settings = {
                "encoders": f"[{encoder}]", "input.batch": batch, "folds.k": 4,
                "training.steps": 2 * length, "training.steps_per_epoch": length,
                "training.warmup": 1, "machine.device": device,
            }  # fmt: skip
            start = time.perf_counter()
            _train(data, f"trainer-{encoder}", {"fold": 0} | settings)
            whole = time.perf_counter() - start
            fit = _fitted(f"trainer-{encoder}", encoder)
            rate, bare = 2 * length / fit["seconds"], bench.count / alone
            row = [f"{encoder}, {batch}", f"{bare:.1f}", f"{rate:.1f}", f"{rate / bare:.3f}"]
            yield [*row, f"{fit['seconds']:.1f}", f"{whole:.1f}"]

    columns = ["encoder, batch", "alone", "trainer", "trainer/alone", "fit s", "command s"]
    return "steps a second of a fit, with the validation of 16 images every 200", columns, rows()


def prediction(data: str, device: str) -> Section:
    """Return images a second of prediction with eight views, and of decoding."""

    def rows() -> Iterator[list[str]]:
        for encoder, batch in (("tf_efficientnet_lite0", 8), ("resnet34", 16)):
            bench = _bench(data, device, encoder, batch, "auto")
            del bench.stream
            predictor = Predictor(bench.network, bench.head, VIEWS)
            store = open_store(data)
            chosen = list(range(min(64, len(store.train))))
            with autocast(bench.config.machine):
                for _ in range(2):  # the first warms up
                    start = time.perf_counter()
                    maps = [one for stack in batches((store.images[i] for i in chosen), batch)
                            for one in mean_of([predictor], stack)]  # fmt: skip
                    predicting = (time.perf_counter() - start) / len(chosen)
            ideal = [bench.head.ideal(store.labels_of(i)) for i in chosen]
            one, everywhere = (_decode_seconds(bench.head, ideal, jobs) for jobs in (1, -1))
            precision = precision_of(bench.config.machine)
            row = [f"{encoder}, {batch}, {precision}", f"{1 / predicting:.1f}"]
            yield [*row, f"{1 / one:.1f}", f"{1 / everywhere:.1f}", str(maps[0].shape)]

    columns = ["encoder, batch", "8 views", "decode, one core", "all cores", "maps"]
    return "images a second", columns, rows()


def _decode_seconds(head: Head, maps: list[np.ndarray], jobs: int) -> float:
    with Parallel(jobs, max_nbytes=None) as pool:
        for _ in range(2):  # the first starts the processes
            start = time.perf_counter()
            size = maps[0].shape[-2:]
            pool(delayed(head.decode)(one, head.defaults, size) for one in maps)
    return (time.perf_counter() - start) / len(maps)


#: A fit that is short, and long enough that its score means something.
SHORT = {
    "encoders": "[resnet18]", "model.weights": "none", "folds.k": 2, "training.steps": 200,
    "training.steps_per_epoch": 50, "training.warmup": 20, "training.lr": 0.002,
    "training.ema": 0.97, "machine.workers": 2,
}  # fmt: skip


def agreement(data: str) -> Section:
    """Return what one short fit scores on the CPU and on the GPU, with two seeds."""
    kinds = [("cpu", "32"), ("cuda", "32"), ("cuda", "16-mixed"), ("cuda", "bf16-mixed")]

    def rows() -> Iterator[list[str]]:
        chosen = [(*kind, seed) for kind in kinds if "cuda" not in kind or cuda for seed in (0, 1)]
        with ThreadPoolExecutor() as pool:
            scores = list(pool.map(lambda one: _short_score(data, *one), chosen))
        for (device, precision, _), *two in zip(
            chosen[::2], scores[::2], scores[1::2], strict=True
        ):
            yield [f"{device}, {precision}", *(f"{score:.4f}" for score in two)]

    cuda = torch.cuda.is_available()
    return "the score of a short fit", ["device, precision", "seed 0", "seed 1"], rows()


def _short_score(data: str, device: str, precision: str, seed: int) -> float:
    run = f"agree-{device}-{precision}-{seed}"
    machine = {"machine.device": device, "machine.precision": precision}
    _train(data, run, SHORT | machine | {"seed": seed, "fold": 0})
    return float(_fitted(run, "resnet18")["score"])


def resuming(data: str, device: str) -> Section:
    """Return how a fit that was killed and resumed, and one repeated, differ from the first."""
    settings = SHORT | {"fold": 0, "machine.device": device, "seed": 0}

    def rows() -> Iterator[list[str]]:
        with ThreadPoolExecutor() as pool:
            once = [pool.submit(_train, data, run, settings) for run in ("first", "repeated")]
            killed = pool.submit(_kill_after, data, "killed", settings, epoch=2)
        for future in (*once, killed):
            future.result()
        _train(data, "killed", settings)
        for name in ("repeated", "killed and resumed"):
            run = name.split()[0]
            one, two = (_fitted(r, "resnet18") for r in ("first", run))
            yield [name, f"{one['score']:.4f}", f"{two['score']:.4f}", _distance(run)]

    columns = ["fit", "score of the first", "its score", "largest difference of a weight"]
    return "the same fit again", columns, rows()


def _train(data: str, run: str, settings: dict[str, Any]) -> None:
    done = subprocess.run(_command(data, run, settings), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"compkit train ended with {done.returncode}: {done.stderr[-1500:]}")


def _command(data: str, run: str, settings: dict[str, Any]) -> list[str]:
    flags = [f"--{key}={value}" for key, value in settings.items()]
    return [sys.executable, str(TRAIN), "--data", data, "--run", run, *flags]


def _kill_after(data: str, run: str, settings: dict[str, Any], epoch: int) -> None:
    history = Path("runs") / run / "resnet18" / "fold0" / "metrics.csv"
    process = subprocess.Popen(_command(data, run, settings), stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if history.is_file() and len(history.read_text().splitlines()) > epoch:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError("the fit was over before it could be killed")


def _fitted(run: str, encoder: str) -> dict[str, Any]:
    path = Path("runs") / run / encoder / "fold0" / "fit.json"
    return dict(json.loads(path.read_text()))


def _distance(run: str) -> str:
    weights = [
        torch.load(Path("runs") / name / "resnet18/fold0/last.ckpt", weights_only=True)[
            "state_dict"
        ]
        for name in ("first", run)
    ]
    one, two = weights
    far = max(float((one[key].double() - two[key].double()).abs().max()) for key in one)
    return "none" if far == 0 else f"{far:.2g}"


if __name__ == "__main__":
    main()
