"""Train a run: every fold × encoder of a configuration. See ``train.py --help``."""

from __future__ import annotations

import sys

from compkit import plugins
from compkit.entry import guarded
from compkit.training.command import run_command


def main() -> int:
    """Run the command line and return its exit code."""
    return guarded(lambda: run_command(plugins.take(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
