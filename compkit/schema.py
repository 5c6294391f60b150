"""Records that are read back, proven to be what was written: types, keys, finite numbers."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from compkit.errors import CompkitError
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
        _refuse_huge(values)
        text = json.dumps(values, allow_nan=False)
        adapter: TypeAdapter[T] = _adapter(cast(Any, kind))
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        places = [
            f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg'].removeprefix('Value error, ')}"
            for one in told
        ]
        reason = "; ".join(places[:_PLACES])
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise CompkitError(f"{where} {fault} ({reason}): {remedy}")


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _refuse_huge(values: object) -> None:
    """Raise a ValueError for whole numbers that would be read as an infinite float."""
    if isinstance(values, int) and abs(values) >= 1 << 63:
        raise ValueError("a number has too many digits")
    if isinstance(values, dict | list | tuple):
        for inner in values.values() if isinstance(values, dict) else values:
            _refuse_huge(inner)
