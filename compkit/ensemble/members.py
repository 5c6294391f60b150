"""A member of an ensemble: all networks of one encoder of a run, which share a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np

from compkit.errors import CompkitError
from compkit.folds import ALL
from compkit.heads.base import Head
from compkit.inference.maps import Maps
from compkit.inference.members import member_maps
from compkit.run import Run


@dataclass(frozen=True, eq=False)
class Member:
    """One encoder of a run, on the folds that are trained.

    Attributes
    ----------
    run : Run
    encoder : str
    """

    run: Run
    encoder: str

    @property
    def name(self) -> str:
        return f"{self.run.name}/{self.encoder}"

    @cached_property
    def head(self) -> Head:
        """What its networks' maps are of."""
        return self.run.head()

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """The folds whose network is trained."""
        parts = self.run.parts(self.encoder)
        return tuple(fold for encoder, fold in parts if self.run.is_done(encoder, fold))

    @cached_property
    def networks(self) -> tuple[int, ...]:
        """The folds, and `ALL` if a network was trained on every labelled image."""
        return self.folds + (ALL,) * self.run.is_done(self.encoder, ALL)

    @cached_property
    def maps_by_fold(self) -> tuple[Maps, ...]:
        """The out-of-fold maps of `folds`, predicted anew where the run predicts otherwise now."""
        return tuple(member_maps(self.run, self.encoder, fold, "oof") for fold in self.folds)

    @cached_property
    def out_of_fold(self) -> dict[str, Maps]:
        """By labelled image, the maps of the network that did not see it."""
        return {image: maps for maps in self.maps_by_fold for image in maps.images}

    @cached_property
    def test(self) -> tuple[Maps, ...]:
        """Each network's maps of the test images, predicted where they are not there yet."""
        return tuple(member_maps(self.run, self.encoder, fold, "test") for fold in self.networks)

    def out_of_fold_maps(self, image: str) -> np.ndarray | None:
        """Return the maps (M, h, w) of a labelled image, memory-mapped; None if it has none."""
        maps = self.out_of_fold.get(image)
        return None if maps is None else maps.values[maps.images.index(image)]

    def test_maps(self, image: str) -> np.ndarray:
        """Return the mean over its networks of a test image's maps, float32 (M, h, w)."""
        return np.mean([maps.of(image) for maps in self.test], axis=0)


def members_of(
    runs: Sequence[Run], encoder: str | None = None, partial: bool = False
) -> list[Member]:
    """Return the members of some runs, or those of one encoder.

    Parameters
    ----------
    partial : bool
        Take members that lack some folds, too.

    Raises
    ------
    CompkitError
        If a run is named twice, a member lacks a fold (or all), or their maps have no mean.
    """
    if len({run.name for run in runs}) < len(runs):
        raise CompkitError("a run is named twice: name each --run once")
    members = []
    for run in runs:
        encoders = dict.fromkeys(e for e, _ in run.parts(encoder))
        members += [Member(run, e) for e in encoders]
        unfinished = run.unfinished(encoder)
        if unfinished and not (partial and all(m.folds for m in members)):
            _refuse_unfinished(run, unfinished, members)
    prove_alike(members)
    return members


def _refuse_unfinished(run: Run, missing: Sequence[str], members: Sequence[Member]) -> NoReturn:
    """Say what a run lacks, and the ways on from what is there."""
    way = "run its compkit train command again, without --fold and --encoder"
    some = [m.encoder for m in members if m.run is run and m.folds]
    if some:
        only = f" --encoder {some[0]}" * (len(some) < len(run.config.encoders))
        way += (
            f"; or take what is there: compkit ensemble --name NEW --run {run.name}{only} "
            "--partial, then compkit submit --run NEW"
        )
    raise CompkitError(f"the run {run.name} is not finished (missing: {', '.join(missing)}): {way}")


def prove_alike(members: Sequence[Member]) -> None:
    """Refuse members whose maps cannot be averaged.

    Raises
    ------
    CompkitError
        Naming two runs that differ in data, in what ranks, or in what their maps mean.
    """
    first = members[0].run
    for run in (member.run for member in members):
        if run.store.content != first.store.content:
            raise CompkitError(
                f"the runs {first.name} and {run.name} were made on different data: "
                "submit them one by one"
            )
        if run.store.test_content != first.store.test_content:
            raise CompkitError(
                f"the runs {first.name} and {run.name} were made beside different tests: give "
                "--data with the one to predict"
            )
        if run.ranking != first.ranking:
            raise CompkitError(
                f"the runs {first.name} and {run.name} rank by {first.ranking} and {run.ranking}: "
                "submit them one by one"
            )
        ours, theirs = run.config.partition, first.config.partition
        if (ours.reach, ours.border) != (theirs.reach, theirs.border):
            raise CompkitError(
                f"the runs {first.name} and {run.name} differ in partition.reach or .border: their "
                "maps have no mean; `compkit blend` combines their submissions"
            )
