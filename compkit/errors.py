"""The one exception that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompkitError(Exception):
    """Bad input: one sentence saying what is wrong, where, and what to do.

    Entry points print the sentence to standard error and exit with code 2, without a traceback.
    """


class InUseError(CompkitError):
    """Another process works on the same."""


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word closest to `word`, else ``""``.

    `prefix` goes before what is found.
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {prefix + close[0]!r}?)" if close else ""


def brief(value: object) -> str:
    """Return a value as it is quoted in a sentence: its `repr`, cut in the middle if long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:29]}…{text[-29:]}"
