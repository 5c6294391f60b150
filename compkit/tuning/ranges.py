"""What a setting may be in a search: numbers of a range, or one of several options."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import numpy as np
import optuna
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_Values = Annotated[
    list[Any],
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
    Field(min_length=1),
]


def label(value: Any) -> Any:
    """Return what stands for a value in Optuna, which stores no lists and mappings."""
    if not isinstance(value, list | dict):
        return value
    return re.sub(r'[{}\[\]"]', "", json.dumps(value, ensure_ascii=False))


class Range(BaseModel):
    """An entry of a search space: `float`, `int` or `choice`, and `when` it is asked for.

    Attributes
    ----------
    decimals, integers : pair of numbers or None
        The ends of a range, both included.
    options : list or None
        Of a choice, plain values of any kind.
    log : bool
        Spread evenly in the logarithm.
    step : int
        Between whole numbers.
    when : dict of str to list
        It is asked for where each of these settings has one of these values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimals: tuple[float, float] | None = Field(None, alias="float")
    integers: tuple[int, int] | None = Field(None, alias="int")
    options: list[Any] | None = Field(None, alias="choice", min_length=1)
    log: bool = False
    step: int = Field(1, ge=1)
    when: dict[str, _Values] = {}

    @model_validator(mode="after")
    def _proven(self) -> Range:
        kinds = [k for k in (self.decimals, self.integers, self.options) if k is not None]
        if len(kinds) != 1:
            raise ValueError("give one of float, int and choice")
        labels = [label(option) for option in self.options or []]
        if twice := [one for one in labels if labels.count(one) > 1]:
            raise ValueError(f"{twice[0]} is there twice")
        if self.options is None and kinds[0][0] >= kinds[0][1]:
            raise ValueError("the range is empty or reversed: give [low, high], or one value alone")
        if self.log and (self.decimals is None or self.decimals[0] <= 0):
            raise ValueError("log goes with float, from above 0 on")
        low, high = self.integers or (0, 0 if self.step == 1 else 1)
        if (high - low) % self.step:
            raise ValueError("step goes with int, and leads from one end to the other")
        return self

    def ask(self, name: str, trial: optuna.Trial) -> Any:
        """Return the value that a trial is to have."""
        if self.decimals is not None:
            return trial.suggest_float(name, *self.decimals, log=self.log)
        if self.integers is not None:
            return trial.suggest_int(name, *self.integers, step=self.step)
        by_label = {label(option): option for option in self.options or []}
        return by_label[trial.suggest_categorical(name, list(by_label))]

    def ends(self) -> list[Any]:
        """Return the values to be tried before a search: the ends, or all options."""
        return self.options or list(self.decimals or self.integers or [])

    def points(self, count: int) -> list[Any]:
        """Return the values on a grid: all options, or at most `count` numbers of a range."""
        low, *_, high = self.ends() * 2
        if self.decimals is not None:
            # Round numbers, which a configuration is likely to have, too.
            spread = (np.geomspace if self.log else np.linspace)(low, high, count)
            return [low, *(float(f"{number:.4g}") for number in spread[1:-1]), high]
        if self.integers is not None:
            steps = np.linspace(0, (high - low) // self.step, count)
            return [low + self.step * k for k in sorted({round(s) for s in steps})]
        return self.ends()

    def holds(self, value: Any) -> bool:
        """Whether a trial may have a value."""
        if self.decimals is not None:
            return value is not None and self.decimals[0] <= value <= self.decimals[1]
        if self.integers is not None:
            return value in range(self.integers[0], self.integers[1] + 1, self.step)
        return value in self.ends()

    def param(self, value: Any) -> Any:
        """Return what Optuna knows a value by."""
        if self.options is None:
            return value
        return label(self.options[self.options.index(value)])  # 1 and 1.0 have different labels

    def plain(self) -> dict[str, Any]:
        """Return the entry as a file holds it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
