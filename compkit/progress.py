"""Progress bars with an ETA in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

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


class Task(Protocol):
    """What a piece of long work calls as it goes."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count `steps` more, and from now on show `note` beside the bar."""

    def skip(self, steps: float) -> None:
        """Count `steps` that were done before, which say nothing of the time that is left."""


@contextmanager
def task(label: str, total: float) -> Iterator[Task]:
    """Show the progress of `total` steps under `label` until the block ends."""
    label = printable(label)
    if _overheard.get() is not None:
        yield _Unseen()
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, label, total)
    else:
        yield _Lines(label, total)


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


class _Unseen:
    def advance(self, steps: float = 1, note: str = "") -> None:
        pass

    def skip(self, steps: float) -> None:
        pass


class _Bar:
    def __init__(self, progress: Progress, label: str, total: float) -> None:
        self._progress = progress
        self._id = progress.add_task(label, total=total, note="")

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._progress.advance(self._id, steps)
        if note:
            self._progress.update(self._id, note=printable(note))

    def skip(self, steps: float) -> None:
        self._progress.reset(self._id, completed=steps)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, label: str, total: float) -> None:
        self._label, self._total = label, total
        self._done = self._skipped = 0.0
        self._note = ""
        self._start = self._last = time.monotonic()

    def skip(self, steps: float) -> None:
        self._done = self._skipped = steps

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        finished = self._done >= self._total
        if not finished and now - self._last < PLAIN_INTERVAL:
            return
        if finished and now - self._start < 1:
            return  # short work needs no report
        self._last = now
        done, elapsed = self._done - self._skipped, now - self._start
        line = f"{self._label}: {self._done:g}/{self._total:g}, {elapsed:.0f} s"
        if done and not finished:
            line += f", ETA {elapsed * (self._total - self._done) / done:.0f} s"
        print(f"{line}  {printable(self._note)}".rstrip(), file=sys.stderr, flush=True)
