"""The mean of members' maps, and the head that decodes it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from compkit.config import RunConfig
from compkit.data.resample import resized
from compkit.data.store import Store
from compkit.ensemble.members import Member
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head
from compkit.heads.base import Head


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
        """Return the mean, float32 (M, side, side), of maps (m, h, w); None is left out.

        With a `grid`, (H, W), that is its size.

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
            values = torch.from_numpy(one.astype(np.float32))[None]
            resampled = resized(values, grid)[0].numpy()
            for part, channels in channels_of.items():
                total[self.head.channels[part]] += resampled[channels]
                count[self.head.channels[part]] += 1
        for part, place in self.head.channels.items():
            if not count[place].all():
                raise CompkitError(
                    f"an image has no {part} maps: every member with that head lacks its fold; "
                    "train the missing fold with compkit train"
                )
        return total / count


class Mixture:
    """The mean of members' maps, out of fold and on the test images.

    Parameters
    ----------
    members : sequence of Member
        Of which `prove_alike` holds.

    Attributes
    ----------
    members : tuple of Member
    mean : MapMean
    images : tuple of str
        The labelled images of which some member has out-of-fold maps, in the store's order.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.mean = MapMean(
            [member.head for member in self.members],
            [member.run.side for member in self.members],
            self.members[0].run.config,
        )
        labelled = [self.store.train[int(i)] for i in self.store.labelled]
        self.images = tuple(
            image for image in labelled if any(image in m.out_of_fold for m in self.members)
        )

    @property
    def head(self) -> Head:
        return self.mean.head

    @property
    def side(self) -> int:
        return self.mean.side

    @property
    def store(self) -> Store:
        return self.members[0].run.store

    @property
    def fingerprint(self) -> str:
        """A digest of all that a decoder which is tuned on its out-of-fold maps depends on."""
        folds = self.members[0].run.folds
        told: list[list[object]] = [folds.fold.tolist(), folds.group.tolist()]
        for member in self.members:
            maps = [one.sha256 for one in member.maps_by_fold]
            told.append([member.head.name, member.run.ranking, *maps])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def out_of_fold(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), from networks that did not see the image."""
        return self.mean([member.out_of_fold_maps(image) for member in self.members])

    def test(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), of all networks' maps of a test image."""
        return self.mean([member.test_maps(image) for member in self.members])
