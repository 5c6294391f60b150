"""What a competition is: where its data are, what ranks, and what a submission may hold."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from compkit.errors import CompkitError
from compkit.labels.run_lengths import RunLengths
from compkit.metrics.rand import METRICS

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

#: No region id is higher: in the truth, and in a submission.
HIGHEST_TRUE, HIGHEST = (1 << 32) - 1, 65535

#: What an image is called in the challenge's layout, and so its column in a CSV.
NUMBERED = re.compile(r"(0|[1-9][0-9]{0,17})\.png")

#: What an image may be called in any: what can be part of a file's name on all systems.
NAME = re.compile(r"[^/\\:*?\"<>|\x00-\x1f\ud800-\udfff]{1,200}")


@dataclass(frozen=True)
class Table:
    """Label maps of images of one size.

    Attributes
    ----------
    images : tuple of str
        Names, in order.
    labels : ndarray of uint8 or uint16, shape (N, H, W)
        Region ids; 0 is background. Ids mean nothing beyond their image.
    """

    images: tuple[str, ...]
    labels: np.ndarray

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The label map of each image."""
        return dict(zip(self.images, self.labels, strict=True))


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of images of any sizes, made as they are asked for.

    Attributes
    ----------
    images : tuple of str
        Names, in order.
    labels : iterable of ndarray of unsigned integers, shape (H, W) or (A, H, W), or None
        Region ids, 0 is background; None is of an image without labels. Of several annotators,
        training learns from the first, and scores are the mean over all. Asked for once.
    """

    images: tuple[str, ...]
    labels: Iterable[np.ndarray | None]


@dataclass(frozen=True)
class GroupTable:
    """A CSV that tells of which patient, or other group, each training image is.

    Attributes
    ----------
    path : Path
    image : str
        Its column of image names. Upper and lower case count as one.
    group : str, optional
        Its column of groups; without it, ``group`` or ``patient``.
    """

    path: Path
    image: str = "image"
    group: str | None = None

    def __str__(self) -> str:
        return str(self.path)


class Source(ABC):
    """The raw data of one competition, read once by the store.

    Attributes
    ----------
    train, test : tuple of str
        Image names in the competition's own order.
    groups : Path, GroupTable or None
        A CSV of the patients, or other groups, that training images are of, if they are known; see
        `compkit.folds.reading.read_groups`.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    groups: Path | GroupTable | None = None

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest that changes whenever the data may have changed; must be quick."""

    @abstractmethod
    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one image, uint8 or uint16 as all others, grey (H, W) or in colours (H, W, 3)."""

    @abstractmethod
    def labels(self) -> Table | LabelMaps:
        """Return the label maps of all training images; see `Rules.blank_is_unlabelled`."""


@dataclass(frozen=True)
class Rules:
    """What a competition ranks by and accepts.

    Attributes
    ----------
    ranking : str
        The metric that ranks, by name.
    max_label : int
        The highest region id that a submission may hold.
    blank_is_unlabelled : bool
        Whether an image whose label map is all background counts as one without labels.
    ignored : int
        The id, in label maps, of pixels that nobody looked at; 0 if there are none.
    metrics : sequence of str
        Those that are told beside what ranks.
    """

    ranking: str = "adjusted_all"
    max_label: int = 255
    blank_is_unlabelled: bool = True
    ignored: int = 0
    metrics: Sequence[str] = METRICS

    def told(self, ranking: str | None = None) -> tuple[str, ...]:
        """Return the metrics that people are told, first that which ranks, or another."""
        return tuple(dict.fromkeys([ranking or self.ranking, *self.metrics]))

    def __post_init__(self) -> None:
        if not isinstance(self.ranking, str):
            raise CompkitError(
                f"a competition's rules have ranking {self.ranking!r}: give a metric's name"
            )
        told = self.metrics if isinstance(self.metrics, list | tuple) else [None]
        if not all(isinstance(name, str) for name in told):
            raise CompkitError(
                f"a competition's rules have metrics {self.metrics!r}: give a list of names"
            )
        if type(self.max_label) is not int or not 0 < self.max_label <= HIGHEST:
            raise CompkitError(
                f"a competition's rules have max_label {self.max_label!r}: give a whole number "
                f"from 1 to {HIGHEST}"
            )


#: How files of each form of a submission end.
SUFFIXES = {"pixels": ".csv", "run_lengths": ".csv", "images": ".zip", "membranes": ".tif"}


@dataclass(frozen=True)
class SubmissionAs:
    """What a submission is.

    Parameters
    ----------
    form
        Pixels is a CSV with a row a pixel; run_lengths one with a row a region; images a zip with a
        label image each; membranes a TIFF with a page an image, white within regions and black
        outside and between them.
    run_lengths
        How run lengths are written.
    bits
        Of the pixels of membranes: 8, and white is 255, or 32, fractions, and white is 1.
    sample
        A sample submission, whose order of images is taken; where a shipped competition names one
        that is not there, images are in their own order.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    form: Literal["pixels", "run_lengths", "images", "membranes"] = "pixels"
    run_lengths: RunLengths = field(default_factory=RunLengths)
    bits: Literal[8, 32] = 8
    sample: str | None = None

    @property
    def suffix(self) -> str:
        """How its files end."""
        return SUFFIXES[self.form]


class Competition(ABC):
    """One competition: its name, its rules, and how to reach its data.

    Attributes
    ----------
    name : str
        The name under which it is registered.
    locator : str
        What `owns` answers to, for people: ``"a folder with X_train, X_test and Y_train.csv"``.
    rules : Rules
    submission : SubmissionAs
        What a submission is.
    """

    name: str
    locator: str
    rules: Rules = Rules()
    submission: SubmissionAs = SubmissionAs()

    @abstractmethod
    def owns(self, data: str) -> bool:
        """Tell whether `data`, as ``--data`` was given, names data of this competition.

        Data that are damaged, but could be of no other, are its own: `source` says what is wrong.
        """

    @abstractmethod
    def source(self, data: str) -> Source:
        """Return the data behind the locator `data`.

        Raises
        ------
        CompkitError
            If there is nothing usable at `data`.
        """


def require_images(
    images: Sequence[str], expected: Sequence[str], where: str, what: str = "column"
) -> None:
    """Raise `CompkitError` unless `images` are those expected, each once, in the same order.

    Parameters
    ----------
    where, what : str
        The file, and what an image is in it, for the sentence.
    """
    known, present = set(expected), set(images)
    missing = [name for name in expected if name not in present]
    if missing:
        raise CompkitError(
            f"{where} has no {what} {missing[0]}{_more(missing)}, but every image needs its own: "
            "give the labels of these images"
        )
    extra = [name for name in images if name not in known]
    if extra:
        raise CompkitError(
            f"{where} has a{'n' * (what == 'image')} {what} {extra[0]}{_more(extra)}, of which "
            "there is no image: leave it out, or fetch the image again"
        )
    pairs = zip_longest(images, expected, fillvalue="nothing")
    for column, (name, wanted) in enumerate(pairs, 1):
        if name != wanted:
            raise CompkitError(
                f"{where}: {what} {column} is {name} where {wanted} is wanted; they go by number, "
                "2.png before 10.png, or as the competition has them"
            )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
