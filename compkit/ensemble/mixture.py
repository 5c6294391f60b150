"""The weighted mean of members' maps, and the head that decodes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.special import expit, logit

from compkit.config import RunConfig
from compkit.data.resample import resized
from compkit.data.store import Store
from compkit.ensemble.members import Member
from compkit.errors import CompkitError
from compkit.heads import HEADS, make_head
from compkit.heads.base import Head

#: Probabilities are kept this far from 0 and 1 before a temperature divides their logits.
_SURE = 1e-3


class WeightedMean:
    """How maps of several heads, of any size, become those of one head on the finest grid.

    Each channel is the mean over the maps that have it. Several partitions are cut together, each
    with the weight of the maps that speak of it.

    Parameters
    ----------
    heads : sequence of Head
        Of each maps' network.
    sides : sequence of int
        Sides of each maps' grid, pixels.
    weights, temperatures : sequence of float
        Of each maps; the second divides the logits of their foreground.
    config : RunConfig
        Of one of the networks.

    Attributes
    ----------
    head : Head
        Decodes the mean.
    side : int
        Of the mean, pixels.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        sides: Sequence[int],
        weights: Sequence[float],
        temperatures: Sequence[float],
        config: RunConfig,
    ) -> None:
        self.side = max(sides)
        self._channels = [head.channels for head in heads]
        self._weights, self._temperatures = tuple(weights), tuple(temperatures)
        shares: dict[str, float] = {}
        for head, weight in zip(heads, weights, strict=True):
            for part in head.channels:
                shares[part] = shares.get(part, 0) + weight
        names = [name for name in HEADS if name in shares]
        if len(names) > 1:
            names.remove("foreground")
        self.head = make_head(replace(config, head="+".join(names)), self.side, shares)

    def __call__(self, maps: Sequence[np.ndarray | None]) -> np.ndarray:
        """Return the mean, float32 (M, side, side), of maps (m, h, w); None is left out.

        Raises
        ------
        CompkitError
            If nothing is left of a channel.
        """
        return self.of(
            None if one is None else on_grid(one, self.side, temperature)
            for one, temperature in zip(maps, self._temperatures, strict=True)
        )

    def of(self, maps: Iterable[np.ndarray | None]) -> np.ndarray:
        """Return the mean, as of maps by a call, of maps that are on the grid (`on_grid`)."""
        shape = (len(self.head.maps), self.side, self.side)
        total, weights = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1), np.float32)
        for number, one in enumerate(maps):
            if one is None:
                continue
            for part, channels in self._channels[number].items():
                place = self.head.channels[part]
                total[place] += self._weights[number] * one[channels]
                weights[place] += self._weights[number]
        for part, place in self.head.channels.items():
            if not weights[place].all():
                raise CompkitError(
                    f"an image has no {part} maps: every member with that head lacks its fold; "
                    "train the missing fold with train.py"
                )
        return total / weights


def on_grid(maps: np.ndarray, side: int, temperature: float) -> np.ndarray:
    """Return maps (m, h, w), float32 (m, side, side), the foreground with its temperature."""
    values = maps.astype(np.float32)
    if temperature != 1:
        values[0] = tempered(values[0], temperature)
    return resized(torch.from_numpy(values)[None], (side, side))[0].numpy()


def tempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities whose logits are divided by a temperature."""
    return expit(logit(probability.clip(_SURE, 1 - _SURE)) / temperature)


class Mixture:
    """The weighted mean of members' maps, out of fold and on the test images.

    Parameters
    ----------
    members : sequence of Member
        Of which `prove_alike` holds.
    weights, temperatures : sequence of float, optional
        One a member, the weights not negative; equal weights and 1 by default.

    Attributes
    ----------
    members : tuple of Member
        Those of a weight above 0.
    weights : tuple of float
        Theirs, of sum 1.
    mean : WeightedMean
    images : tuple of str
        The labelled images of which some member has out-of-fold maps, in the store's order.
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: Sequence[float] | None = None,
        temperatures: Sequence[float] | None = None,
    ) -> None:
        given = [1.0] * len(members) if weights is None else weights
        scales = [1.0] * len(members) if temperatures is None else temperatures
        taken = [one for one in zip(members, given, scales, strict=True) if one[1] > 0]
        self.members = tuple(member for member, _, _ in taken)
        self.weights = tuple(weight / sum(given) for _, weight, _ in taken)
        self.temperatures = tuple(scale for _, _, scale in taken)
        self.mean = WeightedMean(
            [member.head for member in self.members],
            [member.run.side for member in self.members],
            self.weights,
            self.temperatures,
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
        shares = zip(self.members, self.weights, self.temperatures, strict=True)
        for member, weight, temperature in shares:
            maps = [one.sha256 for one in member.maps_by_fold]
            told.append([member.head.name, member.run.ranking, weight, temperature, *maps])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def out_of_fold(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), from networks that did not see the image."""
        return self.mean([member.out_of_fold_maps(image) for member in self.members])

    def test(self, image: str) -> np.ndarray:
        """Return the mean, float32 (M, side, side), of all networks' maps of a test image."""
        return self.mean([member.test_maps(image) for member in self.members])
