"""The command line of ``train.py``: a YAML file below, any setting above it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from jsonargparse import ArgumentParser

from compkit.config import RunConfig
from compkit.config_files import read_yaml, setting_names
from compkit.errors import CompkitError, nearest

_OWN = ("config", "data", "run", "fold", "encoder")


def run_command(argv: Sequence[str]) -> None:
    """Parse the command line of ``train.py`` and train.

    Raises
    ------
    CompkitError
        For any bad input.
    """
    arguments, config = parse(argv)
    from compkit.folds.table import ALL
    from compkit.training.job import train

    fold = ALL if arguments["fold"] == "all" else arguments["fold"]
    train(config, arguments["data"], arguments["run"], fold, arguments["encoder"])


def parse(argv: Sequence[str]) -> tuple[dict[str, Any], RunConfig]:
    """Return the arguments that choose what to do, and the effective configuration."""
    _check_files(argv)
    parser = _parser()
    try:
        given = parser.parse_args(list(argv))
        settings = parser.instantiate(given)
    except argparse.ArgumentError as error:
        raise CompkitError(_sentence(str(error))) from None
    own = {name: settings[name] for name in _OWN}
    for name in ("data", "run"):
        if own[name] is None:
            raise CompkitError(f"--{name} is missing: `train.py --help` tells what it takes")
    return own, RunConfig(**{f.name: settings[f.name] for f in fields(RunConfig)})


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="train.py",
        usage="train.py --config FILE --data DIR --run NAME [--fold K|all] [--encoder E] "
        "[--SETTING VALUE ...]",
        description="Train every fold × encoder of a run. The same command resumes what is "
        "unfinished and skips what is done.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML with settings; see configs/")
    parser.add_argument(
        "--data", type=str, help="folder in the challenge's layout, or phantom:size=128,labelled=40"
    )
    parser.add_argument("--run", type=str, help="name of the run, under runs/")
    parser.add_argument(
        "--fold",
        type=int | Literal["all"],
        help="train this fold alone; all: a network on every labelled image, for submissions only",
    )
    parser.add_argument("--encoder", type=str, help="train this encoder alone")
    parser.add_class_arguments(RunConfig)
    return parser


def _check_files(argv: Sequence[str]) -> None:
    """Refuse unknown keys in ``--config`` files, with the nearest known one."""
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", action="append", default=[])
    for path in files.parse_known_args(list(argv))[0].config:
        read_yaml(path)


def _sentence(message: str) -> str:
    """Return what the parser found wrong as one sentence."""
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        word = match[1].split("=")[0]
        known = [f"--{name}" for name in (*_OWN, *setting_names())]
        return f"there is no setting {word!r}{nearest(word, known)}: see `train.py --help`"
    if match := re.match(
        r'Parser key "(.*?)":\s*Expected an? (.*?)\. Got value: (.*)', message, re.S
    ):
        kind = re.sub(r"<class '(.*?)'>|typing\.", lambda m: m[1] or "", match[2])
        kind = kind.replace("tuple", "list, as [one,other]")
        return f"{match[1]} takes {kind}, not {match[3].strip()!r}: correct it"
    return " ".join(message.split()) + ": see `train.py --help`"
