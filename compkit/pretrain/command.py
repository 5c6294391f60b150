"""The command line of ``compkit pretrain``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compkit.config.command_line import CommandLine
from compkit.pretrain.methods import METHODS, Options
from compkit.root import runs_at

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
    from compkit.pretrain.job import pretrain

    options = Options(**{name: arguments[name] for name in line.own})
    with runs_at(arguments["runs"]):
        pretrain(method, options, config, arguments["data"], arguments["run"])
