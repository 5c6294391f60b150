"""compkit: from images and labels of a segmentation competition to a scored submission.

`train`, `load`, `score` and `submit` are documented in `compkit.api`; each imports what it needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compkit.api import load, score, submit, train
    from compkit.errors import CompkitError

# Threads of GNU's OpenMP, torch's on Linux, spin where they wait for each other. Beside another
# process they then spin for one that does not run: training is 10 to 20 times slower. A thousand
# turns cost nothing on a quiet machine. It must be said before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.2.0"
__all__ = ["CompkitError", "load", "score", "submit", "train"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'compkit' has no attribute {name!r}")
    from compkit import api

    return getattr(api, name)
