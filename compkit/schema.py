"""Records that are read back, proven to be what was written: types, keys, finite numbers."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from compkit.errors import CompkitError, nearest
from compkit.files import read_json, write_json

T = TypeVar("T")

#: What is wrong is told of so many places at most.
_PLACES = 3

#: The key of a record's own digest.
_SUM = "sha256_of_the_rest"


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Write a record as JSON, with a digest by which `read_record` knows that it is unchanged."""
    write_json(path, values | {_SUM: digest(values)})


def read_record(kind: type[T], path: Path, remedy: str) -> T:
    """Read what `write_record` wrote, as `checked` does; older records have no digest.

    Raises
    ------
    CompkitError
        If it is absent, no JSON, not of its kind, or was changed since it was written.
    """
    values = read_json(path, remedy)
    record = checked(kind, values, str(path), remedy)
    if _SUM in values and values.pop(_SUM) != digest(values):
        raise CompkitError(f"{path} was changed since it was written: {remedy}")
    return record


def digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 of plain values, in whatever order their keys are."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def checked(kind: type[T], values: object, where: str, remedy: str, fault: str = "is damaged") -> T:
    """Return a record of plain values as a (nested) dataclass.

    Nothing is converted, but for lists into tuples and whole numbers into floats; keys that are
    not known are passed over, and missing ones have the dataclass's default if there is one.

    Parameters
    ----------
    kind : type
        A dataclass, or any type that pydantic knows.
    values : object
        Mappings, lists, strings, numbers, booleans and None.
    where : str
        What the values are of, usually a path, for the error.
    remedy : str
        What to do about it, for the error.
    fault : str
        What is to be said of values that are of another type, before the reason.

    Raises
    ------
    CompkitError
        Naming the keys whose values are missing or of another type, or a number not finite.

    Examples
    --------
    >>> checked(dict[str, int], {"steps": 3}, "x.json", "delete it")
    {'steps': 3}
    """
    try:
        # As JSON, since there alone is a strict reading one that takes a list for a tuple.
        _require_plain(values)
        text = json.dumps(values, allow_nan=False)
        adapter: TypeAdapter[T] = _adapter(cast(Any, kind))
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        reason = "; ".join(
            _place(kind, one["loc"], one["type"], one["msg"]) for one in told[:_PLACES]
        )
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise CompkitError(f"{where} {fault} ({reason}): {remedy}")


def _place(kind: Any, where: tuple[int | str, ...], type_: str, reason: str) -> str:
    """Say what is wrong at a place of a record."""
    told = ".".join(map(str, where)) or "all"
    if type_ != "unexpected_keyword_argument":
        return f"{told}: {reason.removeprefix('Value error, ')}"
    known = [field.name for field in fields(_kind_at(kind, where[:-1]))]
    hint = nearest(str(where[-1]), known) or f"; there are {', '.join(known)}"
    return f"{told}: there is no such key{hint}"


def _kind_at(kind: Any, where: tuple[int | str, ...]) -> Any:
    """Return the dataclass at a place of nested ones, each of which may be optional."""
    for key in where:
        kind = get_type_hints(kind)[str(key)]
        kind = next(filter(is_dataclass, get_args(kind)), kind)
    return kind


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _require_plain(values: object, place: str = "") -> None:
    """Raise a ValueError that names what is no value of JSON, or would be read as infinite."""
    if isinstance(values, dict | list | tuple):
        inside = values.items() if isinstance(values, dict) else enumerate(values)
        for key, inner in inside:
            _require_plain(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"{place}: {values} is no finite number")
    elif isinstance(values, int) and abs(values) >= 1 << 63:
        raise ValueError(f"{place}: a number has too many digits")
    elif not isinstance(values, str | int | float | None):
        raise ValueError(f"{place}: {type(values).__name__} is no kind of value here")
