"""How a command ends: errors as one sentence and exit code 2, an interruption as 130."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from compkit.display import printable
from compkit.errors import CompkitError


def guarded(command: Callable[[], None]) -> int:
    """Run `command` and return the exit code; bad input never shows a traceback."""
    try:
        command()
    except CompkitError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"no space left on the disk while writing{where}: free some and run again")
        if error.errno is None:
            raise
        return _fail(f"cannot use{where}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what was saved", file=sys.stderr)
        return 130
    return 0


def _fail(sentence: str) -> int:
    line = printable(sentence.replace("\n", " "))  # a library's reason may be several lines
    print(f"error: {line}", file=sys.stderr)
    return 2
