"""What names stand for: what is built in, and what packages and plugin files add.

A package adds by an entry point, a plugin file (see `compkit.plugins`) by a decorator:

    [project.entry-points."compkit.metrics"]        @register("compkit.metrics", "coverage")
    coverage = "my_package.scores:coverage"         def coverage(truth, prediction): ...

Nothing that a package adds is imported before its name is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from compkit import plugins
from compkit.errors import CompkitError, nearest

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

    def add(found: T) -> T:
        value = f"{found.__module__}:{found.__qualname__}"  # type: ignore[attr-defined]
        _registered[group].append(EntryPoint(name, value, group))
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
        try:
            found = entry.load()
        except CompkitError:
            raise
        except (Exception, SystemExit) as error:
            raise CompkitError(
                f"{what} of {_origin(entry)} cannot be imported ({plugins.reason(error)}): mend it "
                "or leave it out"
            ) from error
        if (own := getattr(found, "name", name)) != name:
            raise CompkitError(f"{what} of {_origin(entry)} calls itself {own!r}: give it one name")
        return found

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
