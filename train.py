"""``compkit train``, also as ``python train.py``."""

import sys

from compkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
