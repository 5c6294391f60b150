"""The weighted mean of members' maps, and the head that decodes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from compkit.data.resample import resized
from compkit.data.store import Store
from compkit.ensemble.members import Member
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head
from compkit.heads.base import Head
from compkit.inference.maps import Maps


class Mixture:
    """A weighted mean of probability maps, on the finest of the members' grids.

    Members may have different heads: each channel is the mean over the members that have it, and
    where there are several partitions they are cut together, each with the weight of its members.
    An image that a member has no maps of is the mean of the others.

    Parameters
    ----------
    members : sequence of Member
        Of which `prove_alike` holds.
    weights : sequence of float, optional
        One a member, not negative; equal ones by default.

    Attributes
    ----------
    head : Head
        Decodes the maps.
    side : int
        Of the maps, pixels.
    images : tuple of str
        The labelled images of which some member has out-of-fold maps, in the store's order.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(members) if weights is None else weights
        taken = [(m, w) for m, w in zip(members, weights, strict=True) if w > 0]
        self.members = tuple(member for member, _ in taken)
        self.weights = tuple(weight / sum(weights) for _, weight in taken)
        self.side = max(member.run.side for member in self.members)
        self.head = _joint_head(self.members, self.weights, self.side)
        store = self.store
        labelled = [store.train[int(i)] for i in store.labelled]
        self.images = tuple(
            image for image in labelled if any(image in m.out_of_fold for m in self.members)
        )

    @property
    def store(self) -> Store:
        return self.members[0].run.store

    def out_of_fold(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), from networks that did not see the image."""
        parts = zip(self.members, self.weights, strict=True)
        return self._mean(
            [(m.out_of_fold[image], m, w) for m, w in parts if image in m.out_of_fold], image
        )

    def test(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), of all networks' maps of a test image."""
        parts = zip(self.members, self.weights, strict=True)
        return self._mean([(x, m, w / len(m.test)) for m, w in parts for x in m.test], image)

    def _mean(self, given: Sequence[tuple[Maps, Member, float]], image: str) -> np.ndarray:
        shape = (len(self.head.maps), self.side, self.side)
        total, weights = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1), np.float32)
        for maps, member, weight in given:
            own = torch.from_numpy(maps.of(image))[None]
            values = resized(own, (self.side, self.side))[0].numpy()
            for part, channels in member.head.channels.items():
                place = self.head.channels[part]
                total[place] += weight * values[channels]
                weights[place] += weight
        if not weights.all():
            part = next(p for p, place in self.head.channels.items() if not weights[place].all())
            raise CompkitError(
                f"{image} has no {part} maps: every member with that head lacks the fold of the "
                "image; train it with train.py"
            )
        return total / weights


def _joint_head(members: Sequence[Member], weights: Sequence[float], side: int) -> Head:
    """Return the head of all partitions that the members have, for maps of `side` pixels."""
    shares: dict[str, float] = {}
    for member, weight in zip(members, weights, strict=True):
        for part in member.head.channels:
            shares[part] = shares.get(part, 0) + weight
    names = [name for name in HEADS if name in shares]
    if len(names) > 1:
        names.remove("foreground")
    config = replace(members[0].run.config, head="+".join(names))
    return make_head(config, side, shares)
