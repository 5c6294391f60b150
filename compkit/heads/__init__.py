"""Heads by name, alone or joined."""

from __future__ import annotations

from collections.abc import Mapping

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.heads.base import Head
from compkit.heads.foreground import Foreground
from compkit.heads.partition import Partition
from compkit.registry import Registry

#: What a run's `head` may be; partitions, which are all but the foreground, may be joined by "+".
HEADS = Registry(
    "compkit.heads",
    "head",
    {
        "foreground": "compkit.heads.foreground:Foreground",
        "affinity": "compkit.heads.affinity:Affinity",
        "boundary": "compkit.heads.boundary:Boundary",
    },
)


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
    names = config.head.split("+")
    kinds: list[type[Partition]] = [HEADS.get(name) for name in names if name != "foreground"]
    if len(set(names)) < len(names):
        raise CompkitError(f"the head {config.head!r} names one twice: name each once")
    parts = [kind(config.partition, side) for kind in kinds]
    weights = None if shares is None else [shares[part.name] for part in parts]
    return Head(Foreground(config.loss), parts, config.partition, side, weights)
