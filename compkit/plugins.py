"""Plugin files: what ``--plugin`` names, as modules that every process can import.

FILE.py is the module `compkit.plugins.FILE`. The files are named by an environment variable, which
other processes inherit, so whatever a file defines can be sent to them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from compkit.errors import CompkitError

#: Holds their paths, parted as in PATH.
VARIABLE = "COMPKIT_PLUGINS"

_OPTION = "--plugin"
HELP = "a Python file that adds competitions, metrics, ...; any command takes it, several times"


def take(argv: Sequence[str]) -> list[str]:
    """Return a command line without its ``--plugin FILE``, wherever these are, having added them.

    Raises
    ------
    CompkitError
        If one names no file, or none that can be a module.
    """
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        if option == _OPTION:
            add(value if equals else next(words, ""))
        elif word == "--":
            rest += [word, *words]
        else:
            rest.append(word)
    return rest


def add(file: Path | str) -> None:
    """Add a plugin file for this process and those that it starts from now on."""
    if not str(file):
        raise CompkitError(f"{_OPTION} names no file: give {_OPTION} FILE.py")
    _require(file)
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.stem.isidentifier() or os.pathsep in str(path):
        raise CompkitError(
            f"{file} cannot be imported under this name: a plugin's name has letters, digits and _ "
            f"and ends in .py, and its path has no {os.pathsep!r}"
        )
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_files(), str(path)]))


def load() -> None:
    """Import the plugin files; what they register is known then.

    Raises
    ------
    CompkitError
        Naming the first that cannot be imported, and why.
    """
    __path__[:] = _folders()
    for file in _files():
        name = f"{__name__}.{Path(file).stem}"
        if name not in sys.modules:
            _require(file)
            importlib.invalidate_caches()
        try:
            module = importlib.import_module(name)
        except CompkitError:
            raise
        except (Exception, SystemExit) as error:
            raise CompkitError(
                f"the plugin {file} cannot be imported ({reason(error)}): mend it or leave it out"
            ) from error
        if module.__file__ != file:
            raise CompkitError(
                f"the plugins {module.__file__} and {file} have one name: rename one of them"
            )


def reason(error: BaseException) -> str:
    """Return what was raised, as half a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _require(path: Path | str) -> None:
    # Here, since YAML comes with it, and help answers at once.
    from compkit.inputs import require_file

    require_file(path, "plugin", f"correct the path ({_OPTION}, or {VARIABLE})")


def _files() -> list[str]:
    return _resolved(os.environ.get(VARIABLE, ""))


@cache
def _resolved(paths: str) -> list[str]:
    return [str(Path(path).resolve()) for path in paths.split(os.pathsep) if path]


def _folders() -> list[str]:
    return list(dict.fromkeys(str(Path(file).parent) for file in _files()))


#: Where Python looks for modules of this one, which makes it a package: also in a process that was
#: just started, and is sent something of a plugin before it looks up any name.
__path__ = _folders()
