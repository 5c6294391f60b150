"""Folders in the challenge's layout, for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_csv(path: Path, labels: np.ndarray, names: list[str] | None = None) -> None:
    names = names or [f"{index}.png" for index in range(len(labels))]
    flat = labels.reshape(len(labels), -1).T
    rows = [f"Pixel {pixel}," + ",".join(map(str, row)) for pixel, row in enumerate(flat.tolist())]
    path.write_text("\n".join(["," + ",".join(names), *rows]) + "\n")


def write_folder(
    folder: Path, train: np.ndarray, test: np.ndarray, labels: np.ndarray, inverted: bool = False
) -> Path:
    """Write (N, H, H) images and labels; `inverted` writes the files in descending order."""
    for name, images in (("X_train", train), ("X_test", test)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(len(images))[:: -1 if inverted else 1]:
            Image.fromarray(images[index]).save(folder / name / f"{index}.png")
    write_csv(folder / "Y_train.csv", labels)
    return folder


def example(count: int = 12, labelled: int = 8, size: int = 8, seed: int = 0) -> tuple:
    """Return random train images, test images and labels; the last images are unlabelled."""
    rng = np.random.default_rng(seed)
    train = rng.integers(0, 256, (count, size, size), np.uint8)
    test = rng.integers(0, 256, (3, size, size), np.uint8)
    labels = rng.integers(0, 4, (count, size, size))
    labels[labelled:] = 0
    return train, test, labels
