"""How to tune a decoder: coordinate descent, as compkit does it, or Optuna's samplers.

    python benchmarks/tuning.py --run NAME [--trials 60]

Every fold of the run is decoded with parameters tuned on the other folds. Inside is what the tuning
saw, outside the folds that it did not see; both are the objective: the metric that ranks and a
little of the others. Settings is how many different ones were decoded in all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import optuna

from compkit.crossfit import descend, objective
from compkit.display import print_table
from compkit.ensemble.decoder import STARTS
from compkit.ensemble.mixture import Mixture, members_of
from compkit.heads.base import Head
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
from compkit.run import open_run

Score = Callable[[dict[str, Any]], np.ndarray]
Method = Callable[[Score], dict[str, Any]]


def main() -> None:
    """Tune with each method and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", required=True)
    parser.add_argument("--trials", type=int, default=60, help="Optuna's, for each tuning")
    parser.add_argument("--seeds", type=int, default=2, help="of Optuna's samplers")
    a = parser.parse_args()
    run = open_run(a.run)
    mixture = Mixture(members_of([run]))
    head, store = mixture.head, run.store
    maps = [mixture.out_of_fold(image) for image in mixture.images]
    truths = [store.labels_of(int(i)) for i in store.labelled]
    folds = run.folds.fold[store.labelled]
    column = METRICS.index(run.ranking)

    def rows(params: dict[str, Any]) -> np.ndarray:
        pairs = zip(maps, truths, strict=True)
        scores = [image_scores(t, head.decode(m, params, t.shape)) for m, t in pairs]
        return np.array([[one[metric] for metric in METRICS] for one in scores])

    methods: dict[str, Method] = {
        "defaults": lambda score: head.defaults,
        "coordinate descent": lambda score: descend(head.space, score, STARTS),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for seed in range(a.seeds):
        for name, sampler in (
            ("TPE", optuna.samplers.TPESampler(seed=seed)),
            ("random", optuna.samplers.RandomSampler(seed=seed)),
        ):
            methods[f"{name}, seed {seed}"] = partial(_optuna, head, sampler, a.trials)
    table = [[name, *_compare(method, rows, folds, column)] for name, method in methods.items()]
    print_table(f"{a.run}: {head.name}", ["method", "inside", "outside", "settings"], table)


def _compare(method: Method, rows: Score, folds: np.ndarray, column: int) -> list[str]:
    known: dict[str, np.ndarray] = {}

    def images(chosen: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        key = repr(sorted(params.items()))
        if key not in known:
            known[key] = rows(params)
        return objective(known[key][chosen], column)

    inside, outside = [], np.zeros(len(folds))
    for fold in np.unique(folds):
        params = method(partial(images, folds != fold))
        inside.append(images(folds != fold, params).mean())
        outside[folds == fold] = images(folds == fold, params)
    return [f"{np.mean(inside):.4f}", f"{outside.mean():.4f}", str(len(known))]


def _optuna(
    head: Head, sampler: optuna.samplers.BaseSampler, trials: int, score: Score
) -> dict[str, Any]:
    def value(trial: optuna.Trial) -> float:
        params = {
            name: trial.suggest_categorical(name, sorted(param.values))
            if param.low is None
            else trial.suggest_float(name, min(param.values), max(param.values))
            for name, param in head.space.items()
        }
        return float(score(params).mean())

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(head.defaults)
    study.optimize(value, n_trials=trials)
    return study.best_params


if __name__ == "__main__":
    main()
