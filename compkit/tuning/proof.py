"""A search space proved: the ends of all its ranges make configurations that can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compkit.config import RunConfig
from compkit.config.check import check_all
from compkit.errors import CompkitError
from compkit.tuning.parameter import Fixed, Label, Parameter
from compkit.tuning.settings import configured, located

if TYPE_CHECKING:
    from compkit.tuning.space import Space


class _Corner:
    """A trial that answers as it is told, and else with the first there is."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._told.get(name, low)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        return self._told.get(name, low)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._told.get(name, choices[0])


def prove(space: Space, files: Mapping[str, str], base: RunConfig) -> None:
    """Refuse a space with an end or an option that no configuration can have.

    An end is tried alone, over the configuration and what is fixed, so that the right one is
    blamed; and where that cannot be (an `input.focus` without a crop) beside the first of
    everything else.

    Parameters
    ----------
    files : mapping of str to str
        The file of each parameter.

    Raises
    ------
    CompkitError
        Naming the file, the parameter and what is wrong.
    """
    check_all(base)
    asked_by = {subject: p for p in space.parameters for subject in p.subjects}
    fixed = [parameter for parameter in space.parameters if isinstance(parameter, Fixed)]
    for parameter in (*fixed, *(p for p in space.parameters if p not in fixed)):
        told = _context(parameter, asked_by)
        beside = [asked_by[other] for other in told] + ([] if parameter in fixed else fixed)
        own = {name for p in (parameter, *beside) for name in p.sets}
        for corner in parameter.corners():
            settings = space.suggest(_Corner(told | corner))
            alone = {name: value for name, value in settings.items() if name in own}
            wrong = _wrong(alone, base)
            if wrong is not None and _wrong(settings, base) is not None:
                with located(files[parameter.name], parameter.name):
                    raise wrong


def _context(parameter: Parameter, asked_by: Mapping[str, Parameter]) -> dict[str, Label]:
    """Return choices under which a parameter is asked."""
    told: dict[str, Label] = {}
    for other, values in parameter.when.items():
        told |= {other: values[0]} | _context(asked_by[other], asked_by)
    return told


def _wrong(settings: Mapping[str, Any], base: RunConfig) -> CompkitError | None:
    try:
        config = configured(base, settings)
        same = (config.encoders, config.model) == (base.encoders, base.model)
        check_all(config, encoders=not same)
    except CompkitError as error:
        return error
    return None
