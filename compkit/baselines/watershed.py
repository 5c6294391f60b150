"""The challenge organisers' baseline: a marker-controlled watershed of the image, and tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from scipy import ndimage as ndi
from skimage import segmentation
from skimage.filters import rank, sobel
from skimage.morphology import disk

from compkit.crossfit import CrossFit, Evaluation, cross_fit, written
from compkit.data.store import Store
from compkit.display import print_line, print_scores
from compkit.errors import CompkitError
from compkit.folds import make_folds
from compkit.intervals import resampling, shown
from compkit.metrics.bootstrap import interval, mean
from compkit.metrics.named import beside
from compkit.parameters import Param
from compkit.pixels import as_grey

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

#: A setting costs about as much as decoding so many networks' maps, and so pays for processes.
PASSES = 40


@dataclass(frozen=True)
class WatershedParams:
    """Settings of `watershed`; the defaults are the organisers'.

    Attributes
    ----------
    background_below : int
        A pixel is background where the smoothed image, in grey levels, is below this; 0 leaves
        none.
    median_radius : int
        Radius in pixels of the disk over which the image is smoothed before markers are sought.
    gradient_radius : int
        Radius in pixels of the disk over which the local gradient is taken.
    gradient_below : int
        Markers are the connected areas whose local gradient, in grey levels, is below this.
    compactness : float
        Of the watershed; higher makes basins more evenly sized.
    """

    background_below: int = 0
    median_radius: int = 2
    gradient_radius: int = 5
    gradient_below: int = 20
    compactness: float = 1e-4


def watershed(image: np.ndarray, params: WatershedParams = WatershedParams()) -> np.ndarray:
    """Cut a grey image into basins.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
    params : WatershedParams

    Returns
    -------
    ndarray of int32, shape (H, W)
        Basins 1, 2, …, which cover all but the background; all 0 where there is no marker. There
        may be more than 255 of them: see `compkit.regions.keep_largest`.
    """
    smooth = smoothed(image, params.median_radius)
    return np.where(smooth < params.background_below, 0, basins(image, smooth, params))


def smoothed(image: np.ndarray, radius: int) -> np.ndarray:
    """Return the median of an image, uint8 (H, W), over a disk."""
    return rank.median(np.array(image), disk(radius))  # it wants a writable image; a store's is not


def basins(image: np.ndarray, smooth: np.ndarray, params: WatershedParams) -> np.ndarray:
    """Return the basins of an image, int32 (H, W), before any is background.

    Parameters
    ----------
    image, smooth : ndarray of uint8, shape (H, W)
        The image, and the same as `smoothed` by the parameters' radius.
    """
    # The same as skimage's rank.gradient, in a hundredth of the time.
    gradient = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, disk(params.gradient_radius))
    markers, _ = ndi.label(gradient < params.gradient_below)
    return segmentation.watershed(sobel(image), markers, compactness=params.compactness)


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
    different = len(set(store.digests(store.labelled)))
    if different < 2:
        raise CompkitError(
            "a single image is labelled, or copies of one, so none is left to judge what is tuned "
            "on it: label another one, or leave out --tune"
        )
    ranking, told = store.competition.rules.ranking, store.competition.rules.metrics
    split = make_folds(store, min(_FOLDS, different))
    folds, groups = split.fold[store.labelled], split.group[store.labelled]
    rows = store.labelled
    truths, pixels = [store.truth_of(row) for row in rows.tolist()], len(rows) * store.size**2
    cheap = {"background_below": SPACE["background_below"]}
    evaluate = Evaluation(
        partial(_decoded, store, rows), truths, PASSES * pixels, cheap, beside(ranking, *told)
    )
    most = max(_FOLDS, PIXELS // store.size**2)
    fit = cross_fit(
        SPACE, evaluate, folds, ranking, "tuning the watershed", groups=groups, told=told, most=most
    )
    _show(fit, ranking, store.competition.rules.told(), split.doubts())
    names = [store.train[row] for row in rows]
    return WatershedParams(**fit.params), written(fit.record(ranking, names))


def _decoded(store: Store, rows: np.ndarray, index: int, params: dict[str, Any]) -> np.ndarray:
    """Return what `watershed` does for the image of row `index`."""
    settings = WatershedParams(**params)
    smooth, labels = _cut(store, int(rows[index]), replace(settings, background_below=0))
    return np.where(smooth < settings.background_below, 0, labels)


@lru_cache(maxsize=1)  # what is background changes nothing else, and is tried image by image
def _cut(store: Store, row: int, settings: WatershedParams) -> tuple[np.ndarray, np.ndarray]:
    image = as_grey(store.images[row])
    smooth = smoothed(image, settings.median_radius)
    return smooth, basins(image, smooth, settings)


def _show(fit: CrossFit, ranking: str, told: Sequence[str], doubts: Sequence[str]) -> None:
    columns = [fit.metrics.index(name) for name in told]
    rows = [
        [
            name,
            *(
                f"{mean(one):.3f} ({shown(interval(one, fit.groups), '.3f')})"
                for one in scores.T[columns]
            ),
        ]
        for name, scores in (("organisers' parameters", fit.default), ("tuned", fit.honest))
    ]
    images = len(fit.kept)
    over = resampling(images, fit.groups)
    title = f"watershed, out of fold, mean over {images} labelled images (95 %: {over})"
    print_scores(title, ["", *told], rows, told, doubts)
    if fit.tuned:
        texts = (f"{name} {value:g}" for name, value in fit.params.items())
        print_line(f"tuned for {ranking}: {', '.join(texts)}")
    else:
        print_line(f"tuning does not raise {ranking} out of fold: the organisers' parameters stay")
