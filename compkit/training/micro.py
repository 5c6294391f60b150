"""Micro-batches: the parts of a batch that are computed one at a time, since memory is limited."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import DataLoader, default_collate

from compkit.data.dataset import Batch, Examples
from compkit.errors import CompkitError
from compkit.machine import autocast, device_of
from compkit.progress import say
from compkit.training.module import SegmentationModule, micro_batch, optimisers

#: The share of a GPU's memory that a micro-batch leaves free.
_SPARE = 0.05


def part_count(
    module: SegmentationModule, training: Mapping[str, DataLoader[Any]], label: str
) -> int:
    """Return into how many micro-batches a batch falls, by ``machine.batch``; say it if several.

    Parameters
    ----------
    module : SegmentationModule
        On the CPU; neither it nor any generator of random numbers is changed.
    training : mapping of str to DataLoader
        Of each a batch is in every step's.
    label : str
        What people are told that this is of.

    Raises
    ------
    CompkitError
        If not even two images fit into the memory of the GPU.
    """
    config, device = module.config, device_of(module.config.machine)
    largest, at_once = max(config.batches), config.machine.batch
    if at_once == "auto":
        parts = fitting_parts(module, training, device) if device.type == "cuda" else 1
    else:
        parts = -(-largest // at_once) if at_once else 1
    if parts > 1:
        say(f"{label}: {-(-largest // parts)} of {largest} images at once (machine.batch)")
    return parts


def fitting_parts(
    module: SegmentationModule, training: Mapping[str, DataLoader[Any]], device: torch.device
) -> int:
    """Return into how few micro-batches a batch falls that fit into a device's memory."""
    batches = [_first(loader) for loader in training.values()]
    for parts in range(1, min(len(one["images"]) for one in batches) // 2 + 1):
        fits = _fits(module, [micro_batch(one, parts, 0) for one in batches], device)
        gc.collect()  # cycles hold what an attempt left
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if fits:
            return parts
    side = batches[0]["images"].shape[-1]
    raise CompkitError(
        f"not even two images of {side}×{side} fit into the memory of the GPU under "
        f"{module.encoder}: make input.crop or input.size smaller, or take a smaller encoder"
    )


def _fits(module: SegmentationModule, batches: list[Batch], device: torch.device) -> bool:
    """Whether steps with such micro-batches, on copies of all, fit into a device's memory."""
    cuda, t = device.type == "cuda", module.config.training
    try:
        with torch.random.fork_rng([device] if cuda else []):
            whole = torch.cuda.get_device_properties(device).total_memory if cuda else 0
            held: list[Any] = [torch.empty(int(_SPARE * whole), dtype=torch.uint8, device=device)]
            copy = deepcopy(module).to(device).train()
            held += [deepcopy(copy)] if t.ema else []
            (optimiser,), _ = optimisers(copy.network, t)
            for _ in range(2):  # from the second on, the optimiser's state takes memory, too
                copy.zero_grad()
                with autocast(module.config.machine):
                    losses = [copy.supervised(move_data_to_device(one, device)) for one in batches]
                torch.stack(losses).sum().backward()
                optimiser.step()
    except torch.OutOfMemoryError:
        return False
    return True


def _first(loader: DataLoader[Any]) -> Batch:
    """Return a batch like those of a loader, without drawing one."""
    examples = cast(Examples, loader.dataset)
    places = range(loader.batch_size or 1)
    return cast(Batch, default_collate([examples[(n, n % len(examples))] for n in places]))
