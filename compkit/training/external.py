"""Labelled images of another competition, trained on beside those of a run."""

from __future__ import annotations

from compkit.config import RunConfig
from compkit.data.dataset import TrainingSet, labelled_set
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError
from compkit.heads.base import Head


def open_external(config: RunConfig, store: Store) -> Store | None:
    """Return the store of ``external.data``, once it is sure that it may teach here.

    Raises
    ------
    CompkitError
        If it is none, has no labels, holds pixels of another kind, or an image of these data.
    """
    if config.external.data is None:
        return None
    where = f"external.data {config.external.data}"
    try:
        other = open_store(config.external.data)
        other.require_labels()
    except CompkitError as error:
        raise CompkitError(f"{where}: {error}") from None
    if other.pixels != store.pixels:
        told = [f"{p.channels} channel(s) of {p.bits} bits" for p in (other.pixels, store.pixels)]
        raise CompkitError(f"{where} has images of {told[0]}, but these data {told[1]}: convert it")
    own = dict(zip(store.digests(range(len(store.train))), store.train, strict=True))
    both = [name for name in other.digests(other.labelled.tolist()) if name in own]
    if both:
        raise CompkitError(
            f"{where} holds {len(both)} of the images of these data (first: {own[both[0]]}), which "
            "are to validate or have no labels: leave them out"
        )
    return other


def external_set(other: Store, config: RunConfig, head: Head) -> TrainingSet:
    """Return all its labelled images as a training set."""
    return labelled_set(other, other.labelled.tolist(), config, head, stream=2)
