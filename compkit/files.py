"""Files that are either whole or absent, and directories that one process owns at a time.

What is being written lies beside its place as ``.compkit-<name>-<8 random characters>.part``.
Whoever writes it holds a lock on it, which dies with the process: what nobody holds was left by a
kill, and the next process that writes into that directory, or owns it, removes it.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from compkit.errors import CompkitError, InUseError
from compkit.inputs import parse_json, read_text
from compkit.progress import say

_PART = re.compile(r"\.compkit-.+-[a-z0-9_]{8}\.part", re.DOTALL)

#: Handles of the locks that this process holds.
_held: set[int] = set()


def _let_go() -> None:
    """Close a parent's locks in a process that it forked (a loader), which may outlive it."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def replacing(path: Path | str, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, else it is removed.

    The temporary file lies in the same directory, so the replacement is atomic. A link stays, and
    what it leads to is replaced. An `OSError` that names no file gets the name of `path`.

    Parameters
    ----------
    overwrite : bool
        Replace whatever file is there; else one of the same bytes is kept, which is said: it may
        be of a command that was killed once it was written.

    Raises
    ------
    CompkitError
        If there is a folder, a pipe or a device at `path`, or a file that must not be replaced.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise CompkitError(f"{path} is no regular file, so it is not replaced: take another name")
    with _beside(path, folder=False) as temporary:
        yield temporary
        if path.exists() and not overwrite:
            if not filecmp.cmp(path, temporary, shallow=False):
                _refuse_other(path)
            say(f"{path} is there already, just as it would be written")
            return
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


def refuse_other(path: Path, overwrite: bool, begins: str) -> None:
    """Refuse, before work is spent on it, what `replacing` would refuse for how it begins."""
    if path.exists() and not overwrite:
        with path.open("rb") as file:
            if file.read(len(begins)) != begins.encode():
                _refuse_other(path)


def _refuse_other(path: Path) -> NoReturn:
    raise CompkitError(
        f"{path} is there and holds something else: give --overwrite to replace it, or another "
        "--out"
    )


@contextmanager
def replacing_directory(path: Path | str, *, only_new: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success it takes the place of `path`.

    What lay there is out of the way first, so for an instant there is neither.

    Parameters
    ----------
    only_new : bool
        Raise an `OSError` in place of replacing a directory that holds anything by then.
    """
    path = Path(path)
    with _beside(path, folder=True) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        try:
            temporary.replace(path)  # of nothing, or of an empty directory
        except OSError as error:
            if only_new or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            with _beside(path, folder=True) as old:
                path.replace(old)
                temporary.replace(path)


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Yield a directory for what is needed until the block ends, where the system keeps such."""
    with _beside(Path(tempfile.gettempdir()) / name, folder=True) as temporary:
        yield temporary


def require_writable(folder: Path) -> None:
    """Make a folder for ``--out``; raise `CompkitError` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CompkitError(
            f"nothing can be written to {folder} ({error.strerror}): give --out in another folder"
        ) from None


def sweep(directory: Path) -> None:
    """Remove the temporary files and directories in `directory` that killed processes left there.

    What a living process holds stays, and whatever is not named as they are; so does all of it on
    a file system that knows no locks.
    """
    with suppress(OSError):
        for path in directory.iterdir():
            if _PART.fullmatch(path.name):
                _remove_abandoned(path)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises
    ------
    CompkitError
        If a number in it is not finite, which `read_json` would refuse; then nothing is written.
    """
    try:
        text = json_text(value)
    except ValueError as error:
        raise CompkitError(
            f"{path} is not written, since a number in it is not finite ({error}): look for what "
            "is damaged or diverged in what it was made of"
        ) from None
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return `value` as the text of a JSON file; raise `ValueError` for what is not finite."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path | str, remedy: str = "delete it and make it anew") -> Any:
    """Read a JSON file; raise `CompkitError` naming file and remedy if it is absent or no JSON."""
    try:
        return parse_json(read_text(path, "JSON file", remedy))
    except ValueError as error:
        raise CompkitError(f"{path} is not valid JSON ({error}): {remedy}") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(directory: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Own `directory` until the block ends; the lock dies with the process, however it dies.

    Parameters
    ----------
    what : str
        What the owner does with it, for the sentence that another process reads.
    wait : bool
        Wait for whoever holds it, and say so, instead of raising.

    Raises
    ------
    InUseError
        If another process holds it, unless told to wait.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 20, 0).decode(errors="replace") or "unknown"
            used = f"{directory} is in use by another process (pid {owner}) that is {what}"
            if not wait:
                raise InUseError(
                    f"{used}: wait for it, stop it, or take another run name"
                ) from None
            say(f"{used}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        sweep(directory)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


@contextmanager
def _beside(path: Path, folder: bool) -> Iterator[Path]:
    """Yield a temporary file or folder beside `path` that this process holds; then remove it."""
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary, handle = _begun(path, folder)
        _held.add(handle)
        try:
            yield temporary
        finally:
            _remove(temporary)
            _held.discard(handle)
            os.close(handle)
    except OSError as error:
        named = str(error.filename or path).replace(str(temporary), str(path))
        # One that could not even be begun has a name that is nobody's.
        error.filename = str(path) if _PART.fullmatch(Path(named).name) else named
        raise


def _begun(path: Path, folder: bool) -> tuple[Path, int]:
    """Make a temporary file or folder beside `path`, and hold it by the handle returned."""
    begin, end = f".compkit-{path.name}-", ".part"
    while True:
        if folder:
            name = tempfile.mkdtemp(end, begin, path.parent)
            try:
                handle = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                continue  # swept before it was held, as below
        else:
            handle, name = tempfile.mkstemp(end, begin, path.parent)
        with suppress(OSError):  # a file system without locks, on which nothing is swept
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return Path(name), handle
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file or folder unless a process holds it, or may hold it."""
    with suppress(OSError):  # another process may sweep at once
        mode = path.lstat().st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return
        # Where files lie on a network, a lock needs a handle to write.
        flags = os.O_RDONLY if stat.S_ISDIR(mode) else os.O_RDWR
        handle = os.open(path, flags | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
