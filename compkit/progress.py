"""Progress bars with an ETA in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compkit.display import printable

T = TypeVar("T")

#: Where people are told things; standard output is kept for results.
console = Console(stderr=True, highlight=False, soft_wrap=True)

#: Seconds between two plain lines when there is no terminal.
PLAIN_INTERVAL = 15.0

#: Takes what is said where nobody looks, as on another machine.
_overheard: ContextVar[list[str] | None] = ContextVar("overheard", default=None)

#: Seconds over which the speed is measured, from the first step that was done in them: what came
#: before it, as the start of worker processes, says nothing of the time that is left.
_MEMORY = 3600.0


class Task:
    """What a piece of long work calls as it goes."""

    def __init__(self, progress: Progress, label: str, total: float) -> None:
        self._progress = progress
        self._id = progress.add_task(printable(label), total=total, note="")
        self._note = ""
        self._told = progress.get_time()

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count `steps` more, and from now on show `note` beside the bar."""
        self._note = printable(note) or self._note
        self._progress.update(self._id, advance=steps, note=self._note)
        if not console.is_terminal:
            self._print()

    def skip(self, steps: float) -> None:
        """Count `steps` that were done before, which say nothing of the time that is left."""
        self._progress.reset(self._id, completed=steps)  # type: ignore[arg-type]

    def _print(self) -> None:
        """Print a line now and then, and at the end of what took a second."""
        (task,), now = self._progress.tasks, self._progress.get_time()
        elapsed, left = task.elapsed or 0.0, task.time_remaining
        too_soon = elapsed < 1 if task.finished else now - self._told < PLAIN_INTERVAL
        if too_soon or _overheard.get() is not None:
            return
        self._told = now
        line = f"{task.description}: {task.completed:g}/{task.total:g}, {elapsed:.0f} s"
        if left:
            line += f", ETA {left:.0f} s"
        print(f"{line}  {self._note}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def task(label: str, total: float) -> Iterator[Task]:
    """Show the progress of `total` steps under `label` until the block ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    progress = Progress(*columns, console=console, speed_estimate_period=_MEMORY)
    with progress if console.is_terminal else nullcontext():
        yield Task(progress, label, total)


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield from `items`, showing progress under `label`."""
    with task(label, total) as bar:
        for item in items:
            yield item
            bar.advance()


def say(text: str) -> None:
    """Print one line for people, on standard error."""
    if (lines := _overheard.get()) is not None:
        lines.append(text)
        return
    console.print(printable(text), markup=False)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Yield a list that takes the lines said until the block ends; no progress is shown."""
    lines: list[str] = []
    before = _overheard.set(lines)
    try:
        yield lines
    finally:
        _overheard.reset(before)
