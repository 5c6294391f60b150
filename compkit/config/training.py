"""How a network is fitted, to labelled images and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    """How one network is fitted.

    Parameters
    ----------
    steps
        Optimiser steps in all.
    steps_per_epoch
        Steps between two validations; checkpoints are written there.
    optimizer
        Adamw or sgd.
    lr
        Peak learning rate.
    momentum
        Momentum of sgd.
    weight_decay
        Decay of weight matrices (biases and norms are spared).
    schedule
        Poly (power 0.9) or cosine, down to zero at the last step.
    warmup
        Steps of linear warm-up.
    clip
        Largest gradient norm; 0 does not clip.
    ema
        Decay of the averaged weights; 0 keeps no average.
    patience
        Epochs without a better score before stopping; 0 never stops early.
    freeze_encoder
        Train the decoder alone, over the encoder that model.weights or model.start gives.
    """

    steps: int = 4000
    steps_per_epoch: int = 100
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["poly", "cosine"] = "cosine"
    warmup: int = 50
    clip: float = 1.0
    ema: float = 0.99
    patience: int = 0
    freeze_encoder: bool = False


@dataclass(frozen=True)
class UnlabelledConfig:
    """What training takes from images without labels.

    Parameters
    ----------
    weight
        Weight of their loss beside that of the labelled images; 0 leaves them out.
    teacher
        The name of a finished run or ensemble on the same folds: what its networks of the same fold
        find in them together, decoded, is taken for their labels.
    confidence
        Pixels of which the teacher's foreground probability, or that of background, is smaller
        count nothing.
    ramp
        Share of the steps over which the weight rises from 0.
    batch
        Unlabelled images in a batch, beside the labelled.
    test
        Take the test images, too.
    """

    weight: float = 0.0
    teacher: str | None = None
    confidence: float = 0.8
    ramp: float = 0.3
    batch: int = 8
    test: bool = False
