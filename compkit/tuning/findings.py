"""What a search for settings found: from an Optuna study to sentences and a table."""

from __future__ import annotations

from collections import Counter

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from compkit.display import print_line, print_scores
from compkit.intervals import resampling, shown
from compkit.leaderboard.estimates import selection_optimism
from compkit.metrics.bootstrap import Groups, group_numbers, interval, standard_error
from compkit.tuning.space import label
from compkit.tuning.trial import is_base, ranked

#: Below this p-value something is beyond chance.
LEVEL = 0.05

#: An effect of a parameter is not looked for among fewer trials.
_ENOUGH = 12

#: Differences below this are rounding.
_EQUAL = 1e-9

#: Settings whose effect is told, and what they are called.
_CURVES = {"loss.kappa": "κ", "loss.adaptive_lambda": "λ (adaptive κ = λ · Dice)"}


def sentences(study: optuna.Study) -> list[str]:
    """Return what was done, what is best, how sure that is, and whether κ mattered.

    Parameters
    ----------
    study : Study
        Maximised. Complete trials carry image_scores, fold_scores, seconds, run and settings,
        failed ones error.
    """
    about, trials = study.user_attrs, ranked(study)
    said = [_effort(study)]
    hold_out = about.get("made_of", {}).get("hold-out")
    if hold_out is not None:
        said.append(f"Fold {hold_out} took no part, so its images are new to the best.")
    if not trials:
        return [*said, "No trial is complete, so nothing can be said of settings yet."]
    scores, groups = _scores(trials), about.get("image_groups")
    value, others = trials[0].value or 0.0, len(trials) - 1
    best = f"Best is trial {trials[0].number}: {_told(value, scores[0], groups)}"
    if others:
        tied = (chance_of_best(scores, 0, groups)[1:] >= LEVEL).sum()
        best += f"; {tied} of the {others} others cannot be told apart from it"
    said.append(f"{best}.")
    optimism = selection_optimism(scores, groups)
    if optimism > 0:
        said.append(
            f"Being the best of {len(trials)}, it is too good by about {optimism:.4f}: expect "
            f"{value - optimism:.4f} on new images."
        )
    return [*said, _ahead(trials, scores, groups), *_curves(study)]


def confirmed(study: optuna.Study) -> list[str]:
    """Return what is known of the chosen trial beyond the search (see `job.confirm`)."""
    said = []
    for one in study.user_attrs.get("confirmed", []):
        where = "Trained again with another seed"
        if one["fold"] is not None:
            where = f"On fold {one['fold']}, by which nothing was chosen"
        picked = f", the best of {one['of']}," if one["of"] > 1 else ""
        best, groups = np.array(one["best"]), one["groups"]
        against = ""
        if one["base"] is not None:
            base = np.array(one["base"])
            gain = _gain(best - base, groups)
            against = f" and the base configuration {base.mean():.4f}: {gain}"
        told = _told(best.mean(), best, groups)
        said.append(f"{where}, trial {one['trial']}{picked} scores {told}{against}.")
    return said


def best_trials(study: optuna.Study, count: int) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a table of the best trials, and of the base configuration.

    ≈ marks those tied with the best. What is the same in all complete trials is left out.
    """
    trials, groups = ranked(study), study.user_attrs.get("image_groups")
    scores = _scores(trials)
    p = chance_of_best(scores, 0, groups)
    names = varying(trials)
    rows = [
        [
            f"{trial.number}{' (base)' if is_base(trial) else ''}"
            + (" ≈" if number and p[number] >= LEVEL else ""),
            f"{trial.value:.4f}",
            shown(interval(scores[number], groups), ".3f"),
            f"{(trials[0].value or 0) - (trial.value or 0):.4f}",
            p_text(p[number]) if number else "",
            f"{trial.user_attrs['seconds'] / 60:.0f}",
            *(_cell(trial, name) for name in names),
        ]
        for number, trial in enumerate(trials)
        if number < count or is_base(trial)
    ]
    return [*_COLUMNS, *names], rows


_COLUMNS = ["trial", "score", "95 %", "behind", "p", "minutes"]


def print_findings(study: optuna.Study) -> None:
    """Print the sentences and the first ten trials, without their settings."""
    for sentence in sentences(study):
        print_line(sentence)
    if ranked(study):
        _, rows = best_trials(study, 10)
        rows = [row[: len(_COLUMNS)] for row in rows]
        title = f"the best of {study.study_name} (≈ the best within chance)"
        doubts = study.user_attrs.get("doubts", [])
        print_scores(title, _COLUMNS, rows, ("score",), doubts)


def varying(trials: list[FrozenTrial]) -> list[str]:
    """Return the parameters that are not the same in all trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [n for n in names if len({repr(trial.params.get(n)) for trial in trials}) > 1]


def chance_of_best(scores: np.ndarray, best: int, groups: Groups = None) -> np.ndarray:
    """Return how well each trial's lag behind the best one fits with being no worse than it.

    Parameters
    ----------
    scores : ndarray of float, shape (K, N)
        Of K trials on the same N images.
    best : int
        The trial of the highest mean.
    groups : sequence of N, optional
        The group of each image, as of `compkit.metrics.bootstrap.interval`.

    Returns
    -------
    ndarray of float, shape (K,)
        Corrected p-values. The trials above 0.05 hold the truly best one in 95 % of studies. They
        are 1 where all images are of one group.

    Notes
    -----
    One-sided paired t-tests, times K − 1: which trial is the best was picked by its score, and the
    truly best one is left out only if one of the K − 1 others beats it by chance. This is the union
    bound in place of Dunnett's quantile in D. G. Edwards and J. C. Hsu (1983), "Multiple
    comparisons with the best treatment"; Holm's steps need a control that was fixed beforehand. The
    standard error is robust to images of one group being alike, with G − 1 degrees of freedom for G
    groups: A. C. Cameron and D. L. Miller (2015), "A practitioner's guide to cluster-robust
    inference".
    """
    count, images = scores.shape
    independent = len(np.unique(group_numbers(groups, images)))
    if independent < 2 or count < 2:
        return np.ones(count)
    lag = scores[best] - scores
    error = standard_error(lag, groups)
    certain = np.where(lag.mean(axis=1) > _EQUAL, np.inf, 0.0)
    t = np.divide(lag.mean(axis=1), error, out=certain, where=error > _EQUAL)
    return np.minimum(1, stats.t.sf(t, independent - 1) * (count - 1))


def effect(name: str, x: np.ndarray, score: np.ndarray) -> str:
    """Say whether scores depend on x: rising, falling or with an optimum in between.

    The first two are told by Spearman's correlation, the last by the test of Kruskal and Wallis
    over bins of at least four trials; each is held to half the level.
    """
    count = len(x)
    if count < _ENOUGH:
        return f"Too few trials to tell whether {name} mattered: {count}, of {_ENOUGH} needed."
    inner = np.linspace(0, 1, min(6, count // 4) + 1)[1:-1]
    bins = np.searchsorted(np.unique(np.quantile(x, inner, method="higher")), x, side="right")
    parts = [(x[bins == one], score[bins == one]) for one in np.unique(bins)]
    if len(parts) < 2:
        return f"{name} hardly varied over its {count} trials, so nothing can be said of it."
    if np.ptp(score) < _EQUAL:
        return f"{name} did not matter: all its {count} trials score the same."
    rank, p_rank = stats.spearmanr(x, score)
    p_bins = stats.kruskal(*(scores for _, scores in parts)).pvalue
    tests = (
        f"Spearman's correlation {rank:+.2f}, p {p_text(p_rank)}; equal means, p {p_text(p_bins)}"
    )
    if min(p_rank, p_bins) >= LEVEL / 2:
        return f"No effect of {name} beyond chance over {count} trials ({tests})."
    values, scores = max(parts, key=lambda part: part[1].mean())
    where = f"{values.min():.3g}" + (f"–{values.max():.3g}" if np.ptp(values) else "")
    best = f"best at {where}, mean {scores.mean():.3f}"
    return f"{name} mattered, over {count} trials: {best} ({tests})."


def p_text(value: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _scores(trials: list[FrozenTrial]) -> np.ndarray:
    return np.array([trial.user_attrs["image_scores"] for trial in trials], dtype=float)


def _effort(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state.name.lower().replace("fail", "failed") for trial in trials)
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    each = ", ".join(f"{number} {state}" for state, number in states.items())
    metric = study.user_attrs.get("made_of", {}).get("metric", "score")
    spent = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
    return f"{len(trials)} trials for {metric} in {spent} of work: {each or 'none'}."


def _ahead(trials: list[FrozenTrial], scores: np.ndarray, groups: Groups) -> str:
    """Say how far the best is ahead of the base configuration."""
    base = next((n for n, trial in enumerate(trials) if is_base(trial)), None)
    if base is None:
        return "The base configuration was not completed, so the best is not compared with it."
    if base == 0:
        return "That is the base configuration: no trial scores higher."
    gain = _gain(scores[0] - scores[base], groups)
    against = f"Against the base configuration ({trials[base].value:.4f}): {gain}"
    return f"{against}, part of which is the luck of being picked."


def _told(mean: float, scores: np.ndarray, groups: Groups) -> str:
    over = resampling(len(scores), groups)
    return f"{mean:.4f} (95 % {shown(interval(scores, groups), '.3f')}, {over})"


def _gain(difference: np.ndarray, groups: Groups) -> str:
    ends = shown(interval(difference, groups), "+.4f")
    return f"a gain of {difference.mean():+.4f} (95 % {ends}, paired)"


def _curves(study: optuna.Study) -> list[str]:
    said = []
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for name, symbol in _CURVES.items():
        having = [trial for trial in complete if name in trial.params]
        if having:
            x = np.array([trial.params[name] for trial in having], dtype=float)
            said.append(effect(symbol, x, np.array([trial.value for trial in having])))
    return said


def _cell(trial: FrozenTrial, name: str) -> str:
    value = trial.params.get(name, "")
    return f"{value:.3g}" if isinstance(value, float) else str(label(value))
