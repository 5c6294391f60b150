"""Search the settings of a run by Optuna. See ``tune.py --help``."""

from __future__ import annotations

import sys

from compkit import plugins
from compkit.entry import guarded
from compkit.tuning.command import run_command


def main() -> int:
    """Run the command line and return its exit code."""
    return guarded(lambda: run_command(plugins.take(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
