"""What a machine refuses (space, memory, permission), as one sentence that says what to do."""

from __future__ import annotations

import errno
import re

from compkit.errors import brief

_LEAN = (
    "free some, or make machine.batch, input.crop or input.size smaller for training, and "
    "inference.batch or inference.tile for prediction (inference.* and machine.* may be changed on "
    "a run that is trained)"
)
_FULL = "no space left on the disk while writing{where}: free some and run again"
_UNWRITABLE = "choose another folder, or for the cache another COMPKIT_CACHE"

#: By the number of an `OSError`; {file} is its name, {where} the same where it may be unknown.
_BY_NUMBER = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "{file} would be larger than files may be here: raise the limit (ulimit -f), or "
    "write to another file system",
    errno.EROFS: "cannot write{where}, which is on a read-only file system: " + _UNWRITABLE,
    errno.EACCES: "no permission to use{where}: change its permissions, " + _UNWRITABLE,
    errno.EPERM: "no permission to use{where}: change its permissions, " + _UNWRITABLE,
    errno.EMFILE: "too many files are open{where}: raise the limit (ulimit -n)",
    errno.ENOMEM: f"not enough memory: {_LEAN}",
}

#: By what libraries say in an exception of their own.
_BY_WORDS = {
    r"CUDA.*out of memory|C\w+_STATUS_ALLOC_FAILED": f"not enough memory on the GPU: {_LEAN}",
    r"out of memory|can.?not allocate memory|can't allocate memory|bad_alloc|[Ii]nsufficient memory"
    r"|[Ff]ailed to allocate|can't start new thread"
    # of oneDNN, whose other failures to create one name a descriptor
    r"|could not create a (primitive|memory object)$": f"not enough memory: {_LEAN}",
    r"[Ww]orker.*\b(killed|exited unexpectedly|terminated)|process.* terminated abruptly": (
        f"a process that helped was killed, most likely for want of memory: {_LEAN}; with "
        "machine.workers 0 there are no loaders beside"
    ),
    r"disk is full|disk I/O error|No space left|requested and \d+ written|PytorchStreamWriter"
    r"|inline_container.*unexpected pos|File too large|quota exceeded": (
        "a file could not be written whole: free space on the disk, or raise the limit of a file's "
        "size (ulimit -f), and run again"
    ),
    r"readonly database|unable to open database": (
        "the database of the study cannot be written: allow writing it and its folder, or give "
        "another --storage"
    ),
    r"No working C\+\+ compiler|working triton|Compiler: \S+ is not found": (
        "torch.compile finds no compiler here (g++, and Triton for a GPU): install it, or leave "
        "machine.compile false"
    ),
    r"home directory": "this user has no home directory: set HOME, or COMPKIT_CACHE, to a folder",
}


def sentence_of(error: BaseException) -> str | None:
    """Return what the machine refused and what to do, or None if `error` is none of that kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"not enough memory: {_LEAN}"
        if isinstance(cause, OSError) and cause.errno is not None:
            return _of_system(cause)
        for words, sentence in _BY_WORDS.items():
            if _may_speak(cause) and re.search(words, str(cause), re.S):
                return sentence
        cause = cause.__cause__
    return None


def _of_system(error: OSError) -> str:
    name = brief(error.filename) if error.errno == errno.ENAMETOOLONG else error.filename
    where = f" {name}" if name else ""
    other = f"cannot use{where}: {error.strerror or error}"
    known = _BY_NUMBER.get(error.errno or 0)
    return known.format(where=where, file=error.filename or "a file") if known else other


def _may_speak(error: BaseException) -> bool:
    """Whether it is of a kind by which libraries tell what a machine refused."""
    return isinstance(error, OSError | RuntimeError) or type(error).__module__.split(".")[0] in (
        "sqlite3", "sqlalchemy", "cv2", "safetensors", "safetensors_rust",
    )  # fmt: skip
