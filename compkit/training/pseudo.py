"""Labels for images without any, from networks that did not see what the student validates on."""

from __future__ import annotations

import numpy as np
import torch

from compkit.data.dataset import Packed, TrainingSet, packed
from compkit.data.store import Store
from compkit.ensemble.build import open_mixture
from compkit.ensemble.decoder import Decoder
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.model import Model
from compkit.errors import CompkitError
from compkit.folds import ALL, Folds
from compkit.heads.base import Head
from compkit.heads.partition import Params
from compkit.parallel import each_image
from compkit.resample import resized, seen, shrunk_labels
from compkit.run import Run


def unlabelled_images(store: Store, test: bool) -> list[np.ndarray]:
    """Return the images without labels: of training, and of the test if wanted.

    Raises
    ------
    CompkitError
        If there is none.
    """
    images = [store.images[i] for i in store.unlabelled]
    images += [store.test_images[i] for i in range(len(store.test))] if test else []
    if not images:
        raise CompkitError(
            "every training image is labelled, so unlabelled.weight has nothing to weigh: "
            "leave it 0, or take the test images (unlabelled.test true)"
        )
    return images


def open_teacher(name: str | None, store: Store, folds: Folds) -> tuple[Mixture, Decoder]:
    """Return the run or ensemble `name`, once it is sure that it may teach on these folds.

    Raises
    ------
    CompkitError
        If it is absent or unfinished, or was trained on other data or another split.
    """
    assert name is not None  # `check` asks for one
    mixture, decoder = open_mixture([name])
    for member in mixture.members:
        other = member.run.store
        if (other.content, other.test_content) != (store.content, store.test_content):
            raise CompkitError(
                f"unlabelled.teacher {name} was made on other data: train one on these"
            )
        if not np.array_equal(member.run.folds.fold, folds.fold):
            raise CompkitError(
                f"unlabelled.teacher {name} has other folds, so it saw images that validate here: "
                f"give this run its folds (--folds.file {member.run.directory / 'folds.csv'})"
            )
    return mixture, decoder


def pseudo_labelled(run: Run, head: Head, fold: int) -> TrainingSet:
    """Return the unlabelled images with the regions that a fold's teacher finds in them.

    The teacher of a fold is the mean of its members' networks of that fold, decoded with parameters
    that were tuned on the other folds: nothing of it saw the fold's labels. Pixels of which it is
    not sure do not count.

    Raises
    ------
    CompkitError
        If the teacher may not teach this run, or there is no unlabelled image.
    """
    store, u = run.store, run.config.unlabelled
    images = unlabelled_images(store, u.test)
    mixture, decoder = open_teacher(u.teacher, store, run.folds)
    params = decoder.params if fold == ALL else decoder.fold_params[str(fold)]
    # Of a network on every labelled image all of the teacher's may tell.
    members = [
        (m.run.config, m.checkpoints(m.folds if fold == ALL else (fold,))) for m in mixture.members
    ]
    maps, count = Model(str(u.teacher), members, params).each(images), len(images)
    work = (
        (mixture.head, of_image, params, image.shape[:2], run.config.input.size, u.confidence)
        for image, of_image in maps
    )
    found = each_image(_regions, work, f"labels by {u.teacher}", count, count * mixture.pixels)
    labels, known = map(Packed, zip(*found, strict=True))
    return TrainingSet(images, labels, run.config, head, known, stream=1)


def _regions(
    head: Head,
    maps: np.ndarray,
    params: Params,
    shape: tuple[int, int],
    size: int | None,
    confidence: float,
) -> tuple[bytes, bytes]:
    """Return a label map, uint16 (h, w), and where it is sure, uint8, both `packed`."""
    # A decoder that fills the image does so for the metric: it does not take that for the truth.
    labels = head.decode(maps, {**params, "fill": False}, shape)
    foreground = resized(torch.from_numpy(maps[None, :1]), shape)[0, 0].numpy()
    sure = (np.maximum(foreground, 1 - foreground) >= confidence) * np.uint8(255)
    grid = seen(shape, size)
    return packed(shrunk_labels(labels.astype(np.uint16), grid)), packed(shrunk_labels(sure, grid))
