"""Proof that no network starts from weights that learnt the labels it is validated on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from compkit.config import RunConfig
from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.folds import ALL, Folds
from compkit.inputs import parse_json
from compkit.schema import checked


def refuse_leak(config: RunConfig, encoder: str, fold: int, store: Store, folds: Folds) -> None:
    """Refuse the start of one network from what saw its validation images' labels.

    Files that are not there yet are passed over.

    Raises
    ------
    CompkitError
        Naming the file, the fold and the first such image.
    """
    if fold != ALL:
        for path in _sources(config, encoder, fold):
            _refuse(path, store, folds, fold)


def inherited(config: RunConfig, encoder: str, fold: int) -> list[str]:
    """Return the digests of the labelled images that a network's starting weights learnt from."""
    return [digest for path in _sources(config, encoder, fold) for digest in seen_by(path)]


def seen_by(path: Path) -> tuple[str, ...]:
    """Return the digests of the labelled images that the weights in a file learnt from.

    A file that is not of compkit does not tell; what it was trained on is for its user to know.

    Raises
    ------
    CompkitError
        If it is a checkpoint of an older compkit, which does not tell either.
    """
    return _seen_by(path, path.stat().st_mtime_ns) if path.is_file() else ()


@lru_cache
def _seen_by(path: Path, _changed: int) -> tuple[str, ...]:
    from safetensors import safe_open

    from compkit.models.checkpoint import card_of
    from compkit.models.states import read_weights
    from compkit.models.weights import SEEN

    held, remedy = read_weights(path), "give another file"
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as opened:
            told = (opened.metadata() or {}).get(SEEN, "[]")
        try:
            return checked(tuple[str, ...], parse_json(told), str(path), remedy)
        except ValueError as error:
            raise CompkitError(f"{path} is damaged ({SEEN}: {error}): {remedy}") from None
    seen: list[str] = []
    for checkpoint in _checkpoints_in(held):
        made = card_of(path, checkpoint, remedy)
        if made.seen is None:
            raise CompkitError(
                f"{path} was made by an older compkit and does not say which images it was trained "
                "on, so it may know those that validate here: train it again"
            )
        seen += made.seen
    return tuple(seen)


def _checkpoints_in(held: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the checkpoints of compkit in what a file holds, however deep they lie."""
    if not isinstance(held, dict):
        return
    if isinstance(held.get("compkit"), dict):
        yield held
    for inner in held.values():
        yield from _checkpoints_in(inner)


def _sources(config: RunConfig, encoder: str, fold: int) -> Iterator[Path]:
    """Yield the files that a network starts from."""
    start, weights = config.model.start_of(encoder, fold), config.model.weights_of(encoder)
    if start is not None:
        yield start
    elif weights not in ("auto", "none", "hub"):
        from compkit.models.states import located

        yield located(weights)


def _refuse(path: Path, store: Store, folds: Folds, fold: int) -> None:
    seen, valid = set(seen_by(path)), folds.valid_indices(fold)
    # A split made by hand may part exact copies; what it trains on anyway tells of no other leak.
    seen -= set(store.digests(folds.train_indices(fold)))
    leaked = np.array([digest in seen for digest in store.digests(valid)], bool)
    if leaked.any():
        raise CompkitError(
            f"{path} was trained on {leaked.sum()} of the images that validate fold {fold} "
            f"(first: {folds.images[valid[leaked][0]]}): give both runs the same folds "
            "(folds.file), and model.start a path with {fold}"
        )
