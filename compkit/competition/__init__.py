"""Competitions by name, and the way from a ``--data`` argument to one of them."""

from __future__ import annotations

from compkit.competition.base import Competition
from compkit.competition.phantom import Phantom
from compkit.competition.raidium import Raidium

COMPETITIONS: dict[str, Competition] = {c.name: c for c in (Raidium(), Phantom())}


def competition_of(data: str) -> Competition:
    """Return the competition that the locator `data` belongs to.

    ``phantom`` or ``phantom:size=128,labelled=40,…`` is the embedded one; anything else is a folder
    in the challenge's layout.
    """
    scheme = data.split(":", 1)[0]
    return COMPETITIONS["phantom" if scheme == "phantom" else "raidium"]
