"""What a study found, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compkit.intervals import shown
from compkit.tuning.evidence import LEVEL
from compkit.tuning.findings import CURVES, Findings
from compkit.tuning.gains import Confirmation
from compkit.tuning.halving import REDUCTION


def sentences(findings: Findings, lower: Sequence[Findings] = ()) -> list[str]:
    """Return the summary: what was done, what is best, how sure that is, and what mattered.

    Parameters
    ----------
    lower : sequence of Findings
        Of lower rungs, the lowest first; what mattered is told from that.
    """
    said = [_effort(findings), *_climb(lower)]
    if findings.hold_out is not None:
        said.append(f"Fold {findings.hold_out} took no part, so its images are new to the best.")
    if not len(findings.trials):
        return [*said, "No trial is complete, so nothing can be said of settings yet."]
    said += [_best(findings), *_selection(findings), *_ahead(findings)]
    most = lower[0] if lower else findings
    said += _important(most)
    said += [most.curves[name].verdict() for name in CURVES if _occurs(most, name)]
    return said


def confirmed(found: Sequence[Confirmation]) -> list[str]:
    """Return what is known of the chosen trial beyond the search."""
    said = []
    for one in found:
        where = "Trained again with another seed"
        if one.fold is not None:
            where = f"On fold {one.fold}, by which nothing was chosen"
        picked = f", the best of {one.of}," if one.of > 1 else ""
        gain = one.gain
        said.append(
            f"{where}, trial {one.trial}{picked} scores {one.mean:.4f} (95 % "
            f"{shown((one.low, one.high), '.3f')}, {one.over}) and {gain.name} {gain.mean:.4f}: a "
            f"gain of {gain.gain:+.4f} (95 % {shown((gain.low, gain.high), '+.4f')}, paired)."
        )
    return said


def curve_sentence(findings: Findings, name: str) -> str:
    """Say whether one parameter of `CURVES` mattered, and what is not in that."""
    pruned = findings.pruned_with[name]
    lost = f" Not counting {pruned} pruned {_trials(pruned)} that had it." if pruned else ""
    return findings.curves[name].sentence() + lost


def _occurs(findings: Findings, name: str) -> bool:
    return bool(len(findings.curves[name].trials) or findings.pruned_with[name])


def _effort(findings: Findings) -> str:
    return _spent(findings, f"for {findings.metric}")


def _climb(lower: Sequence[Findings]) -> list[str]:
    """Say what lower rungs took, and which of them is the source of what follows."""
    said = []
    for rung, findings in enumerate(lower):
        share = f"at about 1/{REDUCTION ** (len(lower) - rung)} of the work each"
        said.append(f"Before, in rung {rung}: " + _spent(findings, share))
    if lower:
        said.append("Rung 0 has the most trials: what mattered is told from it.")
    return said


def _spent(findings: Findings, what: str) -> str:
    states = findings.states[findings.states["count"] > 0]
    total = int(states["count"].sum())
    each = ", ".join(
        f"{one['count']:.0f} {state} ({_hours(one['seconds'])})" for state, one in states.iterrows()
    )
    spent = f": {each}" if total else ""
    return f"{total} {_trials(total)} {what}{spent}."


def _best(findings: Findings) -> str:
    first, tied = findings.trials.iloc[0], int(findings.trials["tied"].sum()) - 1
    others = len(findings.trials) - 1
    rest = f"; {tied} of the {others} others cannot be told apart from it" if others else ""
    return (
        f"Best is trial {findings.trials.index[0]}: {first['value']:.4f} over {findings.images} "
        f"images (95 % {shown((first['low'], first['high']), '.3f')}, {findings.over}){rest}."
    )


def _selection(findings: Findings) -> list[str]:
    count = len(findings.trials)
    if count < 2 or np.isnan(findings.optimism):
        return []
    expected = findings.trials["value"].iloc[0] - findings.optimism
    return [
        f"Being the best of {count}, it is too good by about {findings.optimism:.4f}: expect "
        f"{expected:.4f} on new images."
    ]


def _ahead(findings: Findings) -> list[str]:
    said = []
    picked = ", that optimism included" if len(findings.trials) > 1 else ""
    for one in findings.baselines:
        known = not np.isnan(one.low)
        ends = f" (95 % {shown((one.low, one.high), '+.4f')}, paired)" if known else ""
        said.append(f"Against {one.name} ({one.mean:.4f}) it gains {one.gain:+.4f}{ends}{picked}.")
    return said


def _important(findings: Findings) -> list[str]:
    table = findings.importances
    if not len(table):
        return []
    beyond = list(table.index[table["p"] < LEVEL])
    if not beyond:
        return ["No parameter sets the best trials apart from the others tried, beyond chance."]
    return [f"What sets the best trials apart, beyond chance: {', '.join(beyond)}."]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _trials(count: int) -> str:
    return "trial" if count == 1 else "trials"
