"""Tune a decoder on out-of-fold maps, and estimate honestly what it will score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from compkit.ensemble.decoder import Decoder
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.heads.base import Head
from compkit.metrics.bootstrap import interval
from compkit.metrics.rand import METRICS, rand_scores
from compkit.parallel import jobs_for
from compkit.progress import task
from compkit.run import Run

#: Passes over the parameters; the third hardly ever moves one.
_ROUNDS = 3
#: A value replaces another only for at least this much of score, so that ties keep the default.
_GAIN = 1e-5
#: A start this far behind what is found already is not descended from.
_HOPELESS = 0.25
#: What the other metrics weigh beside the one that ranks: where that cannot tell two settings
#: apart, they do, so that a partition is not given away for a gain within noise.
_TIE_BREAK = 0.05


def calibrate(mixture: Mixture, ranking: str | None = None) -> Decoder:
    """Tune the decoder of an ensemble on its out-of-fold maps.

    Parameters
    ----------
    mixture : Mixture
    ranking : str, optional
        Tune for this metric instead of the runs' own.
    """
    store, run = mixture.store, mixture.members[0].run
    indices = [store.train.index(image) for image in mixture.images]
    truths = [store.labels_of(index) for index in indices]
    with tempfile.NamedTemporaryFile(suffix=".maps") as file:
        # On disk: memory must not grow with the number of images, nor processes copy them.
        shape = (len(truths), len(mixture.head.maps), mixture.side, mixture.side)
        for image in mixture.images:
            file.write(mixture.out_of_fold(image).astype(np.float16).tobytes())
        file.flush()
        maps = np.memmap(file.name, np.float16, mode="r", shape=shape)
        evaluate = _Evaluation(mixture.head, maps, truths)
        folds = run.folds.fold[indices]
        return _tune(mixture.head, evaluate, folds, ranking or run.ranking, mixture.images)


def calibrate_run(run: Run) -> Decoder:
    """Tune the decoder of a whole run, and save it beside the run."""
    decoder = calibrate(Mixture(members_of([run])))
    decoder.save(run.directory / "decoder.json")
    return decoder


class _Evaluation:
    """Scores of all images under one setting of the decoder, each computed once."""

    def __init__(self, head: Head, maps: np.ndarray, truths: Sequence[np.ndarray]) -> None:
        self._head, self._maps, self._truths = head, maps, truths
        self._known: dict[tuple[Any, ...], np.ndarray] = {}
        self._jobs = jobs_for(maps.size)

    def __call__(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return the metrics of every image, shape (N, len(METRICS))."""
        key = tuple(params.values())
        if key not in self._known:
            pairs = zip(self._maps, self._truths, strict=True)
            rows = Parallel(n_jobs=self._jobs)(
                delayed(_scores)(self._head, np.asarray(maps), truth, dict(params))
                for maps, truth in pairs
            )
            self._known[key] = np.array(rows)
        return self._known[key]


def _scores(head: Head, maps: np.ndarray, truth: np.ndarray, params: dict[str, Any]) -> list[float]:
    scores = rand_scores(truth, head.decode(maps.astype(np.float32), params, truth.shape))
    return [scores[name] for name in METRICS]


def _tune(
    head: Head, evaluate: _Evaluation, folds: np.ndarray, ranking: str, names: Sequence[str]
) -> Decoder:
    column = METRICS.index(ranking)
    honest = np.zeros((len(folds), len(METRICS)))

    def score(chosen: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
        return objective(evaluate(params)[chosen], column)

    numbers = sorted(set(folds.tolist()))
    by_fold = {}
    with task("tuning the decoder", len(numbers) + 1) as progress:
        for fold in numbers:
            inside = folds == fold
            chosen = descend(head, partial(score, ~inside))
            by_fold[str(fold)] = chosen
            honest[inside] = evaluate(chosen)[inside]
            progress.advance()
        params = descend(head, partial(score, folds >= 0))
        progress.advance()
    default = evaluate(head.defaults)
    tuned = bool((objective(honest, column) - objective(default, column)).mean() > 0)
    kept = honest if tuned else default
    return Decoder(
        head=head.name,
        ranking=ranking,
        params=params if tuned else head.defaults,
        tuned=tuned,
        fold_params=by_fold if tuned else dict.fromkeys(by_fold, head.defaults),
        scores=_named(kept),
        intervals={name: interval(kept[:, i]) for i, name in enumerate(METRICS)},
        tuned_scores=_named(honest),
        default_scores=_named(default),
        images=len(folds),
        image_names=list(names),
        image_scores=dict(zip(METRICS, kept.T.tolist(), strict=True)),
    )


def objective(rows: np.ndarray, column: int) -> np.ndarray:
    """Return every image's score: the metric that ranks, plus a little of the others."""
    return rows[:, column] + _TIE_BREAK * np.delete(rows, column, axis=1).mean(axis=1)


def descend(head: Head, score: Callable[[dict[str, Any]], np.ndarray]) -> dict[str, Any]:
    """Move one parameter at a time to its best value, where that helps beyond chance.

    `score` gives one value an image. A gain must exceed its standard error over images: of the
    many settings that are equally good, the one nearest the defaults carries over best. As the
    best of all others depends on whether the image is filled, both are started from, unless one
    is hopeless.
    """
    params = _descended(head, score, head.defaults)
    filled = head.defaults | {"fill": True}
    if score(filled).mean() > score(params).mean() - _HOPELESS:
        other = _descended(head, score, filled)
        params = other if _gains(score(other) - score(params)) else params
    return params


def _descended(
    head: Head, score: Callable[[dict[str, Any]], np.ndarray], params: dict[str, Any]
) -> dict[str, Any]:
    for _ in range(_ROUNDS):
        before = params
        for name, param in head.space.items():
            tried = [params | {name: value} for value in param.values]
            candidate = max(tried, key=lambda each: score(each).mean())
            if _gains(score(candidate) - score(params)):
                params = candidate
        if params == before:
            break
    return params


def _gains(difference: np.ndarray) -> bool:
    """Tell whether differences, one an image, are a gain beyond chance."""
    return bool(difference.mean() > max(_GAIN, difference.std() / len(difference) ** 0.5))


def _named(rows: np.ndarray) -> dict[str, float]:
    return dict(zip(METRICS, rows.mean(axis=0).tolist(), strict=True))
