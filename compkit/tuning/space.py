"""The search space: what is searched, as a trial is asked for it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compkit.config import InputConfig, RunConfig
from compkit.config.files import setting_names
from compkit.display import print_table
from compkit.errors import CompkitError, nearest
from compkit.tuning.conditions import resolved
from compkit.tuning.parameter import Parameter, Trial, shown
from compkit.tuning.proof import prove
from compkit.tuning.reading import load, parse
from compkit.tuning.settings import located, settings_of
from compkit.tuning.sides import in_pixels

#: The space where a user says nothing else.
SHIPPED = Path(__file__).with_name("space.yaml")

#: Side of the images, in pixels, where no data is named: the first competition's.
SIDE = 512

#: A grid of more points is a mistake: each is a training of all folds.
_MOST = 10_000

_ABSENT = object()


@dataclass(frozen=True)
class Space:
    """Parameters and what each may be.

    Parameters
    ----------
    parameters : tuple of Parameter
        What a condition is about comes before it.
    """

    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that Optuna may be asked for, switches too."""
        return tuple(name for parameter in self.parameters for name in parameter.asked)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's settings by dotted name; others are the configuration's.

        Parameters
        ----------
        trial : optuna.trial.BaseTrial
            It is asked only for what its earlier answers make matter.
        """
        answers: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for p in self.parameters:
            if p.applies(answers):
                answer = p.ask(trial)
                answers |= p.stated(answer)
                settings |= p.settings(answer)
        return settings

    def rows(self) -> list[list[str]]:
        """Return name, range and condition of each parameter, for people."""
        return [[p.name, p.span(), _condition(p)] for p in self.parameters]

    @property
    def digest(self) -> str:
        """The space as text, the same for every order of the same entries."""
        plain = {}
        for p in self.parameters:
            definition = p.definition()
            if p.when:
                definition |= {"when": {o: sorted(map(shown, v)) for o, v in p.when.items()}}
            plain[p.name] = definition
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)

    def told(self, config: RunConfig) -> dict[str, Any] | None:
        """Return the answers that give a configuration itself; None where the space lacks it."""
        answers, lacking = self._answers(config)
        return None if lacking else answers

    def lacking(self, config: RunConfig) -> str:
        """Name the first parameter that cannot give what a configuration has; "" if all can."""
        return self._answers(config)[1]

    def _answers(self, config: RunConfig) -> tuple[dict[str, Any], str]:
        settings, answers = settings_of(config), dict[str, Any]()
        for p in self.parameters:
            if p.applies(answers):
                told = p.told(settings)
                if told is None:
                    return answers, p.name
                answers |= told
        return answers, ""

    def grid(self, points: int) -> list[dict[str, Any]]:
        """Return the answers at every point of a grid, each asked only for what matters there.

        Parameters
        ----------
        points : int
            Most values of a range; a choice has all of its options.

        Raises
        ------
        CompkitError
            If there are more points than could ever be tried.
        """
        grid: list[dict[str, Any]] = [{}]
        for p in self.parameters:
            own = p.points(points)
            grid = [a | point for a in grid for point in (own if p.applies(a) else [{}])]
            if len(grid) > _MOST:
                raise CompkitError(
                    f"the grid of this search space has more than {_MOST} points: fix parameters "
                    "or leave them out, in a search space of your own (--narrow)"
                )
        return grid


def print_space(space: Space, side: int) -> None:
    """Print what is searched on images of a side."""
    print_table(
        f"Search space for images of {side}²", ["parameter", "range", "where"], space.rows()
    )


def refuse_other(digest_of_study: str, digest: str) -> None:
    """Refuse to go on with a study of another space.

    Raises
    ------
    CompkitError
        Naming the first difference.
    """
    old, new = json.loads(digest_of_study), json.loads(digest)
    if found := _difference(old, new, ()):
        raise CompkitError(
            f"the study searched another space ({found}): give it the space that it began with, "
            "or begin another study"
        )


def read_space(path: Path | None = None, base: RunConfig | None = None, side: int = SIDE) -> Space:
    """Return the shipped search space, with the entries of a file laid over it.

    Parameters
    ----------
    path : Path, optional
        A file like `SHIPPED`. Its entries replace those that have their name or set the same; a
        plain value fixes, and null leaves to the configuration. Shipped entries that depend on
        what is left out, or on options that are left out, are left out, too.
    base : RunConfig, optional
        What the settings are laid over; the default configuration if none is given.
    side : int
        Of the data's images, in pixels; input sizes are shares of it.

    Raises
    ------
    CompkitError
        Naming the file, the key and what is wrong.
    """
    base = base or RunConfig()
    shipped = _shipped(side, base.input)
    own: dict[str, Parameter] = {}
    left_out: set[str] = set()
    for name, entry in ({} if path is None else load(path)).items():
        with located(str(path), name):
            _check_name(name, entry, shipped)
            if entry is None:
                left_out.add(name)
            else:
                own[name] = parse(name, in_pixels(entry, side, base.input), shipped.get(name))
                _check_alone(own[name], own)
    replaced = left_out.union(*(p.sets for p in own.values()))
    left_out |= {n for n, p in shipped.items() if n not in own and replaced & {n, *p.sets}}
    merged = {name: own.get(name, p) for name, p in shipped.items() if name not in left_out} | own
    files = {name: str(path if name in own else SHIPPED) for name in merged}
    space = Space(resolved(merged, set(own), left_out, files))
    prove(space, files, base)
    return space


@cache
def _shipped(side: int, own: InputConfig) -> Mapping[str, Parameter]:
    entries = load(SHIPPED).items()
    return {name: parse(name, in_pixels(entry, side, own)) for name, entry in entries}


def _check_name(name: str, entry: Any, shipped: Mapping[str, Parameter]) -> None:
    """Refuse an entry that is neither a setting nor named options nor about a shipped one."""
    known = dict.fromkeys([*shipped, *setting_names()])
    named = isinstance(entry, dict) and isinstance(entry.get("choice"), dict)
    if name not in known and not named:
        raise CompkitError(
            f"there is no such setting or parameter{nearest(name, known)}: see `train.py --help`"
        )


def _check_alone(parameter: Parameter, own: Mapping[str, Parameter]) -> None:
    for other in own.values():
        twice = set(parameter.sets) & set(other.sets)
        if other is not parameter and twice:
            raise CompkitError(f"{other.name} sets {min(twice)}, too: leave one of them out")


def _condition(parameter: Parameter) -> str:
    either = (
        f"{other} is {' or '.join(map(shown, values))}" for other, values in parameter.when.items()
    )
    return " and ".join(either)


def _difference(old: Any, new: Any, place: tuple[str, ...]) -> str | None:
    """Return the first difference of two digests, as ``place was this and is that``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        found = (_difference(old.get(k, _ABSENT), new.get(k, _ABSENT), (*place, k)) for k in keys)
        return next(filter(None, found), None)
    if old == new:
        return None
    return f"{': '.join(place)} was {_brief(old)} and is {_brief(new)}"


def _brief(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    return textwrap.shorten(json.dumps(value, ensure_ascii=False), 100, placeholder=" …")
