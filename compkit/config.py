"""What a run is: frozen dataclasses, filled by `compkit.config_files` and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: The teacher that is the average of a network's own weights.
MEAN = "mean"


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
        A decoder of segmentation-models-pytorch (unet, unetplusplus, fpn, ...), or feedback-unet, a
        U-Net that is run twice and sees its first answer the second time.
    weights
        Encoder weights: auto (ImageNet's where an installed package carries them for the encoder,
        else none), none, hub, or a file's path; package:NAME/FILE is a file that an installed
        package carries. Several encoders take one for all, or a mapping from encoder.
    start
        A checkpoint of compkit of the same encoder and decoder, whose weights the whole network
        starts from; {encoder} and {fold} in its path stand for the network's own, as in
        runs/NAME/{encoder}/fold{fold}/last.ckpt. Null starts from `weights`.
    """

    decoder: str = "unet"
    weights: str | dict[str, str] = "auto"
    start: str | None = None

    def weights_of(self, encoder: str) -> str:
        """Return the weights that one encoder starts from."""
        return self.weights if isinstance(self.weights, str) else self.weights[encoder]

    def start_of(self, encoder: str, fold: int) -> Path | None:
        """Return the checkpoint that one network starts from."""
        if self.start is None:
            return None
        place = self.start.replace("{encoder}", encoder)
        if fold < 0:  # every labelled image
            place = place.replace("fold{fold}", "all")
        return Path(place.replace("{fold}", str(fold)))


@dataclass(frozen=True)
class LossConfig:
    """The foreground loss, a weighted sum of terms.

    Parameters
    ----------
    terms
        Weight of each term by name (dice, normalised_dice, generalised_dice, focal_dice,
        focal_tversky, noise_robust_dice, tvmf_dice, adaptive_tvmf_dice, cross_entropy).
    kappa
        Concentration of tvmf_dice.
    adaptive_lambda
        Factor from validation Dice to concentration in adaptive_tvmf_dice.
    ignore_above
        Background to which the network itself gives a higher foreground probability is left out
        of the loss, as perhaps unlabelled; 1 leaves nothing out.
    """

    terms: dict[str, float] = field(
        default_factory=lambda: {"cross_entropy": 1.0, "adaptive_tvmf_dice": 1.0}
    )
    kappa: float = 32.0
    adaptive_lambda: float = 32.0
    ignore_above: float = 1.0


@dataclass(frozen=True)
class WeightsConfig:
    """How much each pixel of a training example counts.

    Parameters
    ----------
    small_regions
        Exponent γ: a region of area A counts (mean area / A)^γ a pixel, within limits; 0 counts
        every pixel alike.
    background
        Weight of background inside the body, which may be an unlabelled structure; air keeps 1.
    """

    small_regions: float = 0.0
    background: float = 1.0


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
    slots
        Number of slots of the head slots; regions of one image beyond it share them.
    temperature
        Divides the logits of slots before the softmax.
    slot_terms
        Weight of each loss of slots by name (soft_rand_adjusted, soft_rand_foreground,
        soft_rand_plain, soft_rand_local, set_cross_entropy).
    slot_window
        Side of the tiles of soft_rand_local, in pixels at a side of 128.
    dims
        Dimensions of the head embedding.
    border
        How far the border of the head boundary reaches on each side, in pixels at a side of 128;
        at least one pixel of the images.
    touching
        Weight of its pixels where two regions touch beside other pixels.
    """

    weight: float = 1.0
    reach: tuple[float, ...] = (3.0, 9.0, 27.0)
    slots: int = 48
    temperature: float = 0.5
    slot_terms: dict[str, float] = field(
        default_factory=lambda: {"soft_rand_foreground": 1.0, "set_cross_entropy": 0.3}
    )
    slot_window: float = 32.0
    dims: int = 8
    border: float = 1.0
    touching: float = 4.0


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
    contrast
        Grey; clahe, which equalises the grey locally; or windows, which adds two channels with the
        soft tissues and the bright structures stretched.
    coordinates
        Add two channels with the row and the column, from -1 to 1 over what the network is shown
        (of a crop: the crop).
    batch
        Images in a training batch.
    """

    size: int | None = None
    crop: int | None = None
    focus: float = 0.0
    contrast: Literal["grey", "clahe", "windows"] = "grey"
    coordinates: bool = False
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
        Mean: the average of the network's own weights (training.ema), whose maps of an image the
        network must give of a distorted copy, too. Or the name of a run on the same folds: what its
        networks of the same fold find in them together, decoded, is taken for their labels.
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
    teacher: str = MEAN
    confidence: float = 0.8
    ramp: float = 0.3
    batch: int = 8
    test: bool = False


@dataclass(frozen=True)
class InferenceConfig:
    """How maps are predicted, for out-of-fold and test images alike.

    Parameters
    ----------
    views
        TTA views, each transforms joined by "+": identity, hflip, vflip, rot90, rot180, rot270,
        scale0.75, scale1.25, ... (for instance hflip+rot90).
    tile
        Side in pixels of the overlapping tiles, blended smoothly, in which an image is predicted
        that is larger; null shows the network whole images.
    checkpoint
        Best (by the ranking metric on the validation fold) or last.
    batch
        Images in a prediction batch.
    """

    views: tuple[str, ...] = ("identity", "hflip")
    tile: int | None = None
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
        Timm encoders, or those of a plain U-Net, by the channels of the first level: plain_unet16,
        plain_unet32, plain_unet64. One network each.
    head
        How regions become maps and back: foreground, affinity, slots, embedding, boundary,
        distance, or several joined by +.
    seed
        Seed of weights, order and augmentation.
    ranking
        The metric that epochs are chosen and decoders tuned by (adjusted_all, adjusted_foreground,
        plain_foreground); null takes the competition's.
    """

    encoders: tuple[str, ...] = ("tf_efficientnet_lite0",)
    head: str = "boundary"
    seed: int = 0
    ranking: Literal["adjusted_all", "adjusted_foreground", "plain_foreground"] | None = None
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = field(default_factory=LossConfig)
    weights: WeightsConfig = WeightsConfig()
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    unlabelled: UnlabelledConfig = UnlabelledConfig()
    inference: InferenceConfig = InferenceConfig()
    machine: MachineConfig = MachineConfig()
