"""``compkit tune``, also as ``python tune.py``."""

import sys

from compkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
