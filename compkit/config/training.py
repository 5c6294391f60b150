"""How networks learn: from what examples, by what losses, in how many steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class InputConfig:
    """What a training example is.

    Parameters
    ----------
    size
        Side in pixels that images are resized to; null keeps them as they are.
    crop
        Side in pixels of a random crop of that; null takes the whole image.
    focus
        Probability that a crop lies around a random pixel of a region, each region of the image
        equally likely; other crops lie anywhere.
    batch
        Images in a training batch.
    """

    size: int | None = None
    crop: int | None = None
    focus: float = 0.0
    batch: int = 8


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to a training image; every number 0 switches its change off.

    Parameters
    ----------
    hflip
        Probability of a left-right flip.
    vflip
        Probability of an up-down flip.
    rot90
        Probability of a random multiple of 90 degrees.
    rotate
        Largest rotation, degrees.
    scale
        Largest relative change of size.
    shift
        Largest shift, as a share of the side.
    affine_p
        Probability of rotation, change of size and shift together.
    elastic
        Standard deviation of a smooth displacement, pixels at a side of 128.
    elastic_p
        Its probability.
    contrast
        Largest relative change of brightness and contrast.
    contrast_p
        Its probability.
    noise
        Largest standard deviation of Gaussian noise, share of the grey range.
    noise_p
        Its probability.
    blur
        Largest standard deviation of a Gaussian blur, pixels.
    blur_p
        Its probability.
    """

    hflip: float = 0.5
    vflip: float = 0.0
    rot90: float = 0.0
    rotate: float = 15.0
    scale: float = 0.2
    shift: float = 0.1
    affine_p: float = 1.0
    elastic: float = 0.0
    elastic_p: float = 0.5
    contrast: float = 0.2
    contrast_p: float = 0.75
    noise: float = 0.02
    noise_p: float = 0.5
    blur: float = 0.0
    blur_p: float = 0.3


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
    ignored
        Weight, from 0 to 1, of pixels that nobody looked at, where a competition marks them; at 1
        they are background, for which scores take them in any case.
    """

    terms: dict[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "adaptive_tvmf_dice": 1.0}
    )
    kappa: float = 32.0
    adaptive_lambda: float = 32.0
    ignored: float = 0.0


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


@dataclass(frozen=True)
class TrainingConfig:
    """How one network is fitted.

    Parameters
    ----------
    steps
        Optimiser steps in all.
    steps_per_epoch
        Steps between two validations; checkpoints are written there.
    validation_images
        Images of the validation fold that score an epoch, chosen at random once; null takes all.
        Out-of-fold maps, and the scores that a run ends with, are of all of them in any case.
    optimizer
        The optimiser: adamw or sgd.
    lr
        Peak learning rate.
    encoder_lr
        That of the encoder, as a share of lr.
    momentum
        Momentum of sgd.
    weight_decay
        Decay of weight matrices (biases and norms are spared).
    schedule
        How the rate falls, to zero at the last step: poly (power 0.9) or cosine.
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
    validation_images: int | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    encoder_lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["poly", "cosine"] = "cosine"
    warmup: int = 50
    clip: float = 1.0
    ema: float = 0.99
    patience: int = 0
    freeze_encoder: bool = False


@dataclass(frozen=True)
class ExternalConfig:
    """Labelled images of other data, as compkit data import makes, in every batch.

    Parameters
    ----------
    data
        The other data; its images never validate.
    weight
        Weight of their loss beside that of the run's own images.
    batch
        How many of them a batch has, beside the run's own.
    background
        Weight, from 0 to 1, of the background of the run's own images: under 1 where these label
        structures that the run's own images have, but do not label.
    """

    data: str | None = None
    weight: float = 1.0
    batch: int = 8
    background: float = 1.0


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
