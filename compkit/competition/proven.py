"""What a competition gives, proven once, for all who read it, to be what `Source` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from compkit.competition import COMPETITIONS
from compkit.competition.base import (
    HIGHEST_TRUE,
    NAME,
    Competition,
    GroupTable,
    LabelMaps,
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
        self._name = competition.name
        self._kind: tuple[Any, int] | None = None
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._ask = partial(COMPETITIONS.ask, self._name)
        at_fault = data if self._name in COMPETITIONS.builtin else None
        self._refuse: Callable[..., NoReturn] = partial(
            COMPETITIONS.refuse, self._name, at_fault=at_fault
        )
        if not isinstance(competition.rules, Rules):
            self._refuse("rules", competition.rules, "Rules(…)")
        for fault, names in (
            ("cannot rank", (competition.rules.ranking,)),
            ("cannot be told of by its metrics", competition.rules.metrics),
        ):
            try:
                beside(*names)
            except CompkitError as error:
                raise CompkitError(f"the competition {self._name!r} {fault}: {error}") from None
        self._source = self._ask(competition, "source", data)
        self.train, self.test = self._names("train"), self._names("test")
        self.groups = self._source.groups
        if not isinstance(self.groups, Path | GroupTable | None):
            self._refuse("groups", self.groups, "the Path of a CSV, a GroupTable, or None")

    def fingerprint(self) -> str:
        """Return a digest that changes whenever the data may have changed."""
        found = self._ask(self._source, "fingerprint")
        if not isinstance(found, str) or not found or not found.isprintable():
            self._refuse("fingerprint", found, "printable text")
        return found

    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one image, of the type and channels of all others, and the size of its labels."""
        found = self._ask(self._source, "image", split, index)
        name = (self.train if split == "train" else self.test)[index]
        sound = (
            isinstance(found, np.ndarray) and found.dtype in (np.uint8, np.uint16) and found.size
        )
        if not sound or found.ndim not in (2, 3) or found.shape[2:] not in ((), (3,)):
            wanted = "uint8 or uint16 of shape (H, W) or (H, W, 3)"
            self._refuse(f"{split} image {name}", found, wanted)
        self._kind = self._kind or (found.dtype, found.ndim)
        if (found.dtype, found.ndim) != self._kind:
            dtype, axes = self._kind
            others = f"{dtype} {'(H, W)' if axes == 2 else '(H, W, 3)'}, as other images are,"
            self._refuse(f"{split} image {name}", found, others)
        shape = self._shapes.get(index) if split == "train" else None
        if shape is not None and found.shape[:2] != shape:
            self._refuse(f"{split} image {name}", found, f"the size of its labels, {shape},")
        return found

    def labels(self) -> Table | LabelMaps:
        """Return the label maps of all training images, each proven as it is asked for."""
        found = self._ask(self._source, "labels")
        if not isinstance(found, Table | LabelMaps) or not isinstance(found.images, list | tuple):
            given = getattr(found, "labels", found)
            self._refuse("labels", given, "a Table or LabelMaps of image names and label maps")
        require_images(found.images, self.train, f"the labels of the competition {self._name!r}")
        if isinstance(found, LabelMaps):
            return LabelMaps(found.images, self._each(found.labels))
        if np.ndim(found.labels) != 3 or len(found.labels) != len(self.train):
            self._refuse("labels", found.labels, f"an array of shape ({len(self.train)}, H, W)")
        self._require_ids(found.labels)
        self._shapes = dict.fromkeys(range(len(self.train)), found.labels.shape[1:])
        return found

    def _each(self, labels: Iterable[np.ndarray | None]) -> Iterator[np.ndarray | None]:
        """Yield label maps, each proven to be one; there are as many as images."""
        given = iter(labels)
        for index, name in enumerate(self.train):
            with COMPETITIONS.blaming(self._name, f"fails in the labels of {name}"):
                one = next(given)
            if one is not None:
                if np.ndim(one) not in (2, 3) or not len(one):
                    self._refuse(f"labels of {name}", one, "an array (H, W), or several (A, H, W),")
                self._require_ids(one)
                self._shapes[index] = one.shape[-2:]
            yield one
        for _ in given:  # which lets it end, too
            self._refuse("labels", "more", f"{len(self.train)} label maps")

    def _require_ids(self, labels: np.ndarray) -> None:
        low, high = labels.min(initial=0), labels.max(initial=0)
        if labels.dtype.kind not in "iu" or low < 0 or high > HIGHEST_TRUE:
            self._refuse("labels", labels, f"whole numbers from 0 to {HIGHEST_TRUE}")

    def _names(self, split: Split) -> tuple[str, ...]:
        with COMPETITIONS.blaming(self._name, f"fails in {split}"):
            found = getattr(self._source, split, None)
        names = tuple(found) if isinstance(found, list | tuple) else (None,)
        for name in names:
            if not (isinstance(name, str) and NAME.fullmatch(name)):
                given = found if name is None else name
                self._refuse(f"names of {split} images", given, "names that all systems take")
        if len(set(names)) < len(names):
            self._refuse(f"names of {split} images", found, "each of them once")
        return names
