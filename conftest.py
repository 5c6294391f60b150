"""How tests run here, whatever machine and process they are started from."""

from __future__ import annotations

import os
import signal
from collections import Counter

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
    """Begin with files that train most, so that no process waits for another at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
