"""Proof, on one tiny image, that a run's head does what `Partition` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head, partitions_of
from compkit.heads.foreground import Foreground
from compkit.heads.graph import offsets_of
from compkit.heads.partition import Offsets, Partition, Truth
from compkit.parameters import Param
from compkit.registry import LOSSES

_GRID = (32, 32)

#: Two regions that touch, and one apart.
_LABELS = np.zeros(_GRID, np.int32)
_LABELS[4:12, 4:28], _LABELS[12:20, 4:28], _LABELS[24:28, 4:28] = 1, 2, 3


def prove_head(config: RunConfig, side: int) -> None:
    """Refuse a head that cannot be trained, or a loss: either may be an added one.

    Raises
    ------
    CompkitError
        Naming it, and the method that is wrong.
    """
    for partition in partitions_of(config, side):
        _prove(partition, offsets_of(config.partition.reach, side))
        head = make_head(replace(config, head=partition.name), side)
        head.decode(head.ideal(_LABELS), head.defaults)
    make_head(config, side)
    labels, weights = torch.from_numpy(_LABELS)[None], torch.ones(1, 1, *_GRID)
    for name in config.loss.terms:
        logits = torch.zeros(1, 2, *_GRID, requires_grad=True)
        alone = Foreground(replace(config.loss, terms={name: 1.0}))
        if not _trains(loss := alone.loss(logits, labels, weights)):
            LOSSES.refuse(name, "a loss", loss, "a real number with a gradient")


def _prove(partition: Partition, offsets: Offsets) -> None:
    """Try each method of a partition as training and decoding do."""
    with HEADS.blaming(partition.name, "lacks what Partition has"):
        _prove_space(partition.name, partition.space)
        float(partition.weight)
        outputs, maps = len(partition.outputs), len(partition.maps)
    logits = torch.zeros(1, outputs, *_GRID)
    targets = torch.as_tensor(_tried(partition, "targets", (None, *_GRID), _LABELS))[None]
    foreground = torch.full((1, 1, *_GRID), 0.5)
    truth = Truth(torch.from_numpy(_LABELS)[None], targets, torch.ones_like(foreground))
    _tried(partition, "loss", (), logits.clone().requires_grad_(), truth, foreground)
    _tried(partition, "activate", (1, maps, *_GRID), logits)
    ideal = _tried(partition, "ideal", (maps, *_GRID), _LABELS)
    _tried(partition, "known", (maps, *_GRID), _GRID)
    turned = torch.as_tensor(ideal)[None], np.eye(2, dtype=int)
    _tried(partition, "reorient", (1, maps, *_GRID), *turned)
    _tried(partition, "affinities", (len(offsets), *_GRID), ideal, offsets)


def _trains(loss: torch.Tensor) -> bool:
    return loss.is_floating_point() and loss.requires_grad


def _prove_space(name: str, space: Mapping[str, Param]) -> None:
    if not isinstance(space, Mapping) or not all(isinstance(p, Param) for p in space.values()):
        HEADS.refuse(name, "space", space, "a mapping from names to Param(…)")
    for parameter, param in space.items():
        if parameter in (*Foreground.space, "fragment", "fill"):
            HEADS.refuse(name, "space", parameter, "a name that no other parameter has")
        if not param.values:
            HEADS.refuse(name, f"values of {parameter}", param.values, "at least one")
        try:
            for value in param.values:
                param.refuse(parameter, value)
        except CompkitError as error:
            raise CompkitError(f"the head {name!r}, in its space: {error}") from None


def _tried(partition: Partition, method: str, shape: tuple[int | None, ...], *given: Any) -> Any:
    """Return what a method returns, an array or tensor of a shape, of which None is any length."""
    name, found = partition.name, HEADS.ask(partition.name, partition, method, *given)
    told = getattr(found, "shape", (-1,))
    if len(told) != len(shape) or any(w not in (None, n) for n, w in zip(told, shape, strict=True)):
        HEADS.refuse(name, method, found, f"the shape {shape}".replace("None", "any"))
    if method in ("loss", "activate", "reorient") and not isinstance(found, torch.Tensor):
        HEADS.refuse(name, method, found, "a tensor")
    if method == "loss" and not _trains(found):
        HEADS.refuse(name, method, found, "a real number with a gradient")
    if method in ("ideal", "activate") and not (found.min() >= 0 and found.max() <= 1):
        HEADS.refuse(name, method, float(found.max()), "what is from 0 to 1")
    return found
