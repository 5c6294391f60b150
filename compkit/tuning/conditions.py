"""Conditions of parameters on choices: in an order of asking, and only what can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from compkit.errors import CompkitError, nearest
from compkit.tuning.parameter import Choice, Fixed, Label, Number, Parameter, shown
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
    kept: dict[str, Parameter] = {}
    for name in _ordered(parameters, files):
        with located(files[name], name):
            if name in own:
                _check_conditions(parameters[name], parameters, left_out)
            parameter = _asked(parameters[name], kept)
        if parameter is not None:
            kept[name] = parameter
    return tuple(kept.values())


def _ordered(parameters: Mapping[str, Parameter], files: Mapping[str, str]) -> list[str]:
    """Return names in the file's order, but each after those that its condition is about."""
    ordered: dict[str, None] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            way = " → ".join([*trail[trail.index(name) :], name])
            with located(files[name], name):
                raise CompkitError(f"its `when` depends on itself ({way}): leave one `when` out")
        for other in parameters[name].when:
            if other in parameters:
                visit(other, (*trail, name))
        ordered.setdefault(name)

    for name in parameters:
        visit(name, ())
    return list(ordered)


def _check_conditions(
    parameter: Parameter, parameters: Mapping[str, Parameter], left_out: Collection[str]
) -> None:
    for other, values in parameter.when.items():
        parent = parameters.get(other)
        if parent is None:
            near = nearest(other, parameters)
            fault = "this file leaves out" if other in left_out else f"there is not{near}"
            raise CompkitError(f"`when` names {other!r}, which {fault}: name a choice")
        if isinstance(parent, Number):
            raise CompkitError(f"`when` names {other!r}, which is a range: name a choice")
        if isinstance(parent, Choice):
            _check_values(parent, values)


def _check_values(parent: Choice, values: tuple[Label, ...]) -> None:
    known = [shown(label) for label in parent.options]
    for value in values:
        if value not in parent.options:
            raise CompkitError(
                f"`when` wants {shown(value)!r} of {parent.name}"
                f"{nearest(shown(value), known)}: take some of {', '.join(known)}"
            )


def _asked(parameter: Parameter, kept: Mapping[str, Parameter]) -> Parameter | None:
    """Return a parameter without conditions that always hold; None where one never does."""
    when = {}
    for other, values in parameter.when.items():
        parent = kept.get(other)
        if isinstance(parent, Fixed) and parent.label in values:
            continue
        labels = parent.options if isinstance(parent, Choice) else ()
        known = tuple(label for label in labels if label in values)
        if parent is None or not known:
            return None
        if parent.when or len(known) < len(labels):
            when[other] = known
    return replace(parameter, when=when)
