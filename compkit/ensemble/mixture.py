"""Members of an ensemble, the mean of their maps, and the head that decodes it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

from compkit.config import RunConfig
from compkit.data.arrays import shapes_of
from compkit.errors import CompkitError
from compkit.folds import ALL
from compkit.heads import HEADS, make_head
from compkit.heads.base import Head
from compkit.inference.maps import Maps
from compkit.inference.members import maps_of, proven
from compkit.resample import resized, seen
from compkit.run import Run


@dataclass(frozen=True, eq=False)
class Member:
    """All networks of one encoder of a run, on the folds that are trained; they share a weight.

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
        return tuple(maps_of(self.run, self.encoder, fold) for fold in self.folds)

    @cached_property
    def out_of_fold(self) -> dict[str, Maps]:
        """By labelled image, the maps of the network that did not see it."""
        return {image: maps for maps in self.maps_by_fold for image in maps.images}

    def checkpoints(self, folds: Sequence[int]) -> list[Path]:
        """Return those of some of its networks, each proven to be what was trained there."""
        return [proven(self.run, self.encoder, fold) for fold in folds]


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
        own = [Member(run, e) for e in dict.fromkeys(e for e, _ in run.parts(encoder))]
        missing = run.unfinished(encoder)
        some = [member.encoder for member in own if member.folds]
        if missing and not (partial and len(some) == len(own)):
            way = "run its compkit train command again, without --fold and --encoder"
            if some:
                only = f" --encoder {some[0]}" * (len(some) < len(run.config.encoders))
                way += (
                    f"; or take what is there: compkit ensemble --name NEW --run {run.name}{only} "
                    "--partial, then compkit submit --run NEW"
                )
            raise CompkitError(
                f"the run {run.name} is not finished (missing: {', '.join(missing)}): {way}"
            )
        members += own
    prove_alike(members)
    return members


def prove_alike(members: Sequence[Member]) -> None:
    """Refuse members whose maps cannot be averaged.

    Raises
    ------
    CompkitError
        Naming two runs that differ in data, in what ranks, or in what their maps mean.
    """
    first = members[0].run
    pairs_of = attrgetter("config.partition.reach", "config.partition.border")
    for run in (member.run for member in members):
        both, fault = f"the runs {first.name} and {run.name}", None
        if run.store.content != first.store.content:
            fault = "were made on different data: submit them one by one"
        elif run.store.test_content != first.store.test_content:
            fault = "were made beside different tests: give --data with the one to predict"
        elif run.ranking != first.ranking:
            fault = f"rank by {first.ranking} and {run.ranking}: submit them one by one"
        elif pairs_of(run) != pairs_of(first):
            fault = (
                "differ in partition.reach or .border: their maps have no mean; `compkit blend` "
                "combines their submissions"
            )
        if fault:
            raise CompkitError(f"{both} {fault}")


class MapMean:
    """How maps of several heads, of any size, become those of one head on the finest grid.

    Each channel is the mean over the maps that have it. Several partitions are cut together, each
    with the weight of the maps that speak of it.

    Parameters
    ----------
    heads : sequence of Head
        Of each maps' network.
    sides : sequence of int
        Sides of each maps' grid, pixels.
    config : RunConfig
        Of one of the networks.

    Attributes
    ----------
    head : Head
        Decodes the mean.
    side : int
        Of the mean, pixels.
    """

    def __init__(self, heads: Sequence[Head], sides: Sequence[int], config: RunConfig) -> None:
        self.side = max(sides)
        self._channels = [head.channels for head in heads]
        shares = Counter(part for head in heads for part in head.channels)
        names = [name for name in HEADS.names() if name in shares]
        if len(names) > 1:
            names.remove("foreground")
        self.head = make_head(replace(config, head="+".join(names)), self.side, shares)

    def __call__(
        self, maps: Sequence[np.ndarray | None], grid: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return the mean, float32 (M, h, w), of maps (m, h', w'); None is left out.

        A `grid`, (h, w), is its size; by default it is square.

        Raises
        ------
        CompkitError
            If nothing is left of a channel.
        """
        grid = grid or (self.side, self.side)
        shape = (len(self.head.maps), *grid)
        total, count = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1), np.float32)
        for channels_of, one in zip(self._channels, maps, strict=True):
            if one is None:
                continue
            resampled = resized(torch.from_numpy(one)[None], grid)[0].numpy()
            for part, channels in channels_of.items():
                total[self.head.channels[part]] += resampled[channels]
                count[self.head.channels[part]] += 1
        for part, place in self.head.channels.items():
            if not count[place].all():
                raise CompkitError(
                    f"an image has no {part} maps: every member with that head lacks its fold; "
                    "train the missing fold with compkit train"
                )
        return np.divide(total, count, out=total)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The mean of members' maps of a labelled image, made when it is asked for.

    A process that it is sent to opens the same files.

    Attributes
    ----------
    mean : MapMean
    maps : list of dict of str to Maps
        Those of each member, by image.
    grids : dict of str to (int, int)
        The (h, w) of the mean, by image.
    """

    mean: MapMean
    maps: list[dict[str, Maps]]
    grids: dict[str, tuple[int, int]]

    def __call__(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, h, w), from networks that did not see the image."""
        maps = [of_member.get(image) for of_member in self.maps]
        given = [None if one is None else one.of(image) for one in maps]
        return self.mean(given, self.grids[image])


class Mixture:
    """The mean of members' maps out of fold.

    Parameters
    ----------
    members : sequence of Member
        Of which `prove_alike` holds.

    Attributes
    ----------
    members : tuple of Member
    store : Store
        Their data.
    mean : MapMean
    out_of_fold : OutOfFold
    head, side
        Those of the mean.
    pixels : int
        Of all maps of an image together.
    images : tuple of str
        The labelled images of which some member has out-of-fold maps, in the store's order.
    indices : list of int
        Their places in the store.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        run = members[0].run
        self.store = run.store
        heads = [member.run.head() for member in members]
        self.mean = MapMean(heads, [member.run.side for member in members], run.config)
        self.head, self.side = self.mean.head, self.mean.side
        self.pixels = len(self.head.maps) * self.side**2
        known, names = {image for m in members for image in m.out_of_fold}, self.store.train
        self.indices = [i for i in self.store.labelled.tolist() if names[i] in known]
        self.images = tuple(names[i] for i in self.indices)
        shapes = shapes_of(self.store.images)
        sizes = {member.run.config.input.size for member in members}
        grids = {
            names[i]: max((seen(tuple(shapes[i]), size) for size in sizes), key=math.prod)
            for i in self.indices
        }
        self.out_of_fold = OutOfFold(self.mean, [m.out_of_fold for m in members], grids)

    @property
    def fingerprint(self) -> str:
        """A digest of all that a decoding which is tuned on its out-of-fold maps depends on."""
        folds = self.members[0].run.folds
        told: list[list[object]] = [folds.fold.tolist(), folds.group.tolist()]
        for member in self.members:
            maps = [one.sha256 for one in member.maps_by_fold]
            told.append([member.run.head().name, member.run.ranking, *maps])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()
