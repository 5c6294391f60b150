"""Conditions of parameters on choices: in an order of asking, and only what can be asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from compkit.errors import CompkitError, nearest
from compkit.tuning.parameter import Fixed, Label, Number, Parameter, shown
from compkit.tuning.settings import located


def resolved(
    parameters: Mapping[str, Parameter],
    own: Collection[str],
    left_out: Collection[str],
    files: Mapping[str, str],
) -> tuple[Parameter, ...]:
    """Return parameters in an order of asking, without those that are never asked.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        By name.
    own : collection of str
        Names of those whose conditions must hold for some trial; others are left out where they
        depend on what is.
    left_out : collection of str
        Names of parameters that a file left out.
    files : mapping of str to str
        The file of each parameter.

    Raises
    ------
    CompkitError
        If conditions go round, or are about something that is no choice here.
    """
    kept: list[Parameter] = []
    for name in _ordered(parameters, files):
        with located(files[name], name):
            if name in own:
                _check_conditions(parameters[name], parameters, left_out)
            parameter = _asked(parameters[name], _by_subject(kept))
        if parameter is not None:
            kept.append(parameter)
    return tuple(kept)


def _by_subject(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Return parameters by what conditions may be about."""
    return {subject: p for p in parameters for subject in p.subjects}


def _ordered(parameters: Mapping[str, Parameter], files: Mapping[str, str]) -> list[str]:
    """Return names in the file's order, but each after those that its condition is about."""
    ordered, by_subject = dict[str, None](), _by_subject(parameters.values())

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            way = " → ".join([*trail[trail.index(name) :], name])
            with located(files[name], name):
                raise CompkitError(f"its `when` depends on itself ({way}): leave one `when` out")
        for other in parameters[name].when:
            if other in by_subject:
                visit(by_subject[other].name, (*trail, name))
        ordered.setdefault(name)

    for name in parameters:
        visit(name, ())
    return list(ordered)


def _check_conditions(
    parameter: Parameter, parameters: Mapping[str, Parameter], left_out: Collection[str]
) -> None:
    by_subject = _by_subject(parameters.values())
    for other, values in parameter.when.items():
        range_ = isinstance(parameters.get(other), Number)
        if other not in by_subject and range_:
            raise CompkitError(
                f"`when` names {other!r}, which is a range: name a choice, or {other}.on"
            )
        if other not in by_subject:
            near = nearest(other, by_subject)
            gone = {other, other.removesuffix(".on")} & set(left_out)
            fault = "this file leaves out" if gone else f"there is not{near}"
            raise CompkitError(f"`when` names {other!r}, which {fault}: name a choice")
        if not isinstance(by_subject[other], Fixed):
            _check_values(other, by_subject[other].subjects[other], values)


def _check_values(other: str, labels: tuple[Label, ...], values: tuple[Label, ...]) -> None:
    known = [shown(label) for label in labels]
    for value in values:
        if value not in labels:
            raise CompkitError(
                f"`when` wants {shown(value)!r} of {other}"
                f"{nearest(shown(value), known)}: take some of {', '.join(known)}"
            )


def _asked(parameter: Parameter, kept: Mapping[str, Parameter]) -> Parameter | None:
    """Return a parameter without conditions that always hold; None where one never does."""
    when: dict[str, tuple[Label, ...]] = {}
    for other, values in parameter.when.items():
        parent = kept.get(other)
        labels = () if parent is None else parent.subjects[other]
        known = tuple(label for label in labels if label in values)
        if parent is None or not known:
            return None
        needed = {other: known} if parent.when or len(known) < len(labels) else {}
        if other not in parent.asked:
            needed = dict(parent.when)  # Optuna is not asked for a switch that is always on
        for name, allowed in needed.items():
            when[name] = tuple(value for value in when.get(name, allowed) if value in allowed)
    return replace(parameter, when=when) if all(when.values()) else None
