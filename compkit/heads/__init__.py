"""Heads by name: one file and one line here for each."""

from __future__ import annotations

from collections.abc import Callable

from compkit.config import LossConfig
from compkit.errors import CompkitError, nearest
from compkit.heads.base import Head
from compkit.heads.foreground import Foreground

#: What makes each head of its loss.
HEADS: dict[str, Callable[[LossConfig], Head]] = {head.name: head for head in (Foreground,)}


def make_head(name: str, loss: LossConfig) -> Head:
    """Return the head called `name` with its loss.

    Raises
    ------
    CompkitError
        If there is no such head.
    """
    if name not in HEADS:
        raise CompkitError(
            f"there is no head {name!r}{nearest(name, HEADS)}: take one of {', '.join(HEADS)}"
        )
    return HEADS[name](loss)
