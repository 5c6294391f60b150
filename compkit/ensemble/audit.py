"""What each TTA view is worth, on out-of-fold images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from compkit.config import AugmentConfig
from compkit.display import print_scores
from compkit.ensemble.calibrate import tuned_decoder
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.files import scratch
from compkit.inference.members import member_predictor
from compkit.inference.tta import Scale, View, parse_view
from compkit.intervals import resampling, shown
from compkit.machine import autocast
from compkit.metrics.bootstrap import interval, mean
from compkit.metrics.named import image_score
from compkit.progress import say, task
from compkit.run import Run, open_run

PLAIN = "identity"

#: What is looked at beside the plain image.
VIEWS = ("hflip", "vflip", "rot90", "rot180", "rot270", "scale0.8", "scale1.25")


def audit(name: str, views: Sequence[str] = VIEWS, data: str | None = None) -> None:
    """Print what each view scores alone, what it adds to the plain image, and to all others.

    Encoders are averaged. Every image is predicted by networks that did not see it and decoded
    with parameters tuned on other folds. Views that training never saw the like of are named.

    Raises
    ------
    CompkitError
        If the run is unfinished, or a view is unknown.
    """
    run = open_run(name, data)
    decoder = tuned_decoder(Mixture(members_of([run])), run.directory / "decoder.json")
    chosen = [PLAIN, *dict.fromkeys(view for view in views if view != PLAIN)]
    parsed = [parse_view(view) for view in chosen]
    groups = run.folds.group[run.store.labelled]
    with scratch("views") as folder:
        maps = _predicted(run, chosen, folder)
        score = _Scores(run, decoder.fold_params, maps)
        every = range(len(chosen))
        with task("decoding", 3 * len(chosen)) as progress:
            rows = []
            for i, view in enumerate(chosen):
                alone, pair = score([i]), score(sorted({0, i}))
                others = [j for j in every if j != i]
                added = score(every) - score(others) if others else alone * 0
                gains = [_gain(pair - score([0]), groups), _gain(added, groups)]
                known = "yes" if seen(parsed[i], run.config.augment) else "NO"
                rows.append([view, f"{mean(alone):.4f}", *gains, known])
                progress.advance(3)
        mark = "*" * bool(doubts := run.folds.doubts())
        total = f"{mean(score(every)):.4f}{mark}, {PLAIN} {mean(score([0])):.4f}{mark}"
    columns = ["view", "alone", f"gain over {PLAIN}", "gain over all others", "seen in training"]
    over = f"95 %: {resampling(len(groups), groups)}"
    title = f"{name}: out-of-fold {run.ranking}; all together {total}; {over}"
    print_scores(title, columns, rows, ("alone",), doubts)
    if unseen := [row[0] for row in rows if row[-1] == "NO"]:
        say(f"training never saw the like of {', '.join(unseen)}: such a view may cost more than "
            "it brings; see the settings augment.* of the run")  # fmt: skip


class _Scores:
    """Scores of every image, float64 (N,), under the mean of some views; each set once."""

    def __init__(
        self, run: Run, params: dict[str, dict[str, object]], maps: Sequence[np.ndarray]
    ) -> None:
        self._run, self._maps, self._head = run, maps, run.head()
        self._params = [params[str(fold)] for fold in run.folds.fold[run.store.labelled]]
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, views: Sequence[int]) -> np.ndarray:
        key = tuple(views)
        if key not in self._known:
            self._known[key] = np.array([self._one(i, key) for i in range(len(self._params))])
        return self._known[key]

    def _one(self, number: int, views: Sequence[int]) -> float:
        truth = self._run.store.labels_of(int(self._run.store.labelled[number]))
        maps = np.stack([self._maps[view][number] for view in views]).mean(axis=0)
        regions = self._head.decode(maps, self._params[number], truth.shape)
        return image_score(truth, regions, self._run.ranking)


def _predicted(run: Run, views: Sequence[str], folder: Path) -> Sequence[np.ndarray]:
    """Return each view's out-of-fold maps of the labelled images, float32 (N, M, h, w), on disk."""
    store, head = run.store, run.head()
    place = {int(index): number for number, index in enumerate(store.labelled)}
    shape = (len(place), len(head.maps), run.side, run.side)
    maps = [
        np.lib.format.open_memmap(folder / f"{number}.npy", "w+", np.float32, shape)
        for number in range(len(views))
    ]
    with task("predicting", len(place) * len(run.config.encoders)) as progress:
        for encoder, fold in run.parts():
            predictor = member_predictor(run, encoder, fold, views)
            for chosen in _batches(run, fold):
                images = np.stack([store.images[i] for i in chosen])
                rows = [place[int(i)] for i in chosen]
                with autocast(run.config.machine):
                    for values, seen_so in zip(maps, predictor.by_view(images), strict=True):
                        values[rows] += seen_so.cpu().numpy() / len(run.config.encoders)
                progress.advance(len(chosen))
    return maps


def _batches(run: Run, fold: int) -> list[np.ndarray]:
    valid, batch = run.folds.valid_indices(fold), run.config.inference.batch
    return [valid[start : start + batch] for start in range(0, len(valid), batch)]


def _gain(values: np.ndarray, groups: np.ndarray) -> str:
    return f"{mean(values):+.4f} ({shown(interval(values, groups), '+.4f')})"


def seen(view: View, augment: AugmentConfig) -> bool:
    """Tell whether augmentation shows images as the view does, but for small rotations."""
    matrices = [np.eye(2, dtype=int)]
    generators = [
        parse_view(name).matrix
        for name, share in (
            ("hflip", augment.hflip), ("vflip", augment.vflip), ("rot90", augment.rot90),
        )
        if share
    ]  # fmt: skip
    for _ in range(4):  # the group of flips and turns has eight elements, at most four steps away
        made = [a @ b for a, b in product(matrices, generators)]
        matrices = [np.array(m) for m in {tuple(map(tuple, m)) for m in [*matrices, *made]}]
    scales = [t.factor for t in view.transforms if isinstance(t, Scale)]
    largest = augment.scale if augment.affine_p else 0.0
    within = all(abs(factor - 1) <= largest + 1e-9 for factor in scales)
    return within and any(np.array_equal(view.matrix, m) for m in matrices)
