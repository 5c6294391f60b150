"""How a command ends: errors as one sentence and exit code 2, an interruption as 130."""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from compkit.display import flush_output, printable
from compkit.errors import CompkitError
from compkit.failures import sentence_of


class Parser(argparse.ArgumentParser):
    """Tells in one sentence what is wrong, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Raise what `guarded` prints, in place of printing how the command is used."""
        raise CompkitError(f"{message}: see `{self.prog} --help`")


def guarded(command: Callable[[], None]) -> int:
    """Run `command` and return the exit code; what is no bug never shows a traceback."""
    _print_anything()
    try:
        command()
        flush_output()
    except CompkitError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _tell("interrupted: the same command goes on from what was saved")
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            _drop_output()
            return 0
        if (sentence := sentence_of(error)) is None:
            raise
        return _fail(sentence)
    return 0


def _print_anything() -> None:
    """Let the output's encoding, as of LC_ALL=C, stop no command for a character it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _reader_has_gone() -> bool:
    """Whether nobody reads our output any more (`| head`)."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):
            poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _drop_output() -> None:
    """Drop what is left of the output where it takes none: the interpreter would flush it again."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(sentence: str) -> int:
    line = printable(sentence.replace("\n", " "))  # a library's reason may be several lines
    _tell(f"error: {line}")
    return 2


def _tell(line: str) -> None:
    """Say the last that there is to say; where nothing can be said, the exit code tells it."""
    _drop_output()
    with suppress(OSError):
        print(line, file=sys.stderr)
    _drop_output()
