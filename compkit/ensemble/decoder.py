"""Decoder parameters tuned on out-of-fold maps, and what they scored there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compkit.crossfit import written
from compkit.ensemble.mixture import Mixture
from compkit.errors import CompkitError
from compkit.intervals import Score
from compkit.schema import read_record, write_record


@dataclass(frozen=True)
class Decoder:
    """Tuned decoder parameters, and out-of-fold scores.

    Attributes
    ----------
    head : str
        Whose parameters they are.
    ranking : str
        The metric that they are tuned for.
    params : dict
        For the test: tuned on all out-of-fold maps, or the head's defaults (see `tuned`).
    tuned : bool
        Whether tuning helps on folds that it did not see; if not, the defaults are kept.
    fold_params : dict of str to dict
        By fold, parameters that its images may be scored with: tuned on the *other* folds, or the
        defaults.
    scores : dict of str to float
        Mean of each metric, as expected of `params`: the better of the next two.
    intervals : dict of str to (float, float) or None
        Their 95 % bootstrap intervals, resampling groups; None where all images are of one.
    tuned_scores : dict of str to float
        The means when every fold is decoded with parameters tuned on the other folds: no image's
        score comes from parameters that saw its labels.
    default_scores : dict of str to float
        The means with the head's default parameters.
    images : int
        Number of images.
    image_names : list of str
        The images, in the store's order.
    image_scores : dict of str to list of float
        By metric, the values whose means are `scores`: one an image, in the order of `image_names`;
        NaN where the metric says nothing of it.
    maps : str or None
        Of which out-of-fold maps it was tuned (`Mixture.fingerprint`); None in older files.
    image_groups : list of str, optional
        The group of each image; None where none are known, so that images are resampled.
    """

    head: str
    ranking: str
    params: dict[str, Any]
    tuned: bool
    fold_params: dict[str, dict[str, Any]]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float] | None]
    tuned_scores: dict[str, float]
    default_scores: dict[str, float]
    images: int
    image_names: list[str]
    image_scores: dict[str, list[Score]]
    maps: str | None = None
    image_groups: list[str] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the metric that ranks, if there is one."""
        return self.intervals[self.ranking]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_record(path, written(asdict(self)))


_REMEDY = "delete it and run compkit train again, or for an ensemble compkit ensemble"


def load_decoder(path: Path) -> Decoder:
    """Read what `Decoder.save` wrote; its absence is an error, never a default.

    Raises
    ------
    CompkitError
        If it is absent or damaged.
    """
    if not path.is_file():
        raise CompkitError(
            f"there is no tuned decoder {path}: run compkit train on this run again, or for "
            "an ensemble compkit ensemble"
        )
    return read_record(Decoder, path, _REMEDY)


def read_decoder(path: Path, mixture: Mixture) -> Decoder:
    """Do as `load_decoder`, with proof that it is a decoder of these maps.

    Parameters
    ----------
    mixture : Mixture
        Whose maps it is to decode. It may have been tuned on other ones (see `Decoder.maps`).

    Raises
    ------
    CompkitError
        If it is absent, damaged, or of another head or images.
    """
    decoder = load_decoder(path)
    if decoder.head != mixture.head.name:
        configs = {str(member.run.directory / "config.yaml") for member in mixture.members}
        raise CompkitError(
            f"{path} is for the head {decoder.head}, but {', '.join(sorted(configs))} tells of "
            f"{mixture.head.name}: if that was edited, put it back; else {_REMEDY}"
        )
    try:
        _prove(decoder, mixture)
    except CompkitError as error:
        raise CompkitError(f"{path} is damaged ({error}): {_REMEDY}") from None
    return decoder


def _prove(decoder: Decoder, mixture: Mixture) -> None:
    """Raise a CompkitError if a decoder is not one of what it is to decode."""
    folds = mixture.members[0].run.folds.fold
    if tuple(decoder.image_names) != mixture.images:
        raise CompkitError("its images are others")
    places = {image: place for place, image in enumerate(mixture.store.train)}
    if not {str(folds[places[image]]) for image in mixture.images} <= set(decoder.fold_params):
        raise CompkitError("it lacks the parameters of a fold")
    for params in (decoder.params, *decoder.fold_params.values()):
        mixture.head.check_params(params)


def out_of_fold_regions(
    mixture: Mixture, decoder: Decoder
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every labelled image's true and predicted label maps, (H, W) each.

    Predictions come from networks and parameters that did not see the image.
    """
    store, folds = mixture.store, mixture.members[0].run.folds
    for image in mixture.images:
        index = store.train.index(image)
        params = decoder.fold_params[str(folds.fold[index])]
        truth = store.labels_of(index)
        yield truth, mixture.head.decode(mixture.out_of_fold(image), params, truth.shape)
