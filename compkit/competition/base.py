"""What a competition is: where its data are, what ranks, and what a submission may hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Table:
    """Label maps of several images, as the challenge's CSV holds them.

    Attributes
    ----------
    images : tuple of str
        File names, in column order (``0.png``, ``1.png``, …).
    labels : ndarray of uint8 or uint16, shape (N, H, W)
        Region ids; 0 is background. Ids mean nothing beyond their image.
    """

    images: tuple[str, ...]
    labels: np.ndarray


class Source(ABC):
    """The raw data of one competition, read once by the store.

    Attributes
    ----------
    train, test : tuple of str
        Image names in the competition's own order.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest that changes whenever the data may have changed; must be quick."""

    @abstractmethod
    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one grey image, uint8, shape (H, W)."""

    @abstractmethod
    def labels(self) -> Table:
        """Return the label maps of all training images; an unlabelled image is all zero."""


@dataclass(frozen=True)
class Rules:
    """What a competition ranks by and accepts.

    Attributes
    ----------
    ranking : str
        The metric that ranks, a name from `compkit.metrics.rand.METRICS`.
    max_label : int
        The highest region id that a submission may hold.
    """

    ranking: str = "adjusted_all"
    max_label: int = 255


class Competition(ABC):
    """One competition: its name, its rules, and how to reach its data."""

    name: str
    rules: Rules = Rules()

    @abstractmethod
    def source(self, data: str) -> Source:
        """Return the data behind the locator `data`.

        Raises
        ------
        CompkitError
            If there is nothing usable at `data`.
        """
