"""Heads by name: one file and one line here for each partition."""

from __future__ import annotations

from collections.abc import Mapping

from compkit.config import RunConfig
from compkit.errors import CompkitError, nearest
from compkit.heads.affinity import Affinity
from compkit.heads.base import Head
from compkit.heads.boundary import Boundary
from compkit.heads.combined import Combined
from compkit.heads.distance import Distance
from compkit.heads.embedding import Embedding
from compkit.heads.foreground import Foreground
from compkit.heads.partition import Partition
from compkit.heads.slots import Slots

PARTITIONS: dict[str, type[Partition]] = {
    kind.name: kind for kind in (Affinity, Boundary, Distance, Embedding, Slots)
}

#: What a run's `head` may be; partitions may also be joined by "+".
HEADS = ("foreground", *PARTITIONS)


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
    for name in names:
        if name not in HEADS:
            raise CompkitError(
                f"there is no head {name!r}{nearest(name, HEADS)}: take one of "
                f"{', '.join(HEADS)}, or several joined by +"
            )
    if len(set(names)) < len(names):
        raise CompkitError(f"the head {config.head!r} names one twice: name each once")
    parts = [PARTITIONS[name](config.partition, side) for name in names if name != "foreground"]
    partition: Partition | None = parts[0] if parts else None
    if len(parts) > 1:
        weights = None if shares is None else [shares[part.name] for part in parts]
        partition = Combined(parts, config.partition, side, weights)
    return Head(Foreground(config.loss), partition, config.partition.weight)
