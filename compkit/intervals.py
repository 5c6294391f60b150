"""Bootstrap intervals as people and files see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BeforeValidator

from compkit.metrics.bootstrap import Groups, group_numbers

#: A score as files hold it: JSON has no NaN, so null stands for it.
Score = Annotated[float, BeforeValidator(lambda value: np.nan if value is None else value)]

T = TypeVar("T", float, tuple[float, float])

#: Intervals that rest on fewer groups than this tend to be too narrow.
_FEW = 10


def shown(ends: Sequence[float] | None, style: str = ".4f") -> str:
    """Return an interval as text, ``n/a`` where there is none (None, or NaN)."""
    if ends is None or np.isnan(ends[0]):
        return "n/a"
    return " to ".join(f"{end:{style}}" for end in ends)


def resampling(images: int, groups: Groups) -> str:
    """Return what intervals over some images rest on, as text.

    Parameters
    ----------
    groups : sequence of length `images`, optional
        As of `compkit.metrics.bootstrap.interval`.
    """
    count = len(np.unique(group_numbers(groups, images)))
    if count < 2:
        return "no interval: one image" if images < 2 else "no interval: all are one group"
    few = ", too few to be sure of it" if count < _FEW else ""
    return f"resampling {count} {'groups' if count < images else 'images'}{few}"


def known(value: T) -> T | None:
    """Return a score or an interval, or None where there is none, since null in JSON."""
    return None if np.isnan(value).any() else value


def low_high(ends: Sequence[float] | None) -> dict[str, float]:
    """Return the ends of an interval by the ledger's names, nothing where there is none."""
    return {} if ends is None else {"low": ends[0], "high": ends[1]}
