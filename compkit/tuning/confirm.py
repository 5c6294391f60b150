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

_BASE = "the base configuration again"


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
    configs = {_name(one): configured(base, one.user_attrs["settings"]) for one in compared}
    trained = {n: replace(one, seed=base.seed + bool(count)) for n, one in configs.items()}
    decoders = runs.evaluated(trained)
    scores = {name: one.image_scores[one.ranking] for name, one in decoders.items()}
    chosen = max(trials, key=lambda trial: np.mean(scores[_name(trial)]))
    best, confirmed = _name(chosen), []
    if count:
        told = {"of": len(trials), "fold": None, "groups": decoders[best].image_groups}
        confirmed.append(told | {"best": scores[best], "base": scores.get(_BASE)})
    if runs.hold_out is not None:
        names = [name for name in (best, _BASE) if name in trained]
        held = {name: runs.held_out(trained[name], decoders[name], name) for name in names}
        told = {"of": 1, "fold": runs.hold_out, "groups": held[best][1]}
        theirs = {name: values.tolist() for name, (values, _) in held.items()}
        confirmed.append(told | {"best": theirs[best], "base": theirs.get(_BASE)})
    study.set_user_attr("confirmed", [{"trial": chosen.number} | one for one in confirmed])
    beaten = _BASE in scores and np.mean(scores[best]) <= np.mean(scores[_BASE])
    return base if beaten else configs[best]


def _name(trial: FrozenTrial) -> str:
    return _BASE if is_base(trial) else f"trial {trial.number} again"
