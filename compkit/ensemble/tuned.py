"""Tune a decoder on out-of-fold maps, and estimate honestly what it will score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compkit.crossfit import Evaluation, cross_fit
from compkit.ensemble.decoder import Decoder, read_decoder
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.files import scratch
from compkit.heads.base import Head
from compkit.metrics.named import beside, image_score
from compkit.metrics.rand import METRICS
from compkit.parallel import each_image
from compkit.parameters import Param, Params
from compkit.progress import say
from compkit.run import Run

#: An image that is filled, or not: the other parameters settle differently for each.
STARTS: tuple[Params, ...] = ({}, {"fill": True})


def tune_decoder(mixture: Mixture, ranking: str | None = None) -> Decoder:
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
    with scratch("maps") as folder, (folder / "maps").open("wb") as file:
        # On disk: memory must not grow with the number of images, nor processes copy them.
        shape = (len(truths), len(mixture.head.maps), mixture.side, mixture.side)
        for image in mixture.images:
            file.write(mixture.out_of_fold(image).astype(np.float16).tobytes())
        file.flush()
        maps = np.memmap(file.name, np.float16, mode="r", shape=shape)
        ranking, head = ranking or run.ranking, mixture.head.name
        evaluate = _Evaluation(mixture.head, maps, truths, beside(ranking))
        folds, groups = run.folds.fold[indices], run.folds.group[indices]
        names = [member.name for member in mixture.members]
        label = f"tuning the decoder of {names[0] if len(names) == 1 else f'{len(names)} members'}"
        decoder = _tune(
            head, mixture.head.space, evaluate, folds, ranking, mixture.images, groups, label
        )
        return replace(decoder, maps=mixture.fingerprint)


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
        If what lies there is damaged, or absent though it must exist.
    """
    if must_exist or path.is_file():
        decoder = read_decoder(path, mixture)
        if decoder.maps == mixture.fingerprint:
            return decoder
        say(f"{path} was tuned on other out-of-fold maps: tuning anew")
    decoder = tune_decoder(mixture)
    decoder.save(path)
    return decoder


def tune_run(run: Run) -> Decoder:
    """Tune the decoder of a whole run, and save it beside the run."""
    decoder = tune_decoder(Mixture(members_of([run])))
    decoder.save(run.directory / "decoder.json")
    return decoder


def default_scores(mixture: Mixture, images: Sequence[str]) -> np.ndarray:
    """Return the score of each image, float64 (N,), decoded with the head's default parameters."""
    store, metric = mixture.store, mixture.members[0].run.ranking
    work = (
        (mixture.head, mixture.out_of_fold(i), store.labels_of(store.train.index(i)), metric)
        for i in images
    )
    members = [member.name for member in mixture.members]
    label = f"scoring {members[0] if len(members) == 1 else f'a mean of {len(members)}'}"
    pixels = len(images) * len(mixture.head.maps) * mixture.side**2
    return np.array(list(each_image(_score, work, label, len(images), pixels)))


def _score(head: Head, maps: np.ndarray, truth: np.ndarray, metric: str) -> float:
    regions = head.decode(maps, head.defaults, truth.shape)
    return image_score(truth, regions, metric)


class _Evaluation(Evaluation):
    """Scores of all images under one setting of a head's decoder."""

    def __init__(
        self,
        head: Head,
        maps: np.ndarray,
        truths: Sequence[np.ndarray],
        metrics: Sequence[str] = METRICS,
    ) -> None:
        decode = partial(_decoded, head, maps, truths[0].shape)  # all images are of one size
        super().__init__(decode, truths, maps.size, metrics=metrics)


def _decoded(
    head: Head,
    maps: np.ndarray,
    shape: tuple[int, int],
    index: int,
    params: dict[str, Any],
) -> np.ndarray:
    return head.decode(np.asarray(maps[index]).astype(np.float32), params, shape)


def _tune(
    name: str,
    space: Mapping[str, Param],
    evaluate: _Evaluation,
    folds: np.ndarray,
    ranking: str,
    images: Sequence[str],
    groups: np.ndarray | None = None,
    label: str = "tuning the decoder",
) -> Decoder:
    fit = cross_fit(space, evaluate, folds, ranking, label, STARTS, groups)
    return Decoder(head=name, **fit.record(ranking, images))
