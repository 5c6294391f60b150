"""Files that are either whole or absent, and directories that one process owns at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compkit.errors import CompkitError, InUseError
from compkit.progress import say


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, else it is removed.

    The temporary file lies in the same directory, so the replacement is atomic.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path | str) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success it takes the place of `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; raise `CompkitError` naming the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise CompkitError(
            f"{path} is not valid JSON ({error}): delete it and make it anew"
        ) from None


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
    with (directory / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            used = f"{directory} is in use by another process (pid {owner}) that is {what}"
            if not wait:
                raise InUseError(
                    f"{used}: wait for it, stop it, or take another run name"
                ) from None
            say(f"{used}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
