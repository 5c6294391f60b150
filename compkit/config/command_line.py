"""Command lines over a configuration: a YAML file below, any setting above it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from compkit.config import RunConfig
from compkit.config.files import read_yaml, setting_names, without_removed
from compkit.entry import DATA_HELP
from compkit.errors import CompkitError, brief, nearest
from compkit.inputs import (
    StrictLoader,
    UnusableYamlError,
    load_yaml,
    problem_of,
    require_utf8,
)
from compkit.root import RUNS_HELP

_RUN: dict[str, dict[str, Any]] = {
    "data": {"type": str, "help": DATA_HELP},
    "run": {"type": str, "help": "name of the run, under runs/"},
}
_RUNS: dict[str, dict[str, Any]] = {"runs": {"type": str, "metavar": "DIR", "help": RUNS_HELP}}


def _value(text: str) -> Any:
    """Return a typed value as the parser reads YAML, having refused what no file may hold."""
    try:
        yaml.load(text, StrictLoader)
    except UnusableYamlError as error:
        raise CompkitError(f"{brief(text)} is no value ({problem_of(error)}): correct it") from None
    return without_removed(get_loader("yaml")(text))


#: How the parser reads values; what is no YAML at all is a plain string to it.
_STRICT = "strict"
set_loader(_STRICT, _value, exceptions=(yaml.YAMLError,))


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
        Its arguments beside ``--config``, ``--data``, ``--run`` and ``--runs``, which it always
        has: for each name what argparse is told of it.
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
        require_utf8(argv, "a run")
        _check_files(argv)
        parser = self._parser()
        try:
            given = parser.parse_args(list(argv))
            settings = parser.instantiate(given)
        except argparse.ArgumentError as error:
            raise CompkitError(self._sentence(str(error))) from None
        own = {name: settings[name] for name in ("config", *_RUN, *_RUNS, *self.own)}
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
            parser_mode=_STRICT,
        )
        parser.add_argument("--config", action="config", help="YAML with settings; see configs/")
        for name, told in {**_RUN, **_RUNS, **self.own}.items():
            parser.add_argument(f"--{_typed(name)}", **told)
        parser.add_class_arguments(RunConfig)
        return parser

    def _sentence(self, message: str) -> str:
        """Return what the parser found wrong as one sentence."""
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            word = match[1].split("=")[0]
            names = [*map(_typed, ("config", *_RUN, *_RUNS, *self.own)), *setting_names()]
            near = nearest(word, [f"--{name}" for name in names])
            return f"there is no setting {word!r}{near}: see `{self.prog} --help`"
        if match := re.match(
            r'Parser key "(.*?)":\s*Expected an? (.*?)\. Got value: (.*)', message, re.S
        ):
            kind = _plain(match[2]).replace("tuple", "list, as [one,other]")
            return f"{match[1]} takes {kind}, not {brief(match[3].strip())}: correct it"
        if match := re.match(
            r'Parser key "(.*?)":\s*Does not validate .*?Subtypes: \[(.*?)\]\s*Errors:'
            r".*Given value: (.*)",
            message,
            re.S,
        ):
            return f"{match[1]} takes one of {_plain(match[2])}, not {brief(match[3])}: correct it"
        return " ".join(message.split()) + f": see `{self.prog} --help`"


def _check_files(argv: Sequence[str]) -> None:
    """Refuse files that hold no settings, and unknown keys in those of ``--config``."""
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    sections = {name.split(".")[0] for name in setting_names() if "." in name}
    for name in ("config", *sections):
        files.add_argument(f"--{name}", action="append", default=[], nargs="?")
    given = vars(files.parse_known_args(list(argv))[0])
    for path in filter(None, given.pop("config")):
        read_yaml(path)
    for value in filter(None, chain(*given.values())):
        if not value.lstrip().startswith("{"):  # the parser would read the file of that name
            load_yaml(value, "configuration file")


def _plain(kind: str) -> str:
    """Return a Python type as people name it."""
    kind = re.sub(r"<class '(.*?)'>|typing\.", lambda m: m[1] or "", kind)
    return kind.replace("NoneType", "null")


def _typed(name: str) -> str:
    return name.replace("_", "-")
