"""Where runs lie, and what else may lie there."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from compkit.errors import CompkitError

#: What ``--runs`` is told of, in every command that has it.
RUNS_HELP = "where runs lie; without it, where COMPKIT_RUNS says, or runs/"

#: What ``--ray`` is told of, likewise.
RAY_HELP = (
    "spread the work with Ray over this machine (local), the cluster that it belongs to (auto), or "
    "the one at an ADDRESS; docs/cluster.md"
)

#: What kind of directory each of these files makes one under `runs_root`.
KINDS = {
    "run.json": "a run of compkit train",
    "pretrain.yaml": "a pretraining",  # by the package in research/
    "ensemble.json": "an ensemble",
    "study.db": "a study of compkit tune",
    "best.yaml": "a study of compkit tune",
}

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


def refuse_name(name: str) -> None:
    """Raise a CompkitError if a run cannot be called so."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise CompkitError(
            f"{name!r} is no name for a run: take letters, digits, -, _ and ., from a letter on"
        )


def claim(name: str, marker: str, root: Path | None = None) -> Path:
    """Return the directory in which a run, an ensemble, … of this name is to lie.

    Parameters
    ----------
    marker : str
        The file, of those in `KINDS`, that says what is wanted there.
    root : Path, optional
        By default `runs_root`.

    Raises
    ------
    CompkitError
        If nothing can be called so, or something else lies there.
    """
    refuse_name(name)
    directory = (root or runs_root()) / name
    if directory.exists() and not directory.is_dir():
        raise CompkitError(f"{directory} is a file: move it away, or take another name")
    for other, kind in KINDS.items():
        if kind != KINDS[marker] and (directory / other).is_file():
            raise CompkitError(
                f"{directory} is {kind}: take another name (--run, --name or --study)"
            )
    # What compkit makes there begins with a lock, or may have been killed as it began.
    ours = any(any(directory.glob(f)) for f in (".lock", "*/.lock", ".compkit-*.tmp", *KINDS))
    if directory.is_dir() and any(directory.iterdir()) and not ours:
        raise CompkitError(
            f"{directory} holds files that are not of compkit, which might be replaced: move them "
            "away, or take another name"
        )
    return directory
