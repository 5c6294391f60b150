"""The search space: a YAML of ranges and choices, as Optuna is asked for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from compkit.config import RunConfig
from compkit.config.check import check_all
from compkit.config.files import from_plain, setting_names, to_plain
from compkit.errors import CompkitError, nearest
from compkit.inputs import StrictLoader, load_yaml
from compkit.schema import checked
from compkit.tuning.ranges import Range, label

#: The space where a user says nothing else.
SHIPPED = Path(__file__).with_name("space.yaml")

#: A grid of more points is a mistake: each is a training of all folds.
_MOST = 1_000


class _Loader(StrictLoader):
    """Reads 1e-3 as a number, as the command line does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+$", re.I),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes
    ----------
    base : RunConfig
        What a trial's settings are laid over.
    fixed : mapping of str to plain value
        Settings that are the same in every trial, by dotted name.
    ranges : mapping of str to Range
        Settings that vary. What a `when` is about comes before it.
    """

    base: RunConfig
    fixed: Mapping[str, Any]
    ranges: Mapping[str, Range]

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return a trial's settings by dotted name; others are the configuration's."""
        settings = dict(self.fixed)
        for name, one in self.ranges.items():
            if self._applies(one, settings):
                settings[name] = one.ask(name, trial)
        return settings

    def params_of_base(self) -> dict[str, Any] | None:
        """Return the parameters of a trial that is the base configuration, if one can be."""
        plain, params = _settings(self.base), {}
        for name, one in self.ranges.items():
            if self._applies(one, {}):
                if not one.holds(plain[name]):
                    return None
                params[name] = one.param(plain[name])
        return params if all(plain[name] == value for name, value in self.fixed.items()) else None

    def grid(self, count: int) -> list[dict[str, Any]]:
        """Return the parameters at every point of a grid, each with only those that apply there.

        Parameters
        ----------
        count : int
            Most values of a range; a choice has all of its options.

        Raises
        ------
        CompkitError
            If there are more points than could ever be tried.
        """
        grid = [dict(self.fixed)]
        for name, one in self.ranges.items():
            own = [{name: value} for value in one.points(count)]
            grid = [
                point | more
                for point in grid
                for more in (own if self._applies(one, point) else [{}])
            ]
            if len(grid) > _MOST:
                raise CompkitError(
                    f"the grid of this search space has more than {_MOST} points: fix settings or "
                    "leave them to the configuration (--narrow)"
                )
        return [
            {name: one.param(point[name]) for name, one in self.ranges.items() if name in point}
            for point in grid
        ]

    def plain(self) -> dict[str, Any]:
        """Return the entries as a file would hold them, by setting."""
        return {**self.fixed, **{name: one.plain() for name, one in self.ranges.items()}}

    def _applies(self, one: Range, settings: Mapping[str, Any]) -> bool:
        """Whether a range's conditions hold; what a trial does not set is as configured."""
        plain = {**_settings(self.base), **self.fixed, **settings}
        return all(plain[other] in values for other, values in one.when.items())


def read_space(path: Path | None = None, base: RunConfig | None = None) -> Space:
    """Return the shipped search space, with the entries of a file laid over it.

    Parameters
    ----------
    path : Path, optional
        A file like `SHIPPED`. Its entries replace those of the same name; a plain value fixes,
        and null leaves the setting to the configuration.
    base : RunConfig, optional
        What a trial's settings are laid over; the default configuration if none is given.

    Raises
    ------
    CompkitError
        Naming the file, the setting and what is wrong: also where the configuration refuses an
        end of a range or an option, each of which is tried.
    """
    own = {} if path is None else _load(path)
    entries = _load(SHIPPED) | own
    fixed, ranges, files = {}, dict[str, Range](), {}
    for name, entry in entries.items():
        files[name] = f"{path if name in own else SHIPPED}: {name}"
        _require_setting(name, files[name])
        if isinstance(entry, dict) and entry.keys() & {"float", "int", "choice"}:
            ranges[name] = checked(
                Range, entry, files[name], "correct it", "is no entry of a search space"
            )
        elif entry is not None:
            fixed[name] = entry
    for name, one in ranges.items():
        _check_when(one, ranges, files[name], strict=name in own)
    space = Space(base or RunConfig(), fixed, _in_order(ranges, files))
    _try_ends(space, files)
    return space


def configured(
    base: RunConfig, settings: Mapping[str, Any], where: str = "the configuration"
) -> RunConfig:
    """Return a configuration with other values of some settings.

    Parameters
    ----------
    settings : mapping of str to plain value
        By dotted name.
    where : str
        What the settings are of, for the error.

    Raises
    ------
    CompkitError
        If a setting does not take its value, or the configuration cannot work.
    """
    plain = to_plain(base)
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (plain[section] if section else plain)[key] = value
    return from_plain(plain, where, "correct it", "does not fit")


def _load(path: Path) -> dict[str, Any]:
    entries = load_yaml(path, "search space", _Loader) or {}
    if not isinstance(entries, dict):
        raise CompkitError(f"{path} does not hold entries (`setting: …` lines): correct it")
    return {str(name): entry for name, entry in entries.items()}


def _settings(config: RunConfig) -> dict[str, Any]:
    """Return every setting of a configuration by its dotted name, in plain values."""
    plain, settings = to_plain(config), {}
    for name in setting_names():
        section, _, key = name.rpartition(".")
        settings[name] = (plain[section] if section else plain)[key]
    return settings


def _in_order(ranges: Mapping[str, Range], files: Mapping[str, str]) -> dict[str, Range]:
    """Return ranges in the file's order, but each after those that its `when` is about."""
    ordered: dict[str, Range] = {}
    while left := [name for name in ranges if name not in ordered]:
        ready = (n for n in left if not (ranges[n].when.keys() & set(left)))
        name = next(ready, None)
        if name is None:
            raise CompkitError(
                f"{files[left[0]]}: its `when` depends on itself, by way of "
                f"{', '.join(left[1:]) or 'nothing else'}: leave one `when` out"
            )
        ordered[name] = ranges[name]
    return ordered


def _require_setting(name: str, where: str) -> None:
    if name not in setting_names():
        near = nearest(name, setting_names())
        raise CompkitError(
            f"{where}: there is no setting {name!r}{near}: see `compkit train --help`"
        )


def _check_when(one: Range, ranges: Mapping[str, Range], where: str, strict: bool) -> None:
    """Refuse conditions on what is no choice and, if strict, on what is none of its options."""
    for other, values in one.when.items():
        _require_setting(other, f"{where}: `when`")
        if other not in ranges:
            continue
        options = ranges[other].options
        if options is None:
            raise CompkitError(
                f"{where}: `when` names {other}, which is a range: make that a choice, or change "
                "this entry, too"
            )
        if unknown := [str(label(v)) for v in values if strict and v not in options]:
            known = [str(label(option)) for option in options]
            raise CompkitError(
                f"{where}: `when` wants {unknown[0]} of {other}{nearest(unknown[0], known)}: "
                f"take some of {'; '.join(known)}"
            )


def _try_ends(space: Space, files: Mapping[str, str]) -> None:
    """Refuse ends of ranges and options that the configuration's own check refuses.

    Each is tried alone over the configuration and what is fixed, beside what its `when` asks for.
    """
    check_all(space.base)
    base = space.base
    for name, value in space.fixed.items():
        base = _try(base, {name: value}, f"{files[name]} {label(value)}")
    for name, one in space.ranges.items():
        beside = {other: values[0] for other, values in one.when.items()}
        for value in one.ends():
            _try(base, beside | {name: value}, f"{files[name]} {label(value)}")


def _try(base: RunConfig, settings: Mapping[str, Any], where: str) -> RunConfig:
    config = configured(base, settings, where)
    try:
        check_all(config, encoders=(config.encoders, config.model) != (base.encoders, base.model))
    except CompkitError as error:
        raise CompkitError(f"{where}: {error}") from None
    return config
