"""Parameters of whatever cuts images into regions: their defaults, values and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compkit.errors import CompkitError

#: One setting, by parameter name.
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Param:
    """A parameter of decoding.

    Attributes
    ----------
    values : tuple
        Those among which it is tuned; the first is its default.
    low, high : float, optional
        The range of a number that is taken; without it, only `values` are.
    """

    values: tuple[Any, ...]
    low: float | None = None
    high: float | None = None

    def refuse(self, name: str, value: Any) -> None:
        """Raise a CompkitError if `value` cannot be taken."""
        if self.low is None or self.high is None:
            if value not in self.values:
                known = ", ".join(map(str, self.values))
                raise CompkitError(f"the decoding's {name} is {value!r}: take one of {known}")
        elif (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not self.low <= value <= self.high
        ):
            raise CompkitError(
                f"the decoding's {name} is {value!r}: take a number from {self.low} to {self.high}"
            )


def defaults_of(space: Mapping[str, Param]) -> dict[str, Any]:
    """Return the parameters before any tuning."""
    return {name: param.values[0] for name, param in space.items()}
