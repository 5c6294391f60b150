"""Cut one annotated picture into a small competition in the challenge's layout.

    pip download --no-deps --no-binary :all: stardist==0.9.2 && tar xzf stardist-0.9.2.tar.gz
    python benchmarks/tiles.py stardist-0.9.2/stardist/data/images/{img2d,mask2d}.tif --out nuclei

This pair shows cell nuclei, many of which touch (S. Schmidt et al. 2018, "Cell detection with
star-convex polygons"). Every fourth tile is held back as the test, with its truth in Y_test.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.exposure import rescale_intensity
from skimage.io import imread, imsave

from compkit.competition.table import write_table
from compkit.files import replacing_directory
from compkit.progress import say
from compkit.regions import numbered


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128, help="side of a tile, pixels")
    a = parser.parse_args()
    if a.out.exists():
        parser.error(f"{a.out} exists: choose another folder")
    image, labels = imread(a.image), imread(a.labels)
    low, high = np.percentile(image, (0.5, 99.8))
    grey = rescale_intensity(image, in_range=(low, high), out_range=(0, 255)).astype(np.uint8)
    tiles = _tiles(np.stack([grey, labels]), a.size)
    test = np.arange(len(tiles)) % 4 == 3
    with replacing_directory(a.out) as folder:
        for split, chosen in (("train", tiles[~test]), ("test", tiles[test])):
            names = [f"{number}.png" for number in range(len(chosen))]
            (folder / f"X_{split}").mkdir()
            for name, (picture, _) in zip(names, chosen, strict=True):
                imsave(folder / f"X_{split}" / name, picture.astype(np.uint8), check_contrast=False)
            regions = np.stack([numbered(each) for _, each in chosen])
            write_table(folder / f"Y_{split}.csv", names, regions)
    say(f"{a.out}: {np.sum(~test)} training tiles, {np.sum(test)} test tiles of {a.size}²")


def _tiles(layers: np.ndarray, size: int) -> np.ndarray:
    """Return whole tiles, (N, L, size, size), of layers (L, H, W), row by row."""
    count, height, width = layers.shape
    down, across = height // size, width // size
    grid = layers[:, : down * size, : across * size].reshape(count, down, size, across, size)
    rows = grid.transpose(1, 3, 0, 2, 4)
    # Each row of tiles starts one further, so that every fourth does not make a column of tiles.
    turned = [np.roll(row, shift, axis=0) for shift, row in enumerate(rows)]
    return np.concatenate(turned)


if __name__ == "__main__":
    main()
