"""Tune a decoder on out-of-fold maps, and estimate honestly what it will score."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from compkit.ensemble.mean import common_head, mean_maps, out_of_fold
from compkit.errors import CompkitError
from compkit.files import read_json, write_json
from compkit.heads.base import Head
from compkit.metrics.bootstrap import interval
from compkit.metrics.rand import METRICS, rand_scores
from compkit.progress import task
from compkit.run import Run

#: Passes over the parameters; the third hardly ever moves one.
_ROUNDS = 3
#: A value replaces another only for at least this much of score, so ties keep the default.
_GAIN = 1e-5
#: Pixels of maps from which several processes pay for their start.
_PARALLEL = 20_000_000


@dataclass(frozen=True)
class Decoder:
    """Tuned decoder parameters, and out-of-fold scores.

    Attributes
    ----------
    head : str
        Whose parameters they are.
    params : dict
        For the test: tuned on all out-of-fold maps, or the head's defaults (see `tuned`).
    tuned : bool
        Whether tuning helps on folds that it did not see; if not, the defaults are kept.
    scores : dict of str to float
        Mean of each metric, as expected of `params`: the better of the next two.
    interval : tuple of float
        95 % bootstrap interval, over images, of the metric that ranks.
    tuned_scores : dict of str to float
        The means when every fold is decoded with parameters tuned on the *other* folds: no image's
        score comes from parameters that saw its labels.
    default_scores : dict of str to float
        The means with the head's default parameters.
    images : int
        Number of images.
    """

    head: str
    params: dict[str, Any]
    tuned: bool
    scores: dict[str, float]
    interval: tuple[float, float]
    tuned_scores: dict[str, float]
    default_scores: dict[str, float]
    images: int

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))


def read_decoder(path: Path) -> Decoder:
    """Read what `Decoder.save` wrote; its absence is an error, never a default.

    Raises
    ------
    CompkitError
        If it is absent or damaged.
    """
    if not path.is_file():
        raise CompkitError(f"there is no tuned decoder {path}: run train.py on this run again")
    try:
        return Decoder(**read_json(path))
    except TypeError as error:
        raise CompkitError(
            f"{path} is damaged ({error}): delete it and run train.py again"
        ) from None


def calibrate(runs: Sequence[Run], encoder: str | None = None) -> Decoder:
    """Tune the decoder of the mean of all members on their out-of-fold maps.

    Parameters
    ----------
    runs : sequence of Run
        Finished runs with one head on the same data.
    encoder : str, optional
        Take the members of this encoder alone.
    """
    store = runs[0].store
    covered = out_of_fold(runs, encoder)
    head = common_head(runs)
    grid = max(run.side for run in runs)
    truths = [store.labels_of(int(i)) for i in store.labelled]
    folds = runs[0].folds.fold[store.labelled]
    with tempfile.NamedTemporaryFile(suffix=".maps") as file:
        # On disk: memory must not grow with the number of images, nor processes copy them.
        shape = (len(truths), len(head.maps), grid, grid)
        for image, members in covered.items():
            file.write(mean_maps(members, image).astype(np.float16).tobytes())
        file.flush()
        maps = np.memmap(file.name, np.float16, mode="r", shape=shape)
        evaluate = _Evaluation(head, maps, truths)
        return _tune(head, evaluate, folds, store.competition.rules.ranking)


class _Evaluation:
    """Scores of all images under one setting of the decoder, each computed once."""

    def __init__(self, head: Head, maps: np.ndarray, truths: Sequence[np.ndarray]) -> None:
        self._head, self._maps, self._truths = head, maps, truths
        self._known: dict[tuple[Any, ...], np.ndarray] = {}
        self._jobs = (os.cpu_count() or 1) if maps.size >= _PARALLEL else 1

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


def _tune(head: Head, evaluate: _Evaluation, folds: np.ndarray, ranking: str) -> Decoder:
    column = METRICS.index(ranking)
    honest = np.zeros((len(folds), len(METRICS)))
    numbers = sorted(set(folds.tolist()))
    with task("tuning the decoder", len(numbers) + 1) as progress:
        for fold in numbers:
            inside = folds == fold
            params = _descend(head, partial(_mean, evaluate, ~inside, column))
            honest[inside] = evaluate(params)[inside]
            progress.advance()
        params = _descend(head, partial(_mean, evaluate, folds >= 0, column))
        progress.advance()
    default = evaluate(head.defaults)
    tuned = bool(honest[:, column].mean() > default[:, column].mean())
    kept = honest if tuned else default
    return Decoder(
        head=head.name,
        params=params if tuned else head.defaults,
        tuned=tuned,
        scores=_named(kept),
        interval=interval(kept[:, column]),
        tuned_scores=_named(honest),
        default_scores=_named(default),
        images=len(folds),
    )


def _mean(
    evaluate: _Evaluation, chosen: np.ndarray, column: int, params: Mapping[str, Any]
) -> float:
    return float(evaluate(params)[chosen, column].mean())


def _descend(head: Head, score: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """Improve one parameter at a time over its values until none moves."""
    params, best = head.defaults, score(head.defaults)
    for _ in range(_ROUNDS):
        before = params
        for name, param in head.space.items():
            for value in param.values:
                candidate = params | {name: value}
                if (reached := score(candidate)) > best + _GAIN:
                    params, best = candidate, reached
        if params == before:
            break
    return params


def _named(rows: np.ndarray) -> dict[str, float]:
    return dict(zip(METRICS, rows.mean(axis=0).tolist(), strict=True))
