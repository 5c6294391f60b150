"""What a run is: frozen dataclasses, filled by `compkit.config_files` and the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from compkit.errors import CompkitError


@dataclass(frozen=True)
class FoldsConfig:
    """Which images validate which models.

    Parameters
    ----------
    file
        Path of a CSV made by ``compkit folds``; null makes a split with the settings below.
    k
        Number of folds.
    seed
        Seed of the split.
    grouped
        Keep near-duplicate slices on one side.
    """

    file: str | None = None
    k: int = 5
    seed: int = 0
    grouped: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """The network under the head.

    Parameters
    ----------
    decoder
        A decoder of segmentation-models-pytorch (unet, unetplusplus, fpn, ...).
    weights
        Encoder weights: none, hub, or a file's path; package:NAME/FILE is a file that an
        installed package carries. Several encoders take one for all, or a mapping from encoder.
    """

    decoder: str = "unet"
    weights: str | dict[str, str] = "none"

    def weights_of(self, encoder: str) -> str:
        """Return the weights that one encoder starts from."""
        return self.weights if isinstance(self.weights, str) else self.weights[encoder]


@dataclass(frozen=True)
class LossConfig:
    """The foreground loss, a weighted sum of terms.

    Parameters
    ----------
    terms
        Weight of each term by name (dice, normalised_dice, tvmf_dice, adaptive_tvmf_dice,
        cross_entropy).
    kappa
        Concentration of tvmf_dice.
    adaptive_lambda
        Factor from validation Dice to concentration in adaptive_tvmf_dice.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"adaptive_tvmf_dice": 1.0})
    kappa: float = 32.0
    adaptive_lambda: float = 32.0


@dataclass(frozen=True)
class PartitionConfig:
    """What parts the foreground into regions, for the heads that do.

    Parameters
    ----------
    weight
        Weight of its loss beside the foreground's.
    reach
        Distances over which pairs of pixels are compared beside touching ones, in pixels at a side
        of 128.
    """

    weight: float = 1.0
    reach: tuple[float, ...] = (3.0, 9.0, 27.0)


@dataclass(frozen=True)
class InputConfig:
    """What a training example is.

    Parameters
    ----------
    size
        Side in pixels that images are resized to; null keeps them as they are.
    crop
        Side in pixels of a random crop of that; null takes the whole image.
    batch
        Images in a training batch.
    """

    size: int | None = None
    crop: int | None = None
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
    elastic
        Standard deviation of a smooth displacement, pixels at a side of 128.
    contrast
        Largest relative change of brightness and contrast.
    noise
        Largest standard deviation of Gaussian noise, share of the grey range.
    blur
        Largest standard deviation of a Gaussian blur, pixels.
    """

    hflip: float = 0.5
    vflip: float = 0.0
    rot90: float = 0.0
    rotate: float = 15.0
    scale: float = 0.2
    shift: float = 0.1
    elastic: float = 0.0
    contrast: float = 0.2
    noise: float = 0.02
    blur: float = 0.0


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


@dataclass(frozen=True)
class InferenceConfig:
    """How maps are predicted, for out-of-fold and test images alike.

    Parameters
    ----------
    views
        TTA views, each transforms joined by "+": identity, hflip, vflip, rot90, rot180, rot270,
        scale0.75, scale1.25, ... (for instance hflip+rot90).
    checkpoint
        Best (by the ranking metric on the validation fold) or last.
    batch
        Images in a prediction batch.
    """

    views: tuple[str, ...] = ("identity", "hflip")
    checkpoint: Literal["best", "last"] = "best"
    batch: int = 8


@dataclass(frozen=True)
class MachineConfig:
    """Where a run runs; free to differ when it is resumed.

    Parameters
    ----------
    device
        Auto, cpu or cuda.
    precision
        Auto (16-bit mixed where the device has it), 32, 16-mixed or bf16-mixed.
    workers
        Loader processes; null takes none on a CPU and one a core, up to 12, on a GPU.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run.

    Parameters
    ----------
    encoders
        Timm encoders, one network each.
    head
        How regions become maps and back: foreground, affinity, or several joined by +.
    seed
        Seed of weights, order and augmentation.
    """

    encoders: tuple[str, ...] = ("resnet34",)
    head: str = "affinity"
    seed: int = 0
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = field(default_factory=LossConfig)
    partition: PartitionConfig = PartitionConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    machine: MachineConfig = MachineConfig()


def check(config: RunConfig) -> None:
    """Refuse values that cannot work.

    Raises
    ------
    CompkitError
        Naming every setting that is wrong.
    """
    i, t, f, a = config.input, config.training, config.folds, config.augment
    weights = config.model.weights
    rules = {
        "model.weights must name the weights of every encoder, and of no other": (
            isinstance(weights, str) or set(weights) == set(config.encoders)
        ),
        "encoders must name at least one encoder": len(config.encoders) > 0,
        "encoders must not name one twice": len(set(config.encoders)) == len(config.encoders),
        "folds.k must be at least 2": f.k >= 2,
        "input.size must be at least 16": i.size is None or i.size >= 16,
        "input.crop must be at least 16": i.crop is None or i.crop >= 16,
        "input.crop must not exceed input.size": not i.crop or not i.size or i.crop <= i.size,
        "input.batch must be at least 2 (batch normalisation)": i.batch >= 2,
        "inference.batch must be at least 1": config.inference.batch >= 1,
        "inference.views must name at least one view": len(config.inference.views) > 0,
        "training.steps must be a positive multiple of training.steps_per_epoch": (
            t.steps_per_epoch > 0 and t.steps > 0 and t.steps % t.steps_per_epoch == 0
        ),
        "training.lr must be positive": t.lr > 0,
        "training.warmup must be from 0 to training.steps": 0 <= t.warmup <= t.steps,
        "training.ema must be at least 0 and under 1": 0 <= t.ema < 1,
        "training.clip must not be negative": t.clip >= 0,
        "training.patience must not be negative": t.patience >= 0,
        "augment.scale must be under 1": a.scale < 1,
        "augment's probabilities must be at most 1": max(a.hflip, a.vflip, a.rot90) <= 1,
        "augment's shares must be at most 1": max(a.shift, a.contrast, a.noise) <= 1,
        "augment must not hold a negative number": min(asdict(a).values()) >= 0,
        "loss.kappa must not be negative": config.loss.kappa >= 0,
        "loss.adaptive_lambda must not be negative": config.loss.adaptive_lambda >= 0,
    }
    if broken := [rule for rule, kept in rules.items() if not kept]:
        raise CompkitError(f"the configuration cannot work: {'; '.join(broken)}")
