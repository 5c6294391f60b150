"""What organs of volumes are called in the competition that is cut from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from compkit.errors import CompkitError
from compkit.inputs import load_yaml

#: What an organ's name becomes; None drops it.
Classes = Callable[[str], str | None]


def class_map(path: Path) -> tuple[Classes, Sequence[str]]:
    """Return what a YAML makes of organs' names, and its patterns.

    Each line is ``organ: new name`` or ``organ: null``; an organ may hold ``*``. The first that
    matches holds; an organ that none names keeps its name.

    Raises
    ------
    CompkitError
        If it is no such file.
    """
    held = load_yaml(path, "map of organs")
    fine = isinstance(held, dict) and held
    if not fine or not all(v is None or (isinstance(v, str) and v) for v in held.values()):
        raise CompkitError(f"{path}: give each organ a line `organ: new name` or `organ: null`")
    pairs = [(str(pattern), new) for pattern, new in held.items()]

    def renamed(name: str) -> str | None:
        return next((new for pattern, new in pairs if fnmatchcase(name, pattern)), name)

    return renamed, [pattern for pattern, _ in pairs]


def naming(path: Path | None, dropped: Collection[str] = ()) -> Classes:
    """Return what a YAML, if there is one, makes of organs' names, less the new names `dropped`."""
    renamed = class_map(path)[0] if path else lambda name: name

    def named(name: str) -> str | None:
        new = renamed(name)
        return None if new in dropped else new

    return named
