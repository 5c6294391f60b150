"""Plugin files: what ``--plugin`` names, as modules that every process can import.

FILE.py is the module `compkit.plugins.FILE`. The files are named by an environment variable, which
other processes inherit, so whatever a file defines can be sent to them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from compkit.errors import CompkitError

#: Holds their paths, parted as in PATH.
VARIABLE = "COMPKIT_PLUGINS"

_OPTION = "--plugin"
HELP = "a Python file that adds competitions, metrics, ...; any command takes it, several times"

#: The files as they were given, by path; and those that what was opened was made with.
_given: dict[str, str] = {}
_expected: dict[str, dict[str, str]] = {}
_asked = set[tuple[str, ...]]()


def parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line without its ``--plugin FILE``, wherever these are, and the files."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(_OPTION, dest="files", action="append", nargs="?", const="", default=[])
    given, rest = parser.parse_known_args(argv)
    return rest, given.files


def add(file: Path | str) -> None:
    """Add a plugin file for this process and those that it starts from now on.

    Raises
    ------
    CompkitError
        If it is no file, or none that can be a module.
    """
    if not str(file):
        raise CompkitError(f"{_OPTION} names no file: give {_OPTION} FILE.py")
    _require(file)
    path = str(Path(file).resolve())
    _given[path] = str(file)
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_files(), path]))


def clear() -> None:
    """Leave all plugin files out that are not imported yet."""
    os.environ.pop(VARIABLE, None)


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
        with blaming(f"the plugin {file} cannot be imported"):
            module = importlib.import_module(name)
        if module.__file__ != file:
            raise CompkitError(
                f"the plugins {module.__file__} and {file} have one name: rename one of them"
            )


def used() -> dict[str, str]:
    """Return the plugin files, as they were given, and their digests."""
    return {_given.get(file, file): _digest(file) for file in _files()}


def expect(by: str, files: Mapping[str, str]) -> bool:
    """Keep what `used` said when something was made, `by` name, for `hint`.

    Returns
    -------
    bool
        Whether some lack here, or are other ones by now, and it was not asked before.
    """
    _expected[by], here = dict(files), used()
    asked = (by, *files.values(), *here.values())
    new = asked not in _asked
    _asked.add(asked)
    return new and not set(files.values()) <= set(here.values())


def hint() -> str:
    """Return with which plugins what was opened had been made that are not given, if any.

    They are not imported by themselves: what is only named in a record is not to be executed.
    """
    here, told = set(used().values()), dict[str, str]()
    for by, files in _expected.items():
        if lacking := [f"{_OPTION} {file}" for file, digest in files.items() if digest not in here]:
            told.setdefault(" ".join(lacking), by)
    return "".join(f"; {by} was made with {options}" for options, by in told.items())


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Turn what code that was added raises into a sentence, which begins with `what`."""
    try:
        yield
    except (CompkitError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CompkitError(f"{what} ({reason}): correct it or leave it out") from error


def _require(file: Path | str) -> None:
    # Here, since YAML comes with it, and help answers at once.
    from compkit.inputs import require_file

    require_file(file, "plugin", f"correct the path ({_OPTION}, or {VARIABLE})")
    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier() or os.pathsep in str(path.resolve()):
        raise CompkitError(
            f"{file} cannot be imported under this name: a plugin's name has letters, digits and _ "
            f"and ends in .py, and its path has no {os.pathsep!r}"
        )


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


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
