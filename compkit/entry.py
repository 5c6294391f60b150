"""What all commands share: how they are added, and how they end."""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

from compkit.display import flush_output, printable
from compkit.errors import CompkitError
from compkit.failures import sentence_of

#: What ``--data`` is told of.
DATA_HELP = "a folder with a competition's data, or phantom:size=128,labelled=40,... (built in)"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is False or action.default in (None, [])
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Tells in one sentence what is wrong, as everything else does."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.register("type", Path, _path)  # what `type=Path` of an argument stands for

    def error(self, message: str) -> NoReturn:
        """Raise what `guarded` prints, in place of printing how the command is used."""
        raise CompkitError(f"{message}: see `{self.prog} --help`")


def _path(word: str) -> Path:
    """Return a path, but none of the current folder for nothing, as of a variable that is unset."""
    if not word:
        raise argparse.ArgumentTypeError("no path is given")
    return Path(word)


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    text: str,
    calls: Callable[[argparse.Namespace], None] | str = "",
    takes: str = "",
) -> argparse.ArgumentParser:
    """Add a command and what it calls: a function, or with some arguments a ``"module:name"``."""
    p = commands.add_parser(name, help=text, description=text, formatter_class=_Help)
    if calls:
        p.set_defaults(command=partial(_call, calls, takes) if isinstance(calls, str) else calls)
    return p


def _call(function: str, takes: str, arguments: argparse.Namespace) -> None:
    resolve_name(function)(*(getattr(arguments, name) for name in takes.split()))


def add_out(p: argparse.ArgumentParser, text: str) -> None:
    """Add what every command has that writes a submission."""
    p.add_argument("--out", type=Path, required=True, help=text)
    p.add_argument("--overwrite", action="store_true", help="replace files that are not compkit's")


def guarded(command: Callable[[], None]) -> int:
    """Run `command` and return the exit code; what is no bug never shows a traceback.

    Errors are one sentence and exit code 2, an interruption is 130.
    """
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
