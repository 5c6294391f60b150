"""How tests run here, whatever machine and process they are started from."""

from __future__ import annotations

import signal

from hypothesis import settings

# Machines differ in speed, so no example has a deadline.
settings.register_profile("compkit", deadline=None)
settings.load_profile("compkit")

# A shell's background job ignores Ctrl-C, and so would what tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
