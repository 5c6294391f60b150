"""How hypothesis runs here: machines differ in speed, so no example has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("compkit", deadline=None)
settings.load_profile("compkit")
