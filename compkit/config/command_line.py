"""Command lines over a configuration: a YAML file below, any setting above it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from jsonargparse import ArgumentParser

from compkit.config import RunConfig
from compkit.config.files import read_yaml, setting_names
from compkit.errors import CompkitError, nearest

_DATA = "folder in the challenge's layout, or phantom:size=128,labelled=40"
_RUN: dict[str, dict[str, Any]] = {
    "data": {"type": str, "help": _DATA},
    "run": {"type": str, "help": "name of the run, under runs/"},
}


@dataclass(frozen=True)
class CommandLine:
    """A command that takes every setting of a run.

    Attributes
    ----------
    prog : str
        What is typed.
    does : str
        What it does, in a sentence.
    own : mapping
        Its arguments beside ``--config``, ``--data`` and ``--run``, which it always has: for each
        name what argparse is told of it.
    """

    prog: str
    does: str
    own: Mapping[str, Mapping[str, Any]]

    def parse(self, argv: Sequence[str]) -> tuple[dict[str, Any], RunConfig]:
        """Return the arguments that choose what to do, and the effective configuration.

        Raises
        ------
        CompkitError
            For what no argument or setting is, and for a value that it does not take.
        """
        _check_files(argv)
        parser = self._parser()
        try:
            given = parser.parse_args(list(argv))
            settings = parser.instantiate(given)
        except argparse.ArgumentError as error:
            raise CompkitError(self._sentence(str(error))) from None
        own = {name: settings[name] for name in ("config", *_RUN, *self.own)}
        for name in _RUN:
            if own[name] is None:
                raise CompkitError(f"--{name} is missing: `{self.prog} --help` tells what it takes")
        return own, RunConfig(**{f.name: settings[f.name] for f in fields(RunConfig)})

    def _parser(self) -> ArgumentParser:
        own = " ".join(f"[--{_typed(name)} {told['metavar']}]" for name, told in self.own.items())
        parser = ArgumentParser(
            prog=self.prog,
            usage=f"{self.prog} --config FILE --data DIR --run NAME {own} [--SETTING VALUE ...]",
            description=self.does,
            exit_on_error=False,
            allow_abbrev=False,
        )
        parser.add_argument("--config", action="config", help="YAML with settings; see configs/")
        for name, told in {**_RUN, **self.own}.items():
            parser.add_argument(f"--{_typed(name)}", **told)
        parser.add_class_arguments(RunConfig)
        return parser

    def _sentence(self, message: str) -> str:
        """Return what the parser found wrong as one sentence."""
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            word = match[1].split("=")[0]
            names = [*map(_typed, ("config", *_RUN, *self.own)), *setting_names()]
            near = nearest(word, [f"--{name}" for name in names])
            return f"there is no setting {word!r}{near}: see `{self.prog} --help`"
        if match := re.match(
            r'Parser key "(.*?)":\s*Expected an? (.*?)\. Got value: (.*)', message, re.S
        ):
            kind = re.sub(r"<class '(.*?)'>|typing\.", lambda m: m[1] or "", match[2])
            kind = kind.replace("tuple", "list, as [one,other]")
            return f"{match[1]} takes {kind}, not {match[3].strip()!r}: correct it"
        return " ".join(message.split()) + f": see `{self.prog} --help`"


def _check_files(argv: Sequence[str]) -> None:
    """Refuse unknown keys in ``--config`` files, with the nearest known one."""
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", action="append", default=[])
    for path in files.parse_known_args(list(argv))[0].config:
        read_yaml(path)


def _typed(name: str) -> str:
    return name.replace("_", "-")
