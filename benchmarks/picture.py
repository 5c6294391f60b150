"""Draw test slices beside their true regions and those of submissions: the README's picture.

    python benchmarks/picture.py --data data/demo --out docs/demo.png \
        submissions/watershed.csv submissions/demo.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from compkit.competition.table import read_table
from compkit.data.store import open_store
from compkit.describe.colours import coloured
from compkit.metrics.named import image_scores

SLICES = 5


def main() -> None:
    """Draw one column a slice and one row a kind of regions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submissions", type=Path, nargs="+")
    parser.add_argument("--data", required=True, help="a folder with Y_test.csv")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    images = open_store(arguments.data).test_images
    truth = read_table(Path(arguments.data) / "Y_test.csv").labels
    predictions = {path.stem: read_table(path).labels for path in arguments.submissions}
    chosen = np.linspace(0, len(images) - 1, SLICES).round().astype(int)
    rows = {"truth": truth, **predictions}
    figure = Figure(figsize=(2 * SLICES, 2 * (len(rows) + 1)), layout="constrained")
    axes = figure.subplots(len(rows) + 1, SLICES)
    for column, index in enumerate(chosen):
        axes[0, column].imshow(images[index], cmap="gray", vmin=0, vmax=255)
        for row, (name, labels) in enumerate(rows.items(), start=1):
            picture = coloured(labels[index], images[index])
            axes[row, column].imshow(picture)
            if name != "truth":
                score = image_scores(truth[index], labels[index])["adjusted_all"]
                axes[row, column].set_xlabel(f"adjusted_all {score:.2f}", fontsize=8)
    for axis, name in zip(axes[:, 0], ["image", *rows], strict=True):
        axis.set_ylabel(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(arguments.out, dpi=70)


if __name__ == "__main__":
    main()
