"""After a search: its best trials and the base configuration, trained again and compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from compkit.config import RunConfig
from compkit.tuning.runs import Runs
from compkit.tuning.space import configured
from compkit.tuning.trial import is_base, ranked


def confirm(study: optuna.Study, base: RunConfig, runs: Runs, count: int) -> RunConfig:
    """Return the best settings, judged by another seed if any trials are trained with one.

    They are the base configuration where no trial has a higher score. That is trained with the
    seed, too, and both on the hold-out if there is one. The study's attribute ``confirmed`` tells
    how they compare: a list of mappings with the number of the trial (``trial``), the number of
    those that it is the best of by this very score (``of``), the hold-out or null (``fold``), the
    scores of all images (``best``; ``base``, null where the base was not completed) and the groups
    of the images (``groups``).

    Parameters
    ----------
    count : int
        How many of the best trials are trained again.
    """
    complete = ranked(study)
    trials = [trial for trial in complete if not is_base(trial)][: max(count, 1)]
    study.set_user_attr("confirmed", [])
    if not trials or (not count and runs.hold_out is None):
        return configured(base, complete[0].user_attrs["settings"])
    # The base comes last; one that was not completed is left out.
    compared = trials + [trial for trial in complete if is_base(trial)]
    configs = [configured(base, trial.user_attrs["settings"]) for trial in compared]
    trained = [replace(one, seed=base.seed + 1) for one in configs] if count else configs
    names = [_name(trial) for trial in compared]
    again = {f"{name} again": config for name, config in zip(names, trained, strict=True)}
    decoders = list(runs.evaluated(again).values())
    scores = [decoder.image_scores[decoder.ranking] for decoder in decoders]
    best, has_base = int(np.argmax(np.mean(scores[: len(trials)], axis=1))), is_base(compared[-1])
    about = {"trial": trials[best].number, "of": len(trials), "fold": None}
    confirmed = []
    if count:
        theirs = {"best": scores[best], "base": scores[-1] if has_base else None}
        confirmed.append(about | theirs | {"groups": decoders[best].image_groups})
    if runs.hold_out is not None:
        held = [
            runs.held_out(trained[i], decoders[i], names[i]) for i in (best, -1)[: 1 + has_base]
        ]
        theirs = {"best": held[0][0].tolist(), "base": held[1][0].tolist() if has_base else None}
        confirmed.append(about | {"of": 1, "fold": runs.hold_out} | theirs | {"groups": held[0][1]})
    study.set_user_attr("confirmed", confirmed)
    beaten = has_base and np.mean(scores[best]) <= np.mean(scores[-1])
    return base if beaten else configs[best]


def _name(trial: FrozenTrial) -> str:
    return "the base configuration" if is_base(trial) else f"trial {trial.number}"
