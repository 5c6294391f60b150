"""What names stand for: what is built in, and what packages and plugin files add.

A package adds by an entry point, a plugin file (see `compkit.plugins`) by a decorator:

    [project.entry-points."compkit.metrics"]        @register("compkit.metrics", "coverage")
    coverage = "my_package.scores:coverage"         def coverage(truth, prediction): ...

Nothing that a package adds is imported before its name is asked for.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn, TypeVar

from compkit import plugins
from compkit.errors import CompkitError, brief, nearest

T = TypeVar("T")

#: What was registered by a decorator, by the group of the entry points that it is like.
_registered: dict[str, list[EntryPoint]] = {
    f"compkit.{kind}": []
    for kind in ("commands", "competitions", "encoders", "heads", "losses", "metrics")
}


def register(group: str, name: str) -> Callable[[T], T]:
    """Return a decorator that gives a class or function of a module a name in a group."""
    if group not in _registered:
        known = ", ".join(_registered)
        raise CompkitError(f"there is no group {group!r}{nearest(group, _registered)}: use {known}")

    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
        raise CompkitError(f"nothing of {group} can be called {name!r}: use letters, digits and _")

    def add(found: T) -> T:
        inner: Any = inspect.unwrap(found)  # type: ignore[arg-type]
        place = getattr(inner, "__qualname__", "<>")
        if "<" in place:  # as in f.<locals>.g, and <lambda>
            raise CompkitError(
                f"{name!r} of {group} is {found!r}, which other processes cannot import: define it "
                "by def or class, and not inside of a function"
            )
        _registered[group].append(EntryPoint(name, f"{inner.__module__}:{place}", group))
        return found

    return add


class Registry:
    """Objects of one kind by name.

    Parameters
    ----------
    group : str
        Of the entry points by which packages add some.
    what : str
        What each is called in errors: ``"metric"``.
    builtin : mapping of str to str
        Those of compkit, by name, as ``"module:attribute"``.
    """

    def __init__(self, group: str, what: str, builtin: Mapping[str, str]) -> None:
        self.group, self.what, self.builtin = group, what, dict(builtin)

    def names(self) -> tuple[str, ...]:
        """Return all names, the built-in first."""
        return tuple(self._entries())

    def require(self, name: str) -> None:
        """Raise a CompkitError that tells what there is if nothing has this name."""
        if name not in (known := self.names()):
            raise CompkitError(
                f"there is no {self.what} {name!r}{nearest(name, known)}: take one of "
                f"{', '.join(known)}, or add it by --plugin FILE.py or an installed package"
                f"{plugins.hint()}"
            )

    def get(self, name: str) -> Any:
        """Return what a name stands for.

        Raises
        ------
        CompkitError
            If nothing has the name, or two things have; or if what has it cannot be imported.
        """
        self.require(name)
        entry, *others = self._entries()[name].values()
        what = f"the {self.what} {name!r}"
        if others:
            raise CompkitError(
                f"{what} is registered twice, by {_origin(entry)} and by {_origin(others[0])}: "
                "leave out or rename one of them"
            )
        with self.blaming(name, "cannot be imported"):
            found = entry.load()
        if (own := getattr(found, "name", name)) != name:
            raise CompkitError(f"{what} of {_origin(entry)} calls itself {own!r}: give it one name")
        return found

    def blaming(self, name: str, fault: str) -> AbstractContextManager[None]:
        """Return the context of code of what is so called, as for `plugins.blaming`.

        Of what is built in, errors are bugs, and stay what they are.
        """
        if name in self.builtin:
            return nullcontext()
        return plugins.blaming(f"the {self.what} {name!r} of {self.origin(name)} {fault}")

    def ask(self, name: str, one: Any, method: str, *given: Any) -> Any:
        """Return what a method returns, of something registered by a name, or of what it gave."""
        with self.blaming(name, f"fails in {method}"):
            return getattr(one, method)(*given)

    def refuse(
        self, name: str, what: str, found: Any, wanted: str, at_fault: str | None = None
    ) -> NoReturn:
        """Raise the sentence that tells what something registered gave for what was wanted.

        What is `at_fault` is to be corrected, by default who registers it.
        """
        array = hasattr(found, "shape") and hasattr(found, "dtype")
        given = f"{found.dtype} of shape {tuple(found.shape)}" if array else brief(found)
        raise CompkitError(
            f"the {self.what} {name!r} gives as {what} {given}, where {wanted} is wanted: correct "
            f"it in {at_fault or self.origin(name)}"
        )

    def origin(self, name: str) -> str:
        """Return who registers a name, for people."""
        return _origin(next(iter(self._entries()[name].values())))

    def _entries(self) -> dict[str, dict[str, EntryPoint]]:
        """Return what there is by name and by value: one thing may be registered in two ways."""
        plugins.load()
        own = [EntryPoint(name, value, self.group) for name, value in self.builtin.items()]
        found: dict[str, dict[str, EntryPoint]] = {}
        for entry in (*own, *_installed(self.group), *_registered[self.group]):
            found.setdefault(entry.name, {}).setdefault(entry.value, entry)
        return found


#: What a run's `head` may be; partitions, which are all but the foreground, may be joined by "+".
HEADS = Registry(
    "compkit.heads",
    "head",
    {
        "foreground": "compkit.heads.foreground:Foreground",
        "affinity": "compkit.heads.affinity:Affinity",
        "boundary": "compkit.heads.boundary:Boundary",
    },
)

_TERMS = ("dice", "normalised_dice", "tvmf_dice", "adaptive_tvmf_dice", "cross_entropy")

#: Each a function of logits and one-hot targets, float32 (N, C, H, W), and pixel weights, float32
#: (N, 1, H, W), that returns a scalar, which is 0 where all weights are.
LOSSES = Registry("compkit.losses", "loss", {name: f"compkit.losses:{name}" for name in _TERMS})


@cache
def _installed(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda entry: entry.name)


def _origin(entry: EntryPoint) -> str:
    module = entry.value.partition(":")[0]
    if entry.dist is not None:
        return f"the package {entry.dist.name} ({entry.value})"
    if module.startswith(f"{plugins.__name__}."):
        return f"the plugin {sys.modules[module].__file__}"
    return "compkit" if module.startswith("compkit.") else f"the module {module}"
