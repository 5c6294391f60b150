"""The command line of ``compkit train``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from compkit.api import train
from compkit.cluster import on_ray
from compkit.config import RunConfig
from compkit.config.command_line import CommandLine
from compkit.root import RAY_HELP, runs_at

_LINE = CommandLine(
    prog="compkit train",
    does="Train every fold × encoder of a run. The same command resumes what is unfinished and "
    "skips what is done.",
    own={
        "fold": {
            "type": int | Literal["all"],
            "metavar": "K|all",
            "help": "train this fold alone; all: a network on every labelled image, for "
            "submissions only",
        },
        "encoder": {"type": str, "metavar": "E", "help": "train this encoder alone"},
        "ray": {"type": str, "metavar": "WHERE", "help": RAY_HELP},
    },
)


def run_command(argv: Sequence[str]) -> None:
    """Parse the command line of ``compkit train`` and train.

    Raises
    ------
    CompkitError
        For any bad input.
    """
    arguments, config = parse(argv)
    with runs_at(arguments["runs"]), on_ray(arguments["ray"]):
        train(config, *(arguments[name] for name in ("data", "run", "fold", "encoder")))


def parse(argv: Sequence[str]) -> tuple[dict[str, Any], RunConfig]:
    """Return the arguments that choose what to do, and the effective configuration."""
    return _LINE.parse(argv)
