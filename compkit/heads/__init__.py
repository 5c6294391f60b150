"""Heads by name, alone or joined."""

from __future__ import annotations

from collections.abc import Mapping

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.heads.base import Head
from compkit.heads.foreground import Foreground
from compkit.heads.partition import Partition
from compkit.registry import HEADS

__all__ = ["HEADS", "make_head", "partitions_of"]


def make_head(config: RunConfig, side: int, shares: Mapping[str, float] | None = None) -> Head:
    """Return the head of a run on images of `side` pixels, as the network sees them.

    Parameters
    ----------
    shares : mapping of str to float, optional
        Weights of several partitions when they are cut together; equal ones by default.

    Raises
    ------
    CompkitError
        If there is no such head, or a setting of it cannot be.
    """
    parts = partitions_of(config, side)
    weights = None if shares is None else [shares[part.name] for part in parts]
    return Head(Foreground(config.loss), parts, config.partition, side, weights)


def partitions_of(config: RunConfig, side: int) -> list[Partition]:
    """Return the partitions that a run's head names, as `make_head` joins them."""
    names = config.head.split("+")
    kinds = {name: HEADS.get(name) for name in names if name != "foreground"}
    if len(set(names)) < len(names):
        raise CompkitError(f"the head {config.head!r} names one twice: name each once")
    parts = []
    for name, kind in kinds.items():
        with HEADS.blaming(name, "cannot be made"):
            part = kind(config.partition, side)
            if not isinstance(part, Partition) or part.name != name:
                raise TypeError(f"it is no subclass of Partition with the name {name!r}")
        parts.append(part)
    return parts
