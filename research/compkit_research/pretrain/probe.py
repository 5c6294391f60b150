"""A linear probe: what an encoder's features tell of regions, before any of them is trained on.

Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes",
arXiv 1610.01644.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from compkit.config import RunConfig
from compkit.data.dataset import as_seen
from compkit.data.store import Store
from compkit.folds import Folds
from compkit.machine import autocast, device_of
from compkit.models.network import padded
from compkit.resample import shrunk_labels
from compkit_research.pretrain.module import feature_maps

#: Cells along a side that a map must have to be probed: fewer tell little of where regions are.
_CELLS = 8

#: Cells in all: more would take minutes of wide features, and hardly change the figures.
_MOST = 8192

#: Inverse strength of the regularisation: wide features of few cells are separable by chance.
_C = 0.01


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier tells labelled regions from background, cell by cell.

    Attributes
    ----------
    auc : float
        Area under the ROC curve of cells whose images the classifier was not trained on, as a mean
        over folds; 0.5 is chance.
    accuracy : float
        Share of right cells.
    majority : float
        Share of the more frequent class: the accuracy of always saying it.
    cells : int
        How many cells were asked.
    """

    auc: float
    accuracy: float
    majority: float
    cells: int


def probe_encoder(
    encoder: nn.Module, stride: int, store: Store, folds: Folds, config: RunConfig
) -> Probe | None:
    """Probe a network's frozen encoder on the labelled images, cross-validated on their folds.

    The map is the deepest of at least 8×8 cells, else the deepest of the finest; the target is
    whether at least half of a cell is labelled region.

    Parameters
    ----------
    encoder : Module
        That of a network.
    stride : int
        Of that network.

    Returns
    -------
    Probe or None
        None if some folds leave cells of one kind alone.
    """
    encoder = encoder.to(device_of(config.machine)).eval()
    labelled = np.flatnonzero(folds.fold >= 0)
    each = max(1, _MOST // len(labelled))
    rng = np.random.default_rng(config.seed)
    features, targets, fold = [], [], []
    images = as_seen((store.images[int(i)] for i in labelled), config)
    for index, image in zip(labelled, images, strict=True):
        labels = shrunk_labels(np.asarray(store.labels_of(int(index))), image.shape)
        found, target = _cells(encoder, stride, image, labels, config)
        kept = rng.permutation(len(target))[:each]
        features.append(found[kept])
        targets.append(target[kept])
        fold.append(np.full(len(kept), folds.fold[index]))
    return cross_validated(*map(np.concatenate, (features, targets, fold)))


def cross_validated(features: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> Probe | None:
    """Score a logistic regression by folds.

    Parameters
    ----------
    features : ndarray of float32, shape (N, C)
    targets : ndarray of bool, shape (N,)
    fold : ndarray of int64, shape (N,)
        The rows of a fold are told by a classifier that was trained on the other folds.

    Returns
    -------
    Probe or None
        None if some folds leave rows of one kind alone.
    """
    told, areas, sizes = np.zeros(len(targets)), [], []
    for held_out in np.unique(fold):
        here, rest = fold == held_out, fold != held_out
        if len(np.unique(targets[rest])) < 2:
            return None
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=1000))
        classifier.fit(features[rest], targets[rest])
        told[here] = classifier.predict_proba(features[here])[:, 1]
        # Fold by fold: probabilities of classifiers that saw other shares of regions are on other
        # scales, and pooled would be compared across them.
        if len(np.unique(targets[here])) == 2:
            areas.append(roc_auc_score(targets[here], told[here]))
            sizes.append(here.sum())
    if not areas:
        return None
    share = float(targets.mean())
    return Probe(
        auc=float(np.average(areas, weights=sizes)),
        accuracy=float(accuracy_score(targets, told >= 0.5)),
        majority=max(share, 1 - share),
        cells=len(targets),
    )


@torch.no_grad()
def _cells(
    encoder: nn.Module, stride: int, image: np.ndarray, labels: np.ndarray, config: RunConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 (cells, C), and targets, bool (cells,), of one image."""
    grey = torch.from_numpy(image.astype(np.float32) / 255)[None, None]
    images, _ = padded(stride, grey.to(device_of(config.machine)))
    with autocast(config.machine):
        chosen = probed(feature_maps(encoder, images))[0].float().cpu()
    cell = images.shape[-1] // chosen.shape[-1]
    kept = len(labels) // cell  # the others hold padding
    region = torch.from_numpy((labels > 0).astype(np.float32))[None]
    target = avg_pool2d(region, cell)[0] >= 0.5
    features = chosen[:, :kept, :kept].flatten(1).T
    return features.numpy(), target.flatten().numpy()


def probed(maps: list[Tensor]) -> Tensor:
    """Return the map to probe of an encoder's, the finest first: the deepest of enough cells."""
    enough = [m for m in maps if min(m.shape[-2:]) >= _CELLS]
    finest = max(m.shape[-1] for m in maps)
    return (enough or [m for m in maps if m.shape[-1] == finest])[-1]
