"""Many slices at once, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import joblib
import numpy as np

from compkit.phantom.slices import draw_slice

#: Below this many slices the start of further processes costs more than they save.
FEW = 100


def label_maps(seed: int, split: str, count: int, size: int) -> Iterator[np.ndarray]:
    """Yield the labels of the first `count` images of a split, in order."""
    return _on_all_cores(_labels, [(seed, split, index, size) for index in range(count)])


def write_images(
    folder: Path, seed: int, split: str, count: int, size: int
) -> Iterator[np.ndarray]:
    """Write the first `count` images of a split to `folder` as ``0.png`` …; yield their labels."""
    arguments = [(folder / f"{index}.png", seed, split, index, size) for index in range(count)]
    return _on_all_cores(_write, arguments)


def _on_all_cores(
    function: Callable[..., np.ndarray], arguments: list[tuple]
) -> Iterator[np.ndarray]:
    processes = 1 if len(arguments) < FEW else -1
    parallel = joblib.Parallel(processes, return_as="generator", pre_dispatch="4*n_jobs")
    return parallel(joblib.delayed(function)(*each) for each in arguments)


def _labels(seed: int, split: str, index: int, size: int) -> np.ndarray:
    return draw_slice(seed, split, index, size).labels


def _write(path: Path, seed: int, split: str, index: int, size: int) -> np.ndarray:
    drawn = draw_slice(seed, split, index, size)
    path.write_bytes(cv2.imencode(".png", drawn.image)[1].tobytes())
    return drawn.labels
