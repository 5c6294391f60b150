"""The organisers' watershed with parameters that are tuned on the labelled training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compkit.baselines.watershed import (
    WatershedParams,
    basins,
    smoothed,
    without_background,
)
from compkit.crossfit import CrossFit, Evaluation, cross_fit, written
from compkit.data.store import Store
from compkit.display import print_line, print_scores
from compkit.errors import CompkitError
from compkit.files import scratch
from compkit.folds import make_folds
from compkit.folds.duplicates import count_different
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval, mean
from compkit.metrics.named import beside
from compkit.parallel import each_image
from compkit.parameters import Param
from compkit.progress import say

#: What is tried. The default comes first, and is the organisers'. What decides most is tuned first.
SPACE: Mapping[str, Param] = {
    "background_below": Param((0, *range(10, 170, 10))),
    "median_radius": Param((2, 1, 3)),
    "gradient_radius": Param((5, 1, 2, 3, 4)),
    "gradient_below": Param((20, 5, 10, 15, 30)),
    "compactness": Param((1e-4, 0.0, 1e-3, 1e-2)),
}

#: As many pixels are tuned on at most, 64 images of 512², for the sake of time.
PIXELS = 64 * 512**2

#: Folds of near-duplicates; fewer where there are not as many labelled images.
_FOLDS = 5

#: A setting costs about as much as so many of a network's decoder, and so pays for processes.
_PASSES = 40


class CachedWatershed:
    """The watershed of images that are smoothed already, one setting after another.

    Parameters
    ----------
    images : ndarray of uint8, shape (M, H, W)
    rows : ndarray of int64, shape (N,)
        Which of the images are meant.
    smooth : ndarray of uint8, shape (R, N, H, W)
        They, smoothed by each radius of `SPACE`, in its order.
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray, smooth: np.ndarray) -> None:
        self._images, self._rows, self._smooth = images, rows, smooth
        self._key: tuple[Any, ...] = ()
        self._basins = np.zeros((0, 0), np.int32)

    def __call__(self, index: int, params: dict[str, Any]) -> np.ndarray:
        """Return what `watershed` returns for the image of row `index`, int32 (H, W).

        The last basins are kept: which of their pixels are background changes nothing else.
        """
        settings = WatershedParams(**params)
        radius = SPACE["median_radius"].values.index(settings.median_radius)
        smooth = np.asarray(self._smooth[radius, index])
        key = (index, replace(settings, background_below=0))
        if key != self._key:
            image = np.asarray(self._images[self._rows[index]])
            self._basins, self._key = basins(image, smooth, settings), key
        return without_background(self._basins, smooth, settings)


def tune_watershed(store: Store) -> tuple[WatershedParams, dict[str, Any]]:
    """Tune the watershed for the metric that ranks, and print what that buys out of fold.

    Returns
    -------
    params : WatershedParams
        Tuned on all labelled images, or on as many as there is time for, which is said; the
        organisers' if tuning does not help on folds that it did not see.
    record : dict
        What a manifest keeps of it: `compkit.crossfit.CrossFit.record`.

    Raises
    ------
    CompkitError
        If fewer than two images are labelled.
    """
    store.require_labels()
    count, different = len(store.labelled), count_different(store)
    if different < 2:
        raise CompkitError(
            "a single image is labelled, or copies of one, so none is left to judge what is tuned "
            "on it: label another one, or leave out --tune"
        )
    ranking = store.competition.rules.ranking
    split = make_folds(store, min(_FOLDS, different))
    folds, groups = split.fold[store.labelled], split.group[store.labelled]
    chosen = _chosen(folds, max(_FOLDS, PIXELS // store.size**2))
    if len(chosen) < count:
        say(f"tuning on {len(chosen)} of {count} labelled images, as many of each fold, for time")
    fit = _fitted(store, chosen, folds[chosen], groups[chosen], ranking)
    _show(fit, ranking, split.doubts())
    images = [store.train[index] for index in store.labelled[chosen]]
    return WatershedParams(**fit.params), written(fit.record(ranking, images))


def _chosen(folds: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` places in `folds`, ascending, evenly of each fold."""
    by_fold = np.argsort(folds, kind="stable")
    count = min(most, len(folds))
    return np.sort(by_fold[np.linspace(0, len(folds) - 1, count).round().astype(int)])


def _fitted(
    store: Store, chosen: np.ndarray, folds: np.ndarray, groups: np.ndarray, ranking: str
) -> CrossFit:
    rows, radii = store.labelled[chosen], SPACE["median_radius"].values
    shape = (len(radii), len(rows), store.size, store.size)
    with scratch("smooth") as folder, (folder / "smooth").open("wb") as file:
        # On disk: memory must not grow with the number of images, nor processes copy them.
        work = ((np.asarray(store.images[row]), radius) for radius in radii for row in rows)
        count = len(radii) * len(rows)
        for smooth in each_image(smoothed, work, "smoothing", count, count * store.size**2):
            file.write(smooth.tobytes())
        file.flush()
        decode = CachedWatershed(
            store.images, rows, np.memmap(file.name, np.uint8, mode="r", shape=shape)
        )
        truths = [store.labels[row] for row in chosen]
        cheap = {"background_below": SPACE["background_below"]}
        pixels = _PASSES * len(rows) * store.size**2
        evaluate = Evaluation(decode, truths, pixels, cheap, beside(ranking))
        label = "tuning the watershed"
        return cross_fit(SPACE, evaluate, folds, ranking, label, groups=groups)


def _show(fit: CrossFit, ranking: str, doubts: Sequence[str]) -> None:
    rows = [
        [name, *(_with_interval(one, fit.groups) for one in scores.T)]
        for name, scores in (("organisers' parameters", fit.default), ("tuned", fit.honest))
    ]
    images = len(fit.kept)
    over = resampling(images, fit.groups)
    title = f"watershed, out of fold, mean over {images} labelled images (95 %: {over})"
    print_scores(title, ["", *fit.metrics], rows, fit.metrics, doubts)
    if fit.tuned:
        texts = (f"{name} {value:g}" for name, value in fit.params.items())
        print_line(f"tuned for {ranking}: {', '.join(texts)}")
    else:
        print_line(f"tuning does not raise {ranking} out of fold: the organisers' parameters stay")


def _with_interval(values: np.ndarray, groups: np.ndarray | None) -> str:
    return f"{mean(values):.3f} ({shown(interval(values, groups), '.3f')})"
