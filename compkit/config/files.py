"""Configurations as YAML and as plain values: read, refused, saved, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from compkit.config import RunConfig
from compkit.errors import CompkitError, brief, nearest
from compkit.files import replacing
from compkit.inputs import load_yaml
from compkit.schema import checked

#: Settings that older versions had, and their defaults, by which they changed nothing.
REMOVED: dict[str, Any] = {
    "input.contrast": "grey",
    "input.coordinates": False,
    "loss.ignore_above": 1.0,
    "weights.background": 1.0,
    "weights.small_regions": 0.0,
}

#: Values that older versions had of settings that are still there. The mean teacher changed nothing
#: where it had no weight.
_REMOVED_VALUES = {"model.decoder": "feedback-unet", "unlabelled.teacher": "mean"}


def without_removed(values: Any, where: str = "the configuration") -> Any:
    """Return settings as plain values without what was removed.

    Raises
    ------
    CompkitError
        Naming one that changed something.
    """
    if not isinstance(values, dict):
        return values
    kept = {key: dict(held) if isinstance(held, dict) else held for key, held in values.items()}
    for name, default in (REMOVED | _REMOVED_VALUES).items():
        section, key = name.split(".")
        held = kept.get(section)
        if not isinstance(held, dict) or key not in held:
            continue
        value = held[key]
        changed = value != default
        if name in _REMOVED_VALUES:
            if changed:
                continue
            changed = key != "teacher" or bool(held.get("weight"))
        if changed:
            raise CompkitError(
                f"{where} has {name} {brief(value)}, which this version does not know: take the "
                "version that did"
            )
        del held[key]
        if not held:
            del kept[section]
    return kept


def from_plain(
    values: object,
    where: str = "the configuration",
    remedy: str = "correct it",
    fault: str = "is damaged",
) -> RunConfig:
    """Return the configuration that `to_plain` took apart, proven to be one that can work.

    A setting that is newer than the values has its default; see `without_removed` for older ones.

    Parameters
    ----------
    where, remedy, fault : str
        For the error, as of `compkit.schema.checked`.

    Raises
    ------
    CompkitError
        Naming the settings that are of another type, or cannot be.
    """
    from compkit.config.check import check

    config = checked(RunConfig, without_removed(values, where), where, remedy, fault)
    try:
        check(config)
    except CompkitError as error:
        reason = str(error).removeprefix("the configuration cannot work: ")
        raise CompkitError(f"{where} {fault} ({reason}): {remedy}") from None
    return config


def to_plain(config: Any) -> dict[str, Any]:
    """Return the configuration as dicts, lists and scalars."""
    return json.loads(json.dumps(asdict(config)))


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a configuration file and refuse keys that no setting has.

    Raises
    ------
    CompkitError
        If the file is absent, is not YAML, or names an unknown setting; all of them are named.
    """
    values = without_removed(load_yaml(path, "configuration file"), str(path))
    if not isinstance(values, dict):
        raise CompkitError(f"{path} does not hold settings (`key: value` lines): correct it")
    refuse_unknown(values, str(path))
    return values


def refuse_unknown(values: Mapping[str, Any], where: str) -> None:
    """Raise a CompkitError that names all keys that no setting has."""
    if unknown := list(_unknown(values, RunConfig(), "")):
        raise CompkitError(f"{where} has {'; and '.join(unknown)}: see `compkit train --help`")


def _unknown(values: Mapping[str, Any], default: Any, prefix: str) -> Iterator[str]:
    known = vars(default)
    for key, value in values.items():
        if key not in known:
            yield f"an unknown key {prefix + str(key)!r}{_suggest(str(key), prefix, known)}"
        elif is_dataclass(known[key]) and isinstance(value, dict):
            yield from _unknown(value, known[key], f"{prefix}{key}.")
        elif is_dataclass(known[key]):  # the parser would read a file of that name
            given = "nothing" if value is None else brief(value)
            yield f"{given} under {prefix + key!r}, which takes `key: value` lines"


def _suggest(key: str, prefix: str, known: dict[str, Any]) -> str:
    if elsewhere := [name for name in setting_names() if name.endswith(f".{key}")]:
        return f" (did you mean {elsewhere[0]!r}?)"
    return nearest(key, known, prefix) or nearest(key, setting_names())


def setting_names() -> list[str]:
    """Return the dotted name of every setting."""
    names = []
    for name, default in vars(RunConfig()).items():
        inner = vars(default) if is_dataclass(default) else None
        names += [name] if inner is None else [f"{name}.{key}" for key in inner]
    return names


def save(config: RunConfig, path: Path) -> None:
    """Write the effective configuration as YAML, atomically; `read_yaml` takes it back."""
    with replacing(path) as temporary:
        text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")


#: Settings that do not change what is trained, only where it runs and how it is used.
FREE = ("machine.", "inference.")


def differences(one: RunConfig, other: RunConfig, but: tuple[str, ...]) -> list[str]:
    """Name the settings in which two runs differ, as ``key: old → new``.

    Those that begin with one of `but` do not count.
    """
    old, new = flat(to_plain(one)), flat(to_plain(other))
    keys = [k for k in {**old, **new} if not k.startswith(but)]
    return [f"{k}: {old.get(k)} → {new.get(k)}" for k in keys if old.get(k) != new.get(k)]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what nested mappings hold by dotted names."""
    found: dict[str, Any] = {}
    for key, item in values.items():
        found |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return found
