"""The command line of ``compkit pretrain``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from compkit.config.command_line import CommandLine
from compkit.root import runs_at
from compkit_research.pretrain.methods import METHODS, Options

_OPTIONS: dict[str, dict[str, Any]] = {
    "mask_ratio": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the windows of an input that is hidden",
    },
    "mask_window": {
        "type": int,
        "metavar": "PIXELS",
        "help": "side of the windows, pixels of the network's input; best a multiple of the "
        "encoder's first stride",
    },
    "temperature": {
        "type": float,
        "metavar": "T",
        "help": "divides the cosines of views in the loss",
    },
    "held_back": {
        "type": float,
        "metavar": "SHARE",
        "help": "share of the images held back for validation",
    },
}


def pretrain(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``compkit pretrain``, and what is called with them."""
    parser.description = "Train encoders on all images, without labels."
    parser.usage = (
        "compkit pretrain METHOD --config FILE --data DIR --run NAME [--SETTING VALUE ...]"
    )
    parser.epilog = "`compkit pretrain METHOD --help` lists the settings, as of compkit train."
    parser.add_argument("method", metavar="METHOD", choices=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(command=lambda a: run_command(a.method, a.rest))


def run_command(method: str, argv: Sequence[str]) -> None:
    """Parse the rest of the command line of ``compkit pretrain METHOD`` and pretrain.

    Raises
    ------
    CompkitError
        For any bad input.
    """
    defaults = Options()
    line = CommandLine(
        prog=f"compkit pretrain {method}",
        does=f"{METHODS[method].does} on all images of a competition, labelled or not. The same "
        "command resumes what is unfinished and skips what is done.",
        own={
            name: _OPTIONS[name] | {"default": getattr(defaults, name)}
            for name in METHODS[method].options
        },
    )
    arguments, config = line.parse(argv)
    from compkit_research.pretrain.job import pretrain

    options = Options(**{name: arguments[name] for name in line.own})
    with runs_at(arguments["runs"]):
        pretrain(method, options, config, arguments["data"], arguments["run"])
