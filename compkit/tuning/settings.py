"""Settings by their dotted names: as a configuration takes them, and laid over one."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from typing import Any

from jsonargparse import ArgumentParser

from compkit.config import RunConfig
from compkit.config.files import setting_names, to_plain
from compkit.errors import CompkitError, nearest


@contextmanager
def located(file: str, key: str) -> Iterator[None]:
    """Put the file and the key before what an error inside says is wrong."""
    try:
        yield
    except CompkitError as error:
        raise CompkitError(f"{file}: {key}: {str(error).removeprefix(key + ' ')}") from None


def typed(setting: str, value: Any) -> Any:
    """Return a value as a setting takes it, in plain lists, dicts and scalars.

    Raises
    ------
    CompkitError
        If there is no such setting, or it does not take the value.
    """
    if setting not in setting_names():
        raise CompkitError(
            f"there is no setting {setting!r}{nearest(setting, setting_names())}: "
            "see `train.py --help`"
        )
    kind, default = _kind(setting)
    if value is None and default is not None:  # the parser takes null for anything
        raise _refusal(setting, kind, value)
    try:
        taken = _parser().parse_object(_nested(setting, value), defaults=False)[setting]
    except ArgumentError:
        raise _refusal(setting, kind, value) from None
    return list(taken) if isinstance(taken, tuple) else taken


def _refusal(setting: str, kind: str, value: Any) -> CompkitError:
    words = re.findall(r"'(.*?)'", kind)
    takes = f"one of {', '.join(words)}" if words else kind.replace("tuple", "list")
    near = nearest(value, words) if isinstance(value, str) else ""
    given = "null" if value is None else repr(value)
    return CompkitError(f"{setting} takes {takes}, not {given}{near}: correct it")


def configured(base: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with other values of some settings.

    Parameters
    ----------
    settings : mapping of str to plain value
        By dotted name, as `typed` and `Space.suggest` return them.
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        many = isinstance(getattr(getattr(base, section) if section else base, key), tuple)
        changed.setdefault(section, {})[key] = tuple(value) if many else value
    outer = changed.pop("", {})
    inner = {name: replace(getattr(base, name), **values) for name, values in changed.items()}
    return replace(base, **outer, **inner)


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return every setting of a configuration by its dotted name, in plain values."""
    plain, settings = to_plain(config), {}
    for name in setting_names():
        section, _, key = name.rpartition(".")
        settings[name] = (plain[section] if section else plain)[key]
    return settings


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RunConfig)
    return parser


def _nested(setting: str, value: Any) -> dict[str, Any]:
    for part in reversed(setting.split(".")):
        value = {part: value}
    return value


def _kind(setting: str) -> tuple[str, Any]:
    """Return the annotation and the default of a setting."""
    section, _, key = setting.rpartition(".")
    owner = getattr(RunConfig(), section) if section else RunConfig()
    kind = next(str(f.type) for f in fields(owner) if f.name == key)
    return kind, getattr(owner, key)
