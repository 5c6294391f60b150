"""How near training comes to the speed of the network alone, on whatever device is there.

    python benchmarks/throughput.py [--data DIR] [--encoders [resnet34]] [--input.batch 24]

Prints images a second with the real loader (decoded, augmented, collated, moved), with one repeated
batch, their ratio (wanted: at least 0.95), and the share of the repeated step that is the network's
forward, backward and update; the rest is the loss. Any setting of compkit train may follow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from compkit.config import RunConfig
from compkit.data.dataset import labelled_set
from compkit.data.store import open_store
from compkit.display import print_table
from compkit.heads import make_head
from compkit.heads.partition import Truth
from compkit.machine import autocast, device_of, precision_of, worker_count
from compkit.models.network import Network
from compkit.training.command import parse
from compkit.training.loop import drawn

STEPS, ROUNDS = 6, 5


class Bench:
    """One network under training, fed by hand."""

    def __init__(self, config: RunConfig, data: str, count: int = STEPS) -> None:
        self.config, self.device, self.count = config, device_of(config.machine), count
        store = open_store(data)
        self.head = make_head(config, config.input.size or store.size)
        self.network = Network(config.encoders[0], len(self.head.outputs), config.model)
        self.network.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        dataset = labelled_set(store, store.labelled.tolist(), config, self.head)
        endless = replace(config, training=replace(config.training, steps_per_epoch=10**6))
        self.stream = iter(drawn(dataset, config.input.batch, endless))
        self.batch = self.moved(next(self.stream))

    def moved(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}

    def step(self, batch: dict[str, Tensor], with_loss: bool = True) -> None:
        with autocast(self.config.machine):
            logits = self.network(batch["images"])
        if with_loss:
            truth = Truth(batch["labels"], batch["targets"], batch["weights"])
            loss = self.head.loss(logits, truth)
        else:
            loss = logits.float().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loaded(self) -> None:
        for batch in islice(self.stream, self.count):
            self.step(self.moved(batch))

    def repeated(self) -> None:
        for _ in range(self.count):
            self.step(self.batch)

    def network_alone(self) -> None:
        for _ in range(self.count):
            self.step(self.batch, with_loss=False)

    def seconds(self, work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def main() -> None:
    """Measure in turns, so that a machine's drift falls on all three alike."""
    default = ["--data", "phantom:size=512,labelled=48,unlabelled=0,test=1", "--run", "none"]
    default += ["--input.size", "224", "--encoders", "[resnet18]"]
    own, config = parse([*default, *sys.argv[1:]])
    bench = Bench(config, own["data"])
    works = (bench.loaded, bench.repeated, bench.network_alone)
    bench.seconds(bench.repeated)  # warm-up
    times = torch.tensor([[bench.seconds(work) for work in works] for _ in range(ROUNDS)])
    loaded, repeated, alone = times.median(dim=0).values.tolist()
    images = STEPS * config.input.batch
    rows = [
        ["real loader, images a second", f"{images / loaded:.1f}"],
        ["one repeated batch, images a second", f"{images / repeated:.1f}"],
        ["loader / repeated (median of pairs)", f"{(times[:, 1] / times[:, 0]).median():.3f}"],
        ["share of the step that is the network", f"{min(1.0, alone / repeated):.3f}"],
    ]
    title = f"{config.encoders[0]}, {bench.device.type}, {precision_of(config.machine)}, "
    title += f"batch {config.input.batch}, {worker_count(config.machine)} workers"
    print_table(title, ["", "measured"], rows)


if __name__ == "__main__":
    main()
