"""compkit: from images and labels of a segmentation competition to a scored submission."""

import os

# Threads of GNU's OpenMP, torch's on Linux, spin where they wait for each other. Beside another
# process they then spin for one that does not run: training is 10 to 20 times slower. A thousand
# turns cost nothing on a quiet machine. It must be said before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.2.0"
