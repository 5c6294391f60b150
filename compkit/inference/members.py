"""A member: one trained network, and the maps that it predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from compkit.errors import CompkitError
from compkit.files import digest_of
from compkit.folds import ALL
from compkit.inference.maps import Maps, read_maps, write_maps
from compkit.inference.predict import Predictor
from compkit.machine import autocast, device_of
from compkit.models.checkpoint import load_checkpoint
from compkit.progress import track
from compkit.run import Run, fold_name

#: Out-of-fold maps are of the images that validated the member, test maps of all test images, and
#: unlabelled ones of all training images without labels.
Kind = Literal["oof", "test", "unlabelled"]


def write_member_maps(run: Run, encoder: str, fold: int, kind: Kind) -> Maps:
    """Predict one member's maps with the run's views, or open them if they are there.

    Maps of another checkpoint, other views or other data are made anew.
    """
    part = run.part(encoder, fold)
    checkpoint = _checkpoint(run, encoder, fold)
    made = _origin(run, checkpoint)
    if (part / kind / "maps.json").is_file():
        maps = read_maps(part / kind)
        if maps.made == made:
            return maps
    inference = run.config.inference
    predictor = member_predictor(run, encoder, fold, inference.views)
    store = run.store
    images, names = store.images, store.train
    if kind == "oof":
        indices = run.folds.valid_indices(fold).tolist()
    elif kind == "unlabelled":
        indices = store.unlabelled.tolist()
    else:
        images, names, indices = store.test_images, store.test, list(range(len(store.test)))
    stream = predictor.stream(images, indices, inference.batch)
    label = f"{kind} maps of {fold_name(encoder, fold)}"
    chosen = [names[i] for i in indices]
    with autocast(run.config.machine):
        write_maps(
            part / kind, chosen, predictor.head.maps, track(stream, label, len(chosen)), made
        )
    return read_maps(part / kind)


def member_predictor(run: Run, encoder: str, fold: int, views: Sequence[str]) -> Predictor:
    """Return the predictor of a trained member on the run's device.

    Raises
    ------
    CompkitError
        If its checkpoint is absent or unreadable.
    """
    inference = run.config.inference
    network, head, config = load_checkpoint(_checkpoint(run, encoder, fold))
    network = network.to(device_of(run.config.machine))
    return Predictor(network, head, views, config.input.size, inference.tile)


def _checkpoint(run: Run, encoder: str, fold: int) -> Path:
    # What was trained on all images has not been validated: its best epoch is not known.
    kept = "last" if fold == ALL else run.config.inference.checkpoint
    return run.part(encoder, fold) / f"{kept}.ckpt"


def _origin(run: Run, checkpoint: Path) -> dict[str, object]:
    if not checkpoint.is_file():
        raise CompkitError(f"there is no checkpoint {checkpoint}: run train.py on this run again")
    digest = digest_of(checkpoint)
    inference = run.config.inference
    shown = {"views": list(inference.views), "tile": inference.tile}
    return {"checkpoint": digest, **shown, "data": run.store.content}
