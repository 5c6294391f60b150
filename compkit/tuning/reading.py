"""The file of a search space: its YAML, and its entries as parameters."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compkit.config.files import setting_names
from compkit.errors import CompkitError, nearest
from compkit.inputs import StrictLoader, load_yaml
from compkit.tuning.parameter import Choice, Fixed, Label, Number, Parameter, shown
from compkit.tuning.settings import typed

_KEYS = {
    "float": ("log", "off", "when"),
    "int": ("step", "off", "when"),
    "choice": ("when",),
}


class _Loader(StrictLoader):
    """Reads scalars as the command line does: `off` is a word, and 1e-3 is a number."""


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in StrictLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|false)$", re.I), list("tTfF"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)e[-+]?\d+$", re.I), list("-+.0123456789")
)


def load(path: Path) -> dict[str, Any]:
    """Return the entries of a file by name.

    Raises
    ------
    CompkitError
        If the file is absent, is not YAML, or holds no entries.
    """
    entries = load_yaml(path, "search space", _Loader)
    entries = {} if entries is None else entries
    if not isinstance(entries, dict):
        raise CompkitError(f"{path} does not hold entries (`setting: …` lines): correct it")
    return {str(name): entry for name, entry in entries.items()}


def parse(name: str, entry: Any, replaced: Parameter | None = None) -> Parameter:
    """Return what an entry of the file says.

    Parameters
    ----------
    replaced : Parameter, optional
        The shipped one of the same name, whose named options the entry may take up.

    Raises
    ------
    CompkitError
        Saying what is wrong, though not where.
    """
    options = _named_options(replaced)
    if not isinstance(entry, dict):
        return _fixed(name, entry, options)
    kind = _kind_of(entry)
    when = _conditions(entry.get("when", {}))
    if kind == "choice":
        return Choice(name, _options(name, entry["choice"], options), when=when)
    return _number(name, kind, entry, when)


def _named_options(replaced: Parameter | None) -> Mapping[Label, Mapping[str, Any]]:
    free = isinstance(replaced, Choice) and replaced.name not in setting_names()
    return replaced.options if free and isinstance(replaced, Choice) else {}


def _fixed(name: str, value: Any, options: Mapping[Label, Mapping[str, Any]]) -> Fixed:
    if not options:
        return Fixed(name, _label(value), {name: typed(name, value)})
    label = _known_option(value, options)
    return Fixed(name, label, options[label])


def _known_option(value: Any, options: Mapping[Label, Any]) -> Label:
    label = _label(value)
    if label not in options:
        known = [shown(option) for option in options]
        raise CompkitError(
            f"there is no option {shown(label)!r}{nearest(shown(label), known)}: "
            f"take one of {', '.join(known)}, or define it ({{option: {{setting: value}}}})"
        )
    return label


def _label(value: Any) -> Label:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _kind_of(entry: dict[Any, Any]) -> str:
    kinds = [kind for kind in _KEYS if kind in entry]
    if len(kinds) != 1:
        near = nearest(str(next(iter(entry), "")), [*_KEYS, "sides"])
        raise CompkitError(
            f"it has {' and '.join(kinds) or 'no range' + near}: give one of float, int, choice "
            "and sides (to freeze a mapping, {choice: [{…}]})"
        )
    known = _KEYS[kinds[0]]
    for key in entry:
        if key not in (kinds[0], *known):
            raise CompkitError(
                f"{key!r} is unknown{nearest(str(key), known)}: "
                f"{kinds[0]} goes with {', '.join(known)} only"
            )
    return kinds[0]


def _conditions(when: Any) -> dict[str, tuple[Label, ...]]:
    if not isinstance(when, dict):
        raise CompkitError("`when` is no mapping: give {other name: value or [values]}")
    conditions = {}
    for other, values in when.items():
        values = values if isinstance(values, list) else [values]
        if not values:
            raise CompkitError(f"`when` has no value of {other!r}: give at least one")
        conditions[str(other)] = tuple(_label(value) for value in values)
    return conditions


def _options(
    name: str, given: Any, replaced: Mapping[Label, Mapping[str, Any]]
) -> dict[Label, Mapping[str, Any]]:
    if not isinstance(given, list | dict) or not given:
        raise CompkitError("choice has no options: give a list, or a mapping of named ones")
    if isinstance(given, dict):
        return {label: _together(label, settings) for label, settings in given.items()}
    labels = [_label(value) for value in given]
    if len(set(labels)) < len(labels):
        raise CompkitError(f"choice {given} names one option twice: name each once")
    if replaced:
        return {label: replaced[_known_option(label, replaced)] for label in labels}
    return {label: {name: typed(name, value)} for label, value in zip(labels, given, strict=True)}


def _together(label: Label, settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise CompkitError(
            f"the option {shown(label)!r} is no mapping: give {{setting: value}}, or list values"
        )
    return {str(setting): typed(str(setting), value) for setting, value in settings.items()}


def _number(
    name: str, kind: str, entry: dict[str, Any], when: dict[str, tuple[Label, ...]]
) -> Number:
    number = int if kind == "int" else float
    low, high = _ends(kind, entry[kind])
    log, step = entry.get("log", False), entry.get("step", 1) if kind == "int" else None
    if not isinstance(log, bool):
        raise CompkitError(f"log is {log!r}: give true or false")
    if log and low <= 0:
        raise CompkitError(f"a logarithmic range cannot begin at {low:g}: begin above 0")
    if step is not None and (not _whole(step) or step < 1 or (high - low) % step):
        raise CompkitError(f"step {step!r} does not lead from {low} to {high}: give one that does")
    for end in (low, high):
        typed(name, number(end))
    off = typed(name, entry["off"]) if "off" in entry else None
    if "off" in entry and not _is_number(off):
        raise CompkitError(f"off is {off!r}: give a number, or use choice")
    return Number(name, number(low), number(high), log, step, off, when=when)


def _ends(kind: str, ends: Any) -> tuple[Any, Any]:
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise CompkitError(f"{kind} is {ends!r}: give [low, high], two numbers")
    low, high = ends
    if kind == "int" and not (_whole(low) and _whole(high)):
        raise CompkitError(f"int is {ends}: give whole numbers, or use float")
    if low >= high:
        state = "empty" if low == high else "reversed"
        raise CompkitError(f"the range {ends} is {state}: give [low, high], or one value alone")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
