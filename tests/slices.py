"""Slices that are alike as those of a CT are, and stores of them, for tests."""

from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter


def volume(slices, rng, size=64):
    """Slices whose likeness fades with distance as that of real ones: 0.97 at 1, 0.64 at 4."""
    noise = gaussian_filter(rng.standard_normal((slices + 24, size, size)), (3, 1.5, 1.5))[12:-12]
    noise = noise / noise.std() * 40 + 128 + rng.normal(0, 4, noise.shape)
    return np.clip(noise, 0, 255).astype(np.uint8)


def store_of(images, labelled, rng):
    """Return what `make_folds` needs of a store, with labels of random extent."""
    labels = np.zeros((len(labelled), 16, 16), np.uint8)
    for image in labels:
        regions = rng.integers(1, 30)
        count = rng.integers(regions, 200)
        image.flat[:count] = np.resize(np.arange(regions) + 1, count)
    return SimpleNamespace(
        images=images,
        labelled=np.asarray(labelled),
        labels_of=dict(zip(np.asarray(labelled).tolist(), labels, strict=True)).__getitem__,
        train=tuple(f"{index}.png" for index in range(len(images))),
        content="c0ffee",
        is_of="c0ffee".__eq__,
        require_labels=lambda: None,
        groups=None,
    )
