"""What a run is: frozen dataclasses, filled by `compkit.config.files` and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compkit.config.training import (
    AugmentConfig,
    InputConfig,
    LossConfig,
    PartitionConfig,
    TrainingConfig,
    UnlabelledConfig,
)


@dataclass(frozen=True)
class FoldsConfig:
    """Which images validate which models.

    Parameters
    ----------
    file
        Path of a CSV made by ``compkit folds``, or by hand with the columns image and fold; null
        makes a split with the settings below.
    k
        Number of folds.
    seed
        Seed of the split.
    grouped
        Keep near-duplicate slices on one side.
    groups
        Path of a CSV with the columns image and group (or patient), whose groups stay on one side
        instead of near-duplicates found by similarity.
    """

    file: str | None = None
    k: int = 5
    seed: int = 0
    grouped: bool = True
    groups: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The network under the head.

    Parameters
    ----------
    decoder
        A decoder of segmentation-models-pytorch (unet, unetplusplus, fpn, ...).
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
        Last, or best: the epoch of the highest score on the fold that is then predicted, so that
        out-of-fold scores are too high.
    batch
        Images in a prediction batch.
    """

    views: tuple[str, ...] = ("identity", "hflip")
    tile: int | None = None
    checkpoint: Literal["best", "last"] = "last"
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
    cores
        Cores of a network that is trained without a GPU on a Ray cluster (`--ray`).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    workers: int | None = None
    cores: int = 1


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run.

    Parameters
    ----------
    encoders
        Timm encoders, those that a plugin registers with timm among them, or those of a plain
        U-Net, by the channels of the first level: plain_unet16, plain_unet32, plain_unet64. One
        network each.
    head
        How regions become maps and back: foreground, affinity, boundary, or one
        that is added; or several joined by +.
    seed
        Seed of weights, order and augmentation.
    ranking
        The metric that decoding is tuned, and best epochs told, by (adjusted_all,
        adjusted_foreground, plain_foreground, or one that is added); null takes the competition's.
    """

    encoders: tuple[str, ...] = ("tf_efficientnet_lite0",)
    head: str = "boundary"
    seed: int = 0
    ranking: str | None = None
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    input: InputConfig = field(default_factory=InputConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    unlabelled: UnlabelledConfig = field(default_factory=UnlabelledConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
