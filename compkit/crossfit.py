"""Tune whatever cuts images into regions, and estimate honestly what it will score.

Nothing here knows what cuts: it is a function of an image's number and of parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compkit.intervals import known
from compkit.metrics.bootstrap import interval, mean, standard_error
from compkit.metrics.named import beside, image_scores
from compkit.metrics.rand import METRICS
from compkit.parallel import in_order
from compkit.parameters import Param, Params, defaults_of
from compkit.progress import say, task

#: From an image's number and one setting to a label map, integer (H, W).
Decode = Callable[[int, dict[str, Any]], np.ndarray]

#: From one setting to one value an image, float64 (N,).
Score = Callable[[dict[str, Any]], np.ndarray]

#: Passes over the parameters; the third hardly ever moves one.
_ROUNDS = 3
#: A value replaces another only for at least this much of score, so that ties keep the default.
_GAIN = 1e-5
#: A start this far behind what is found already is not descended from.
_HOPELESS = 0.25
#: What the other metrics weigh beside the one that ranks: where that cannot tell two settings
#: apart, they do, so that a partition is not given away for a gain within noise.
_TIE_BREAK = 0.05


class Evaluation:
    """Scores of images under one setting, each computed once.

    Parameters
    ----------
    decode : callable
        Must survive being sent to another process.
    truths : sequence of N integer ndarray, shape (H, W), or (A, H, W) of several annotators
    pixels : int
        How many pixels are worked on, which says whether several processes pay.
    cheap : mapping of str to Param, optional
        Parameters that cost next to nothing where all others stay: their settings are decoded one
        after the other, image by image, so that `decode` may keep what they share.
    metrics : sequence of str
        What is scored by.
    """

    def __init__(
        self,
        decode: Decode,
        truths: Sequence[np.ndarray],
        pixels: int,
        cheap: Mapping[str, Param] | None = None,
        metrics: Sequence[str] = METRICS,
    ) -> None:
        self._decode, self._truths, self._cheap = decode, truths, cheap or {}
        self._known: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._pixels, self._metrics = pixels / max(1, len(truths)), metrics

    def __call__(self, params: Params, images: np.ndarray | None = None) -> np.ndarray:
        """Return the metrics of every image, shape (N, len(metrics)), where `images`, bool (N,).

        The others are NaN, or known from before.
        """
        values = itertools.product(*(param.values for param in self._cheap.values()))
        settings = [dict(params) | dict(zip(self._cheap, each, strict=True)) for each in values]
        shape = (len(self._truths), len(settings), len(self._metrics))
        begun = np.zeros(len(self._truths), bool), np.full(shape, np.nan)
        dear = tuple(value for name, value in params.items() if name not in self._cheap)
        there, rows = self._known.setdefault(dear, begun)
        lacking = np.flatnonzero(~there if images is None else images & ~there).tolist()
        work = ((self._decode, i, self._truths[i], settings, self._metrics) for i in lacking)
        found = in_order(_scores, work, round(self._pixels * len(lacking)))
        for index, scores in zip(lacking, found, strict=True):
            rows[index], there[index] = scores, True
        return rows[:, settings.index(dict(params))]


def _scores(
    decode: Decode,
    index: int,
    truth: np.ndarray,
    settings: Sequence[dict[str, Any]],
    metrics: Sequence[str],
) -> list[list[float]]:
    found = (image_scores(truth, decode(index, params), metrics) for params in settings)
    return [list(scores.values()) for scores in found]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """What came of tuning.

    Attributes
    ----------
    params, tuned, fold_params
        As of `compkit.ensemble.decoder.Decoder`.
    metrics : tuple of str
        What is scored by.
    honest, default : ndarray of float64, shape (N, len(metrics))
        Scores of every image with what the other folds settled for, and with the defaults.
    groups : ndarray of shape (N,), or None
        Which images say much the same; intervals are of whole groups.
    """

    params: dict[str, Any]
    tuned: bool
    fold_params: dict[str, dict[str, Any]]
    metrics: tuple[str, ...]
    honest: np.ndarray
    default: np.ndarray
    groups: np.ndarray | None

    @property
    def kept(self) -> np.ndarray:
        """The scores expected of `params`, float64 (N, len(metrics))."""
        return self.honest if self.tuned else self.default

    def record(self, ranking: str, names: Sequence[str]) -> dict[str, Any]:
        """Return what files keep: see `compkit.ensemble.decoder.Decoder`.

        Parameters
        ----------
        ranking : str
            The metric that it was tuned for.
        names : sequence of N str
            The images.
        """
        return {
            "ranking": ranking,
            "params": self.params,
            "tuned": self.tuned,
            "fold_params": self.fold_params,
            "scores": self._means(self.kept),
            "intervals": {
                name: known(interval(self.kept[:, i], self.groups))
                for i, name in enumerate(self.metrics)
            },
            "tuned_scores": self._means(self.honest),
            "default_scores": self._means(self.default),
            "images": len(self.kept),
            "image_names": list(names),
            "image_scores": dict(zip(self.metrics, self.kept.T.tolist(), strict=True)),
            "image_groups": None if self.groups is None else [str(one) for one in self.groups],
        }

    def _means(self, rows: np.ndarray) -> dict[str, float]:
        return dict(zip(self.metrics, mean(rows, axis=0).tolist(), strict=True))


def written(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `CrossFit.record` does as JSON can hold it, which has no NaN."""
    scores = record["image_scores"].items()
    return {**record, "image_scores": {name: [known(one) for one in row] for name, row in scores}}


def cross_fit(
    space: Mapping[str, Param],
    evaluate: Callable[[Params, np.ndarray], np.ndarray],
    folds: np.ndarray,
    ranking: str,
    label: str,
    starts: Sequence[Params] = ({},),
    groups: np.ndarray | None = None,
    told: Sequence[str] = (),
    most: int | None = None,
) -> CrossFit:
    """Tune parameters, and score every fold with those tuned on the others.

    Parameters
    ----------
    space : mapping of str to Param
    evaluate : callable
        From one setting and images, bool (N,), to their metrics, shape (N, M): those `beside` what
        ranks and what is told.
    folds : ndarray of int64, shape (N,)
        The fold of every image, from 0.
    ranking : str
        The metric that ranks.
    label : str
        What the progress is called.
    starts : sequence of mapping
        As of `descend`.
    groups : ndarray of shape (N,), optional
        The group of every image, as of `compkit.metrics.bootstrap.interval`.
    told : sequence of str
        Metrics that are measured, too, and tuned by in nothing.
    most : int
        How many images are tuned on at most, evenly of each fold; all are scored. None takes all.
    """
    metrics, used = beside(ranking, *told), len(beside(ranking))
    column = metrics.index(ranking)
    honest = np.zeros((len(folds), len(metrics)))
    numbers = sorted(set(folds.tolist()))
    steps = _ROUNDS * len(space) * len(starts)
    by_fold, everywhere, seen = {}, folds >= 0, _evenly(folds, most)
    if most is not None and most < len(folds):
        say(f"{label}: on {most} of {len(folds)} images, evenly of each fold; all are scored")
    with task(label, steps * (len(numbers) + 1)) as progress:

        def tuned_on(chosen: np.ndarray) -> dict[str, Any]:
            of_these = chosen & seen

            def score(params: Params) -> np.ndarray:
                return objective(evaluate(params, seen)[of_these, :used], column)

            of = None if groups is None else groups[of_these]
            return descend(space, score, starts, progress.advance, of)

        for fold in numbers:
            inside = folds == fold
            by_fold[str(fold)] = tuned_on(~inside)
            honest[inside] = evaluate(by_fold[str(fold)], inside)[inside]
        params = tuned_on(everywhere)
    defaults = defaults_of(space)
    default = evaluate(defaults, everywhere)
    tuned = bool(
        mean(objective(honest[:, :used], column) - objective(default[:, :used], column)) > 0
    )
    return CrossFit(
        params=params if tuned else defaults,
        tuned=tuned,
        fold_params=by_fold if tuned else dict.fromkeys(by_fold, defaults),
        metrics=metrics,
        honest=honest,
        default=default,
        groups=groups,
    )


def _evenly(folds: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most `most` images, bool (N,), evenly of each fold."""
    by_fold, seen = np.argsort(folds, kind="stable"), np.zeros(len(folds), bool)
    places = np.linspace(0, len(folds) - 1, min(most or len(folds), len(folds))).round().astype(int)
    seen[by_fold[places]] = True
    return seen


def objective(rows: np.ndarray, column: int) -> np.ndarray:
    """Return every image's score: the metric that ranks, plus a little of the others."""
    return rows[:, column] + _TIE_BREAK * mean(np.delete(rows, column, axis=1), axis=1)


def descend(
    space: Mapping[str, Param],
    score: Score,
    starts: Sequence[Params] = ({},),
    visited: Callable[[int], object] = lambda _: None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Move one parameter at a time to its best value, where that helps beyond chance.

    `score` gives one value an image. A gain must exceed its standard error over groups of images:
    of the many settings that are equally good, the one nearest the defaults carries over best.
    Where all images are of one group nothing is beyond chance, so nothing moves.

    Parameters
    ----------
    starts : sequence of mapping
        Where to start from, each as what differs from the defaults: more than one where the best
        of all else depends on a parameter. One that is hopeless is left out.
    visited : callable
        Called with the number of parameters that were visited since, each once a pass.
    groups : ndarray of shape (N,), optional
        The group of each image that is scored; without it, each is a group of its own.
    """

    def gains(new: dict[str, Any], old: dict[str, Any]) -> bool:
        difference = score(new) - score(old)
        gain = mean(difference)
        return bool(gain > _GAIN and gain > standard_error(difference, groups))

    def path(params: dict[str, Any]) -> dict[str, Any]:
        for _, (name, param) in itertools.product(range(_ROUNDS), space.items()):
            tried = [params | {name: value} for value in param.values]
            best = max(tried, key=lambda each: mean(score(each)))
            params = best if gains(best, params) else params
            visited(1)
        return params

    first, *others = (defaults_of(space) | dict(start) for start in starts)
    params = path(first)
    for begun in others:
        if mean(score(begun)) > mean(score(params)) - _HOPELESS:
            other = path(begun)
            params = other if gains(other, params) else params
        else:
            visited(_ROUNDS * len(space))
    return params
