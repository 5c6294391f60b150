"""What a competition gives, proven once, for all who read it, to be what `Source` says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NoReturn

import numpy as np

from compkit.competition import COMPETITIONS
from compkit.competition.base import (
    HIGHEST,
    NAME,
    Competition,
    Rules,
    Source,
    Split,
    Table,
    require_images,
)
from compkit.errors import CompkitError
from compkit.metrics.named import beside


class Proven(Source):
    """The data of a competition, each piece of which is proven as it is given.

    Parameters
    ----------
    competition : Competition
    data : str
        As for `Competition.source`.

    Raises
    ------
    CompkitError
        Here and in each method, naming the competition and what it gives.
    """

    def __init__(self, competition: Competition, data: str) -> None:
        self._name, self._side = competition.name, 0
        self._ask = partial(COMPETITIONS.ask, self._name)
        self._refuse: Callable[..., NoReturn] = partial(COMPETITIONS.refuse, self._name)
        if not isinstance(competition.rules, Rules):
            self._refuse("rules", competition.rules, "Rules(…)")
        try:
            beside(competition.rules.ranking)
        except CompkitError as error:
            raise CompkitError(f"the competition {self._name!r} cannot rank: {error}") from None
        self._source = self._ask(competition, "source", data)
        self.train, self.test = self._names("train"), self._names("test")

    def fingerprint(self) -> str:
        """Return a digest that changes whenever the data may have changed."""
        found = self._ask(self._source, "fingerprint")
        if not isinstance(found, str) or not found or not found.isprintable():
            self._refuse("fingerprint", found, "printable text")
        return found

    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one grey image, uint8, shape (H, H), of the size of all others."""
        found = self._ask(self._source, "image", split, index)
        sound = isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.size
        side = self._side or (len(found) if sound else "H")
        if not sound or found.shape != (side, side):
            name = (self.train if split == "train" else self.test)[index]
            self._refuse(f"{split} image {name}", found, f"uint8 of shape ({side}, {side})")
        return found

    def labels(self) -> Table:
        """Return the label maps of all training images."""
        found = self._ask(self._source, "labels")
        labels = found.labels if isinstance(found, Table) else found
        images = found.images if isinstance(found, Table) else None
        if not isinstance(images, list | tuple) or not isinstance(labels, np.ndarray):
            self._refuse("labels", labels, "a Table of image names and an array of label maps")
        require_images(found.images, self.train, f"the labels of the competition {self._name!r}")
        self._side = labels.shape[-1] if labels.ndim == 3 else 0
        if not self._side or labels.shape != (len(self.train), self._side, self._side):
            self._refuse("labels", labels, f"an array of shape ({len(self.train)}, H, H)")
        low, high = labels.min(initial=0), labels.max(initial=0)
        if labels.dtype.kind not in "iu" or low < 0 or high > HIGHEST:
            self._refuse("labels", labels, f"whole numbers from 0 to {HIGHEST}")
        return found

    def _names(self, split: Split) -> tuple[str, ...]:
        with COMPETITIONS.blaming(self._name, f"fails in {split}"):
            found = getattr(self._source, split, None)
        names = tuple(found) if isinstance(found, list | tuple) else (None,)
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
            self._refuse(f"names of {split} images", found, "a tuple of 0.png, 1.png, …")
        if len(set(names)) < len(names):
            self._refuse(f"names of {split} images", found, "each of them once")
        return names
