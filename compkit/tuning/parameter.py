"""One parameter of a search space: what it ranges over, and which settings it sets."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

#: What Optuna can store as a choice.
Label = str | float | int | bool | None


class Trial(Protocol):
    """What a parameter asks of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number between two."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Return a whole number between two."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of several."""


@dataclass(frozen=True)
class Parameter(ABC):
    """A part of a search space.

    Parameters
    ----------
    name : str
        A setting's dotted name; of named options, any.
    when : mapping of str to tuple of labels
        It is asked where each of these choices has one of these values.
    """

    name: str
    when: Mapping[str, tuple[Label, ...]] = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def asked(self) -> tuple[str, ...]:
        """Names by which Optuna knows it."""

    @property
    def sets(self) -> tuple[str, ...]:
        """Settings that it may set."""
        return (self.name,)

    @property
    @abstractmethod
    def subjects(self) -> Mapping[str, tuple[Label, ...]]:
        """What a condition may be about, with all of its values."""

    def stated(self, answer: Any) -> Mapping[str, Label]:
        """Return the values of `subjects` that an answer stands for."""
        return {self.name: answer}

    @abstractmethod
    def ask(self, trial: Trial) -> Any:
        """Return the trial's answer: a choice's label, a number's value."""

    def settings(self, answer: Any) -> Mapping[str, Any]:
        """Return the settings that an answer stands for."""
        return {self.name: answer}

    def applies(self, answers: Mapping[str, Any]) -> bool:
        """Whether its conditions hold, given earlier answers."""
        return all(other in answers and answers[other] in v for other, v in self.when.items())

    @abstractmethod
    def corners(self) -> list[dict[str, Any]]:
        """Return the answers at its ends, each by the names in `asked`."""

    def points(self, count: int) -> list[dict[str, Any]]:
        """Return answers like `corners`: all options, or at most `count` numbers of a range."""
        return self.corners()

    @abstractmethod
    def told(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answers that set what `settings` already hold; None where none does."""

    @abstractmethod
    def span(self) -> str:
        """Return what it ranges over, for people."""

    @abstractmethod
    def definition(self) -> Any:
        """Return what it ranges over, in plain values in the order of their names."""


@dataclass(frozen=True)
class Number(Parameter):
    """A range of one setting.

    Parameters
    ----------
    low, high : float
        Ends of the range, both within it.
    log : bool
        Spread evenly in the logarithm.
    step : int or None
        Distance of whole numbers; None takes any number.
    off : float or None
        What the setting is where the switch `<name>.on` is off; None has no switch.
    """

    low: float
    high: float
    log: bool = False
    step: int | None = None
    off: float | None = None

    @property
    def switch(self) -> str:
        """Optuna's name, and conditions', of whether it is on."""
        return f"{self.name}.on"

    @property
    def asked(self) -> tuple[str, ...]:
        return (self.name,) if self.off is None else (self.switch, self.name)

    @property
    def subjects(self) -> Mapping[str, tuple[Label, ...]]:
        return {self.switch: (True,) if self.off is None else (False, True)}

    def stated(self, answer: Any) -> Mapping[str, Label]:
        return {self.switch: self.off is None or answer != self.off}

    def ask(self, trial: Trial) -> float:
        if self.off is not None and not trial.suggest_categorical(self.switch, [False, True]):
            return self.off
        if self.step is None:
            return trial.suggest_float(self.name, self.low, self.high, log=self.log)
        return trial.suggest_int(self.name, int(self.low), int(self.high), step=self.step)

    def corners(self) -> list[dict[str, Any]]:
        return self._answers([self.low, self.high])

    def points(self, count: int) -> list[dict[str, Any]]:
        spread = np.geomspace if self.log else np.linspace
        if self.step is None:
            # Round numbers, which a configuration is likely to have, too.
            numbers = [float(f"{number:.4g}") for number in spread(self.low, self.high, count)]
            return self._answers([self.low, *numbers[1:-1], self.high])
        steps = np.linspace(0, (self.high - self.low) // self.step, count)
        whole = sorted({round(s) for s in steps})
        return self._answers([int(self.low) + self.step * k for k in whole])

    def _answers(self, numbers: Sequence[float]) -> list[dict[str, Any]]:
        if self.off is None:
            return [{self.name: number} for number in numbers]
        on = [{self.switch: True, self.name: number} for number in numbers]
        return [{self.switch: False}, *on]

    def told(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        number = settings[self.name]
        if self.off is not None and number == self.off:
            return {self.switch: False}
        if number is None or not self.low <= number <= self.high:
            return None
        between = self.step is not None and (number - self.low) % self.step
        return None if between else self._answers([number])[-1]

    def span(self) -> str:
        text = f"{self.low:g} to {self.high:g}"
        text += f" by {self.step}" if (self.step or 1) > 1 else ""
        text += ", log" if self.log else ""
        return text if self.off is None else f"{text}, or off ({self.off:g})"

    def definition(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"float" if self.step is None else "int": [self.low, self.high]}
        optional = {"log": self.log, "step": self.step, "off": self.off}
        return plain | {key: v for key, v in optional.items() if v is not None and v is not False}


@dataclass(frozen=True)
class Choice(Parameter):
    """One of several options.

    Parameters
    ----------
    options : mapping of label to settings
        What each option sets.
    """

    options: Mapping[Label, Mapping[str, Any]]

    @property
    def asked(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for option in self.options.values() for name in option))

    @property
    def labels(self) -> list[Label]:
        """Labels in one order whatever the file's, as Optuna refuses another order."""
        return sorted(self.options, key=str)

    @property
    def subjects(self) -> Mapping[str, tuple[Label, ...]]:
        return {self.name: tuple(self.options)}

    def ask(self, trial: Trial) -> Label:
        return trial.suggest_categorical(self.name, self.labels)

    def settings(self, answer: Any) -> Mapping[str, Any]:
        return self.options[answer]

    def corners(self) -> list[dict[str, Any]]:
        return [{self.name: label} for label in self.options]

    def told(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        for label, option in self.options.items():
            if all(settings[name] == value for name, value in option.items()):
                return {self.name: label}
        return None

    def span(self) -> str:
        return ", ".join(shown(label) for label in self.options)

    def definition(self) -> dict[str, Any]:
        if all(set(option) == {self.name} for option in self.options.values()):
            return {"choice": [self.options[label][self.name] for label in self.labels]}
        return {"choice": {shown(label): dict(self.options[label]) for label in self.labels}}


@dataclass(frozen=True)
class Fixed(Parameter):
    """What is the same in every trial.

    Parameters
    ----------
    label : Label
        The value, or the option's name.
    values : mapping of str to plain value
        What it sets.
    """

    label: Label
    values: Mapping[str, Any]

    @property
    def asked(self) -> tuple[str, ...]:
        return ()

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def subjects(self) -> Mapping[str, tuple[Label, ...]]:
        switch = {f"{self.name}.on": (self.label != 0,)} if _is_number(self.label) else {}
        return {self.name: (self.label,), **switch}

    def ask(self, trial: Trial) -> Label:
        return self.label

    def settings(self, answer: Any) -> Mapping[str, Any]:
        return self.values

    def corners(self) -> list[dict[str, Any]]:
        return [{}]

    def told(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        same = all(settings[name] == value for name, value in self.values.items())
        return {} if same else None

    def span(self) -> str:
        return f"fixed: {shown(self.label)}"

    def definition(self) -> Any:
        return self.values.get(self.name, dict(self.values))


def _is_number(label: Label) -> bool:
    return isinstance(label, int | float) and not isinstance(label, bool)


def shown(label: Label) -> str:
    """Return a label as YAML has it."""
    return label if isinstance(label, str) else json.dumps(label)
