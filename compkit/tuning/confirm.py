"""After a search: its best trials and the base configuration, trained alike and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from compkit.config import RunConfig
from compkit.display import print_scores
from compkit.ensemble.decoder import Decoder
from compkit.intervals import resampling, shown
from compkit.tuning.gains import BASE
from compkit.tuning.runs import Runs, fold_scores
from compkit.tuning.settings import configured
from compkit.tuning.study import ranked


def compare_with_base(study: optuna.Study, base: RunConfig, runs: Runs) -> None:
    """Train the base configuration as a trial is; the study's attribute `baseline` tells of it.

    Nothing is left to train where a trial had its settings. The attributes `image_groups`, the
    group of each image, and `doubts`, why scores are too high, are the same in all trials.
    """
    if {"baseline", "doubts"} <= study.user_attrs.keys():
        return
    decoder = runs.evaluated({BASE: base})[BASE]
    with runs.owned(base) as run:
        mean = float(np.mean(fold_scores(run, decoder)))
        study.set_user_attr("doubts", run.folds.doubts())
    scores = decoder.image_scores[decoder.ranking]
    study.set_user_attr("image_groups", decoder.image_groups)
    study.set_user_attr("baseline", {BASE: {"mean": mean, "image_scores": scores}})


def confirm(study: optuna.Study, base: RunConfig, runs: Runs, count: int) -> RunConfig:
    """Return the best settings, judged by another seed if any trials are trained with one.

    They are the base configuration where no trial has a higher score. That is trained with the
    seed, too, and both on the hold-out if there is one: the study's attribute `confirmed` tells
    how they compare (see `confirmations`).

    Parameters
    ----------
    count : int
        How many of the best trials are trained again.
    """
    trials = ranked(study)[: max(count, 1)]
    configs = [configured(base, trial.user_attrs["settings"]) for trial in trials]
    if not count and runs.hold_out is None:
        study.set_user_attr("confirmed", [])
        ahead = (trials[0].value or 0.0) > study.user_attrs["baseline"][BASE]["mean"]
        return configs[0] if ahead else base
    trained = [*configs, base]
    if count:
        trained = [replace(config, seed=base.seed + 1) for config in trained]
    names = [*(f"trial {trial.number}" for trial in trials), BASE]
    again = {f"{name} again": config for name, config in zip(names, trained, strict=True)}
    decoders = list(runs.evaluated(again).values())
    scores = [decoder.image_scores[decoder.ranking] for decoder in decoders]
    best, confirmed = 0, []
    if count:
        searched = [trial.user_attrs["image_scores"] for trial in trials]
        searched.append(study.user_attrs["baseline"][BASE]["image_scores"])
        _print_again(names, searched, decoders, study.user_attrs.get("doubts", []))
        best = int(np.argmax(np.mean(scores[:-1], axis=1)))
        of, groups = len(trials), decoders[best].image_groups
        confirmed.append(_compared(trials[best], of, None, scores[best], scores[-1], groups))
    if runs.hold_out is not None:
        (won, groups), (held, _) = (
            runs.held_out(trained[i], decoders[i], names[i]) for i in (best, -1)
        )
        confirmed.append(
            _compared(trials[best], 1, runs.hold_out, won.tolist(), held.tolist(), groups)
        )
    study.set_user_attr("confirmed", confirmed)
    return configs[best] if np.mean(scores[best]) > np.mean(scores[-1]) else base


def _compared(
    trial: FrozenTrial,
    of: int,
    fold: int | None,
    best: list[float],
    base: list[float],
    groups: list[str] | None,
) -> dict[str, Any]:
    about = {"trial": trial.number, "of": of, "fold": fold}
    return about | {"best": best, "base": base, "groups": groups}


def _print_again(
    names: Sequence[str],
    searched: Sequence[Sequence[float]],
    decoders: Sequence[Decoder],
    doubts: Sequence[str],
) -> None:
    rows = []
    for name, before, decoder in zip(names, searched, decoders, strict=True):
        again = f"{decoder.scores[decoder.ranking]:.4f}"
        rows.append([name, f"{np.mean(before):.4f}", again, shown(decoder.interval)])
    columns = ["settings", "in the search", "with another seed", "95 %"]
    over = resampling(decoders[0].images, decoders[0].image_groups)
    title = f"the best, trained again: these scores are no maximum of many; 95 %: {over}"
    print_scores(title, columns, rows, columns[1:3], doubts)
