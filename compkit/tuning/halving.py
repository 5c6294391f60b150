"""Successive halving: most settings are trained for little, the best of them for more."""

from __future__ import annotations

from dataclasses import replace

import optuna
from optuna.trial import TrialState

from compkit.config import RunConfig
from compkit.tuning.study import ranked, told

#: Of so many trials of a rung, one goes up to the next, which does so many times the work.
REDUCTION = 3

#: Images at least this large are made smaller in lower rungs: to a multiple, not below the last.
_LARGE, _MULTIPLE, _SMALLEST = 256, 32, 64


def reduced(config: RunConfig, times: int, side: int) -> RunConfig:
    """Return a configuration that takes about so many times less work to train.

    Where the network is shown whole images of 256 pixels a side or more, half of that (in the
    logarithm) comes from smaller images, as work goes with their area; the rest, and elsewhere
    all of it, from fewer epochs, one at least. The warm-up keeps its share of the steps.

    Parameters
    ----------
    side : int
        Of the data's images, in pixels; `input.size` comes before it.
    """
    if times == 1:
        return config
    t, shown, rest = config.training, config.input, float(times)
    side = shown.size or side
    if side >= _LARGE and shown.crop is None and config.inference.tile is None:
        size = max(_SMALLEST, _MULTIPLE * round(side / times**0.25 / _MULTIPLE))
        shown, rest = replace(shown, size=size), times * (size / side) ** 2
    steps = max(1, round(t.steps / t.steps_per_epoch / rest)) * t.steps_per_epoch
    training = replace(t, steps=steps, warmup=round(t.warmup * steps / t.steps))
    return replace(config, input=shown, training=training)


def promote(lower: optuna.Study, upper: optuna.Study, rest: bool = False) -> bool:
    """Put one of the best third of a rung in line in the next, if there is one to promote.

    A pruned trial counts among those that were tried. Trials are promoted as soon as they can be,
    without waiting for a rung to fill: L. Li et al. (2020), "A system for massively parallel
    hyperparameter tuning" (ASHA).

    Parameters
    ----------
    rest : bool
        Promote the best that is left, though it be of no third.
    """
    promoted = {t.user_attrs.get("promoted") for t in upper.get_trials(deepcopy=False)}
    best = ranked(lower)
    tried = lower.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    count = len(best) if rest else len({t.user_attrs["run"] for t in tried}) // REDUCTION
    for trial in best[:count]:
        if trial.number not in promoted:
            told(upper, trial.params, promoted=trial.number)
            return True
    return False
