"""Where runs lie."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from compkit.errors import CompkitError

#: What ``--runs`` is told of, in every command that has it.
RUNS_HELP = "where runs lie; without it, where COMPKIT_RUNS says, or runs/"

_given: ContextVar[Path | None] = ContextVar("runs", default=None)


def runs_root() -> Path:
    """Return the directory of all runs: of `runs_at`, else of COMPKIT_RUNS, else ``runs``.

    Raises
    ------
    CompkitError
        If there is a file.
    """
    root = _given.get() or Path(os.environ.get("COMPKIT_RUNS") or "runs")
    if root.exists() and not root.is_dir():
        raise CompkitError(
            f"runs cannot lie in {root}, which is a file: give --runs (or COMPKIT_RUNS) a folder"
        )
    return root


def runs_option() -> str:
    """Return what a command that is suggested has to be told to find the same runs."""
    given = _given.get()
    return "" if given is None else f" --runs {shlex.quote(str(given))}"


@contextmanager
def runs_at(directory: Path | str | None) -> Iterator[None]:
    """Let runs lie in `directory` until the block ends; None leaves them where they are."""
    before = _given.set(Path(directory) if directory else _given.get())
    try:
        yield
    finally:
        _given.reset(before)
