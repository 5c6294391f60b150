"""How tests run here, whatever machine and process they are started from."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run side by side, each process on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Machines differ in speed, so no example has a deadline.
settings.register_profile("compkit", deadline=None)
settings.load_profile("compkit")

# A shell's background job ignores Ctrl-C, and so would what tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process waits for another at the end."""
    minutes = Counter[Path]()
    for item in items:
        if marker := item.get_closest_marker("slow"):
            minutes[item.path] += marker.kwargs.get("minutes", 0.25)
    items.sort(key=lambda item: -minutes[item.path])
