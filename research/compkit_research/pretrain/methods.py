"""The methods of pretraining by name, and what can be set about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from compkit.errors import CompkitError


@dataclass(frozen=True)
class Options:
    """What is set beside a run's settings.

    Parameters
    ----------
    mask_ratio
        Share of the windows of an input that is hidden.
    mask_window
        Side of the windows, pixels of the network's input.
    temperature
        Divides the cosines of views in the contrastive loss.
    held_back
        Share of the images held back for validation.
    """

    mask_ratio: float = 0.75
    mask_window: int = 16
    temperature: float = 0.5
    held_back: float = 0.1

    def of(self, method: str) -> dict[str, float]:
        """Return those that a method has."""
        values = asdict(self)
        return {name: values[name] for name in METHODS[method].options}

    def check(self, method: str) -> None:
        """Raise a CompkitError if a value cannot work."""
        rules: dict[str, tuple[str, Callable[[float], bool]]] = {
            "mask_ratio": ("above 0 and under 1", lambda x: 0 < x < 1),
            "mask_window": ("at least 1", lambda x: x >= 1),
            "temperature": ("positive", lambda x: x > 0),
            "held_back": ("above 0 and under 1", lambda x: 0 < x < 1),
        }
        for name, value in self.of(method).items():
            what, holds = rules[name]
            if not holds(value):
                raise CompkitError(f"--{name.replace('_', '-')} must be {what}, not {value}")


@dataclass(frozen=True)
class Method:
    """A method: what it does, which of the options it has, and what its score is."""

    does: str
    options: tuple[str, ...]
    score: str


#: Methods by name.
METHODS = {
    "simclr": Method(
        "Train each encoder to tell two views of an image from views of others",
        ("temperature", "held_back"),
        "contrastive accuracy",
    ),
    "autoencoder": Method(
        "Train each network to reconstruct the image", ("held_back",), "explained variance"
    ),
    "mae": Method(
        "Train each network to reconstruct hidden windows of the image",
        ("mask_ratio", "mask_window", "held_back"),
        "explained variance",
    ),
}
