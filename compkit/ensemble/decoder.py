"""Decoder parameters tuned on out-of-fold maps, and what they score where they are not known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compkit.crossfit import Evaluation, cross_fit, written
from compkit.ensemble.mixture import Mixture, OutOfFold, members_of
from compkit.errors import CompkitError
from compkit.heads.base import Head
from compkit.intervals import Score
from compkit.metrics.named import beside, image_score
from compkit.parallel import each_image
from compkit.parameters import Params
from compkit.progress import say
from compkit.run import Run
from compkit.schema import read_record, write_record

#: An image that is filled, or not: the other parameters settle differently for each.
STARTS: tuple[Params, ...] = ({}, {"fill": True})

#: What is tuned on at most, for the sake of time: so many images, and as many pixels of small ones.
_IMAGES, _PIXELS = 100, 100 * 512**2

_REMEDY = "delete it and run compkit train again, or for an ensemble compkit ensemble"


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
        For the test: tuned on out-of-fold maps of all folds, or the head's defaults (see `tuned`).
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
    networks : list of str or None
        Digests of the weights that predicted those maps; None in older files.
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
    networks: list[str] | None = None
    image_groups: list[str] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the metric that ranks, if there is one."""
        return self.intervals[self.ranking]

    @property
    def verdict(self) -> str:
        """Whether it is tuned, and if not, why."""
        if self.tuned:
            return "tuned"
        tuned, default = (s[self.ranking] for s in (self.tuned_scores, self.default_scores))
        return (
            "not tuned: parameters tuned on the other folds score no better, other metrics counted "
            f"a little ({self.ranking} {tuned:.4f}), than the head's own ({default:.4f}), which "
            "are kept"
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_record(path, written(asdict(self)))


def load_decoder(path: Path) -> Decoder:
    """Read what `Decoder.save` wrote; its absence is an error, never a default.

    Raises
    ------
    CompkitError
        If it is absent or damaged.
    """
    if not path.is_file():
        raise CompkitError(
            f"there is no tuned decoding {path}: run compkit train on this run again, or for "
            "an ensemble compkit ensemble"
        )
    return read_record(Decoder, path, _REMEDY)


def prove_networks(decoder: Decoder, path: Path, networks: Sequence[str]) -> None:
    """Raise a CompkitError if a decoder was tuned on maps of other networks than these.

    Parameters
    ----------
    networks : sequence of str
        Digests of the weights of those that have out-of-fold maps.
    """
    if decoder.networks is not None and set(decoder.networks) != set(networks):
        raise CompkitError(
            f"{path} was tuned on maps of other networks than are here: put the one back that was "
            "made here, or run compkit train again, or for an ensemble compkit ensemble"
        )


def tuned_decoder(mixture: Mixture, path: Path, must_exist: bool = False) -> Decoder:
    """Return the decoder that was tuned on just these out-of-fold maps, or tune it and save it.

    Parameters
    ----------
    path : Path
        Where it lies, or will.
    must_exist : bool
        Its absence is an error: what is there is not finished.

    Raises
    ------
    CompkitError
        If what lies there is damaged or of another head, or absent though it must exist.
    """
    if must_exist or path.is_file():
        decoder = load_decoder(path)
        if decoder.head != mixture.head.name:
            configs = {str(member.run.directory / "config.yaml") for member in mixture.members}
            raise CompkitError(
                f"{path} is for the head {decoder.head}, but {', '.join(sorted(configs))} tells of "
                f"{mixture.head.name}: if that was edited, put it back; else {_REMEDY}"
            )
        run = mixture.members[0].run
        lacking = [name for name in run.told if name not in decoder.scores]
        if decoder.maps == mixture.fingerprint and not lacking:
            return decoder
        why = f"has no scores by {lacking[0]}" if lacking else "was tuned on other out-of-fold maps"
        say(f"{path} {why}: tuning anew")
    decoder = tune_decoder(mixture)
    decoder.save(path)
    return decoder


def tune_run(run: Run) -> Decoder:
    """Tune the decoder of a whole run, and save it beside the run."""
    decoder = tune_decoder(Mixture(members_of([run])))
    decoder.save(run.directory / "decoder.json")
    return decoder


def tune_decoder(mixture: Mixture, ranking: str | None = None) -> Decoder:
    """Tune the decoder of an ensemble on its out-of-fold maps.

    Parameters
    ----------
    mixture : Mixture
    ranking : str, optional
        Tune for this metric instead of the runs' own.
    """
    run, head = mixture.members[0].run, mixture.head
    truths = [mixture.store.truth_of(index) for index in mixture.indices]
    ranking, told = ranking or run.ranking, mixture.store.competition.rules.metrics
    maps = partial(_rounded, mixture.out_of_fold, mixture.images)
    fit = cross_fit(
        head.space,
        evaluation(head, maps, truths, len(truths) * mixture.pixels, ranking, told),
        run.folds.fold[mixture.indices],
        ranking,
        f"tuning the decoding of {_called(mixture)}",
        STARTS,
        run.folds.group[mixture.indices],
        told,
        max(_IMAGES, _PIXELS // mixture.side**2),
    )
    return Decoder(
        head=head.name,
        maps=mixture.fingerprint,
        networks=[maps.made.checkpoint for m in mixture.members for maps in m.maps_by_fold],
        **fit.record(ranking, mixture.images),
    )


def evaluation(
    head: Head,
    maps: Callable[[int], np.ndarray],
    truths: Sequence[np.ndarray],
    pixels: int,
    ranking: str,
    told: Sequence[str] = (),
) -> Evaluation:
    """Return the scores of all images by settings of a head's decoder.

    Parameters
    ----------
    maps : callable
        Takes an image's number to its maps, float32 (M, h, w); survives being sent to a process.
    pixels : int
        Of all maps.
    ranking, told
        As for `compkit.crossfit.cross_fit`.
    """
    decode = partial(_decoded, head, maps, [truth.shape[-2:] for truth in truths])
    return Evaluation(decode, truths, pixels, metrics=beside(ranking, *told))


def _decoded(
    head: Head,
    maps: Callable[[int], np.ndarray],
    shapes: Sequence[tuple[int, int]],
    index: int,
    params: Params,
) -> np.ndarray:
    return head.decode(maps(index), params, shapes[index])


def _rounded(out_of_fold: OutOfFold, images: Sequence[str], index: int) -> np.ndarray:
    # To 16 bits, as all decoders were tuned on: values on a threshold tell.
    return torch.from_numpy(out_of_fold(images[index])).half().float().numpy()


def default_scores(mixture: Mixture, images: Sequence[str]) -> np.ndarray:
    """Return the score of each image, float64 (N,), decoded with the head's default parameters."""
    store, metric = mixture.store, mixture.members[0].run.ranking
    work = (
        (mixture.head, mixture.out_of_fold(i), store.truth_of(store.train.index(i)), metric)
        for i in images
    )
    label, count = f"scoring {_called(mixture)}", len(images)
    return np.array(list(each_image(_score, work, label, count, count * mixture.pixels)))


def _score(head: Head, maps: np.ndarray, truth: np.ndarray, metric: str) -> float:
    return image_score(truth, head.decode(maps, head.defaults, truth.shape[-2:]), metric)


def out_of_fold_regions(
    mixture: Mixture, decoder: Decoder
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every labelled image's true and predicted label maps, (H, W) each.

    Predictions come from networks and parameters that did not see the image.
    """
    folds = mixture.members[0].run.folds.fold
    params = (decoder.fold_params[str(folds[index])] for index in mixture.indices)
    maps, count = map(mixture.out_of_fold, mixture.images), len(mixture.images)
    shapes = [mixture.store.labels_of(index).shape for index in mixture.indices]
    work = zip(maps, params, shapes, strict=True)
    found = each_image(mixture.head.decode, work, "decoding", count, count * mixture.pixels)
    yield from zip(map(mixture.store.labels_of, mixture.indices), found, strict=True)


def _called(mixture: Mixture) -> str:
    names = [member.name for member in mixture.members]
    return names[0] if len(names) == 1 else f"a mean of {len(names)} members"
