"""Files that are either whole or absent, and directories that one process owns at a time.

What is being written lies beside its place, in ``.compkit-<name>-<8 random characters>.tmp/``.
Its writer holds a lock in there, which dies with the process: a folder that nobody holds was left
by a kill, and the next process that writes into that directory, or owns it, removes it.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from compkit.errors import CompkitError, InUseError
from compkit.inputs import parse_json, read_text
from compkit.progress import say

_LOCK = ".lock"
_PART = re.compile(r"\.compkit-.+-[a-z0-9_]{8}\.tmp", re.DOTALL)


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
    with _beside(path) as temporary:
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
    with _beside(path) as temporary:
        temporary.mkdir()
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        try:
            temporary.replace(path)  # of nothing, or of an empty directory
        except OSError as error:
            if only_new or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            with _beside(path) as old:
                path.replace(old)
                temporary.replace(path)


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
    """Remove the temporary folders in `directory` that killed processes left there.

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
        return parse_json(read_text(path, "JSON file", remedy, remedy))
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
    lock = FileLock(directory / _LOCK, on_acquired=_sign)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        with (directory / _LOCK).open("rb") as file:
            file.seek(1)
            owner = file.read(20).decode(errors="replace") or "unknown"
        used = f"{directory} is in use by another process (pid {owner}) that is {what}"
        if not wait:
            raise InUseError(f"{used}: wait for it, stop it, or take another run name") from None
        say(f"{used}: waiting for it")
        held = lock.acquire()
    with held:
        sweep(directory)
        yield


def _sign(handle: int) -> None:
    """Write into a lock who holds it."""
    os.ftruncate(handle, 0)
    os.lseek(handle, 1, os.SEEK_SET)  # Windows lets nobody read the first byte, which is locked
    os.write(handle, str(os.getpid()).encode())


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path for what will take the place of `path`, in a folder that this process holds."""
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        folder, lock = _begun(path)
        temporary = folder / path.name
        try:
            yield temporary
        finally:
            lock.release()  # first, as Windows removes nothing that is open
            with suppress(OSError):
                _remove(folder)
    except OSError as error:
        named = Path(str(error.filename or path).replace(str(temporary), str(path)))
        # A folder that could not even be begun has a name that says nothing to anybody.
        unknown = any(_PART.fullmatch(part) for part in named.parts)
        error.filename = str(path if unknown else named)
        raise


def _begun(path: Path) -> tuple[Path, FileLock]:
    """Make a temporary folder beside `path`, and hold the lock in it."""
    while True:
        # Of a long name no more than file systems have room for beside the rest.
        folder = Path(tempfile.mkdtemp(".tmp", f".compkit-{path.name[:50]}-", path.parent))
        lock = FileLock(folder / _LOCK, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
            if not (folder / _LOCK).exists():
                lock.release()
                continue  # swept before it was held
        except (FileNotFoundError, FileExistsError, Timeout):
            continue
        except OSError:
            if not (folder / _LOCK).exists():
                folder.rmdir()
                raise
            # A file system without locks, on which nothing is swept.
        return folder, lock


def _remove_abandoned(folder: Path) -> None:
    """Remove a temporary folder unless a process holds it, or may hold it."""
    with suppress(OSError):  # another process may sweep at once, and only folders are ours
        if (folder / _LOCK).exists():
            lock = FileLock(folder / _LOCK, blocking=False, fallback_to_soft=False)
            # Removed while held, or its maker might take the lock just before.
            with lock, suppress(PermissionError):
                _remove(folder)
            _remove(folder)  # of Windows, which removes nothing that is open
        else:
            folder.rmdir()  # its maker, if it is still there, begins another


def _remove(folder: Path) -> None:
    """Remove a temporary folder, what lies in it before the lock by which it is known as ours."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _LOCK:
            path.unlink(missing_ok=True)
    (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
