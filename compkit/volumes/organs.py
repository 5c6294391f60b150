"""Which organs of volumes a competition labels, though its regions have no names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from compkit.data.store import Store
from compkit.errors import CompkitError
from compkit.folds.duplicates import find_duplicates
from compkit.pixels import as_grey
from compkit.volumes.cases import Volume
from compkit.volumes.slices import DARK, Look, body_of, box_of, cuts

#: Slices of a volume from which organs are learnt.
_SLICES = 20

#: An organ counts as labelled where the competition has at least this share of the regions that
#: the volumes let expect in as many slices.
_SHARE = 0.2

#: Below this chance of being labelled, an organ is dropped: kept in vain, it costs less.
_CHANCE = 0.1

#: What is beyond so many times an organ's expected regions stands for others, of which the volumes
#: know nothing; and the share of such regions from which nothing is told.
_TOO_MANY, _STRANGE = 4, 0.5

#: Resamples of groups of images.
_RESAMPLES = 200


@dataclass(frozen=True)
class Shown:
    """How likely a competition's labels show an organ.

    Attributes
    ----------
    organ : str
    share : float
        Of the regions that the volumes let expect; 1 if it is labelled as often as in them.
    chance : float
        That the share is not next to nothing, from 0 to 1.
    """

    organ: str
    share: float
    chance: float

    @property
    def dropped(self) -> bool:
        """Whether the competition surely does not label it."""
        return self.chance < _CHANCE


def shown(store: Store, volumes: Sequence[Volume], look: Look, seed: int = 0) -> list[Shown]:
    """Tell which organs the labelled images of a competition show, the likeliest first.

    A forest learns from the volumes' slices which organ a region is, by its shape, place and grey
    values. How often the competition labels each organ is then estimated by expectation and
    maximisation, as class frequencies of unlabelled data are: M. Saerens, P. Latinne and C.
    Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities". The
    chance resamples groups of near-duplicates, and draws the counts' Poisson rates (prior 1/2), so
    that an organ which few slices would show is not dropped for want of luck.

    Parameters
    ----------
    look : Look
        Under which slices are like the competition's images.

    Raises
    ------
    CompkitError
        If one has no region, or the competition's regions are unlike the volumes' organs.
    """
    rng = np.random.default_rng(seed)
    found = [cut for volume in volumes for cut in cuts(volume, look, _SLICES, rng)]
    learnt = [described(cut.image, cut.labels) for cut in found]
    organs, kind, counts = np.unique(
        [organ for cut in found for organ in cut.organs], return_inverse=True, return_counts=True
    )
    own = [
        described(as_grey(store.images[index]), store.labels_of(index))
        for index in store.labelled.tolist()
    ]
    for rows, what in (
        (learnt, "slice of the volumes shows an organ"),
        (own, "label is a region"),
    ):
        if not sum(map(len, rows)):
            raise CompkitError(f"organs cannot be told, as no {what}: leave --organs shown out")
    forest = ExtraTreesClassifier(200, min_samples_leaf=3, n_jobs=-1, random_state=seed)
    odds = forest.fit(np.concatenate(learnt), kind).predict_proba(np.concatenate(own))
    odds /= counts / counts.sum()
    expected = counts / len(found) * len(own)
    numbers = _expected_numbers(odds, np.ones(len(odds)))
    _refuse_strangers(organs, numbers, expected)
    _, group = np.unique(find_duplicates(store).group[store.labelled], return_inverse=True)
    image_of = np.repeat(np.arange(len(own)), [len(rows) for rows in own])
    chances = (_rates(odds, image_of, group, rng) >= _SHARE * expected).mean(axis=0)
    each = zip(organs.tolist(), (numbers / expected).tolist(), chances.tolist(), strict=True)
    return sorted((Shown(*one) for one in each), key=lambda one: (-one.chance, -one.share))


def _rates(
    odds: np.ndarray, image_of: np.ndarray, group: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw how many regions of each class there are in as many images, groups resampled.

    Parameters
    ----------
    image_of : ndarray of int, shape (regions,)
    group : ndarray of int, shape (images,)
        From 0 on.

    Returns
    -------
    ndarray of float, shape (resamples, classes)
    """
    groups = int(group.max()) + 1
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=_RESAMPLES)[:, group]
    return np.stack([
        rng.gamma(_expected_numbers(odds, times[image_of]) * len(group) / times.sum() + 0.5)
        for times in drawn
    ])  # fmt: skip


def _refuse_strangers(organs: np.ndarray, numbers: np.ndarray, expected: np.ndarray) -> None:
    """Refuse regions that are of no organ of the volumes, which are all taken for the nearest."""
    beyond = np.maximum(numbers - _TOO_MANY * expected, 0)
    if (share := beyond.sum() / numbers.sum()) > _STRANGE:
        raise CompkitError(
            f"organs cannot be told: {share:.0%} of the labels' regions seem unlike any organ of "
            f"the volumes (most are taken for {organs[beyond.argmax()]}, which so many cannot be): "
            "name those to keep by --classes, without --organs shown"
        )


def _expected_numbers(odds: np.ndarray, weights: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Return how many regions are of each class.

    Parameters
    ----------
    odds : ndarray of float, shape (regions, classes)
        Chances of the classes, over their frequencies where they were learnt.
    weights : ndarray of float, shape (regions,)
    """
    if not weights.any():
        return np.zeros(odds.shape[1])
    shares = np.full(odds.shape[1], 1 / odds.shape[1])
    for _ in range(rounds):
        chances = odds * shares
        chances /= np.maximum(chances.sum(axis=1, keepdims=True), 1e-12)
        shares = weights @ chances / weights.sum()
    numbers: np.ndarray = shares * weights.sum()
    return numbers


def described(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return what regions are like: size, place in the body, shape, and grey values.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
    labels : ndarray of int, shape (H, W)
        Region ids; 0 is background.

    Returns
    -------
    ndarray of float, shape (regions, 20)
        In ascending order of ids.
    """
    body = body_of(image > DARK)
    top, left, bottom, right = box_of(body)
    height, width, area = bottom - top, right - left, np.count_nonzero(body)
    grey = image.astype(np.float64)
    mean, spread = grey[body].mean(), grey[body].std() + 1e-6
    rows = []
    for region in np.unique(labels[labels > 0]).tolist():
        mask = labels == region
        y, x = np.nonzero(mask)
        own = grey[mask]
        ring = grey[cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool) & ~mask]
        ring = ring if ring.size else own
        # Pixels are squares, not points: 1/12 is the variance of their own extent.
        lengths, axes = np.linalg.eigh(np.cov(y, x, bias=True) + np.eye(2) / 12)
        twice = 2 * np.arctan2(axes[0, 1], axes[1, 1])
        hull = cv2.contourArea(cv2.convexHull(np.stack([x, y], axis=1).astype(np.int32)))
        middle = (x.mean() - left) / width
        rows.append([
            np.log(len(y) / area), len(y) / max(hull, len(y) / 2), np.ptp(y) / height,
            np.ptp(x) / width, np.log(lengths[1] / lengths[0]), np.cos(twice), np.sin(twice),
            (y.mean() - top) / height, middle, abs(middle - 0.5), height / width,
            (own.mean() - mean) / spread, (own.mean() - ring.mean()) / spread, own.std() / spread,
            ring.std() / spread, *np.quantile(own, (0.1, 0.5, 0.9)), mean, area / body.size,
        ])  # fmt: skip
    return np.array(rows).reshape(-1, 20)
