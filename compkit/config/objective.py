"""What is minimised: the foreground's loss, and that of what parts it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LossConfig:
    """The foreground loss, a weighted sum of terms.

    Parameters
    ----------
    terms
        Weight of each term by name (dice, normalised_dice, tvmf_dice, adaptive_tvmf_dice,
        cross_entropy, or one that is added).
    kappa
        Concentration of tvmf_dice.
    adaptive_lambda
        Factor from validation Dice to concentration in adaptive_tvmf_dice.
    """

    terms: dict[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "adaptive_tvmf_dice": 1.0}
    )
    kappa: float = 32.0
    adaptive_lambda: float = 32.0


@dataclass(frozen=True)
class PartitionConfig:
    """What parts the foreground into regions, for the heads that do.

    Parameters
    ----------
    weight
        Weight of its loss beside the foreground's; 1 is what each kind was found to train best at.
    reach
        Distances over which pairs of pixels are compared beside touching ones, in pixels at a side
        of 128.
    border
        How far the border of the head boundary reaches on each side, in pixels at a side of 128;
        at least one pixel of the images.
    touching
        Weight of its pixels where two regions touch beside other pixels.
    """

    weight: float = 1.0
    reach: tuple[float, ...] = (3.0, 9.0, 27.0)
    border: float = 1.0
    touching: float = 4.0
