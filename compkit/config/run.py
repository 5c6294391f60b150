"""What a run is: frozen dataclasses, filled by `compkit.config.files` and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from compkit.config.training import (
    AugmentConfig,
    ExternalConfig,
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
        Path of a CSV made by compkit folds, or by hand with the columns image and fold; null
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
    similar
        With groups, keep near-duplicates on one side, too.
    """

    file: str | None = None
    k: int = 5
    seed: int = 0
    grouped: bool = True
    groups: str | None = None
    similar: bool = False


T = TypeVar("T")

#: How grey values reach an encoder; see `ModelConfig`.
Normalisation = Literal["imagenet", "encoder", "image"] | tuple[float, float]


@dataclass(frozen=True)
class ModelConfig:
    """The network under the head; of several encoders, each may have its own of most settings.

    Parameters
    ----------
    decoder
        A decoder of segmentation-models-pytorch (unet, unetplusplus, fpn, ...). Several encoders
        take one for all, or a mapping from encoder.
    weights
        Encoder weights: auto (ImageNet's where an installed package carries them for the encoder,
        else none), none, hub, or a file's path; package:NAME/FILE is a file that an installed
        package carries. Several encoders take one for all, or a mapping from encoder.
    normalisation
        How grey values reach the encoder: imagenet (its mean 0.449 and deviation 0.226, on a scale
        of 0 to 1), encoder (those that timm knows its weights to be trained with), image (the
        image's own), or [mean, deviation]; null takes imagenet for images of 8 bits, and image for
        those of 16, which seldom use them all. Several encoders take one for all, or a mapping from
        encoder.
    start
        A checkpoint of compkit of the same encoder and decoder, whose weights the whole network
        starts from; {encoder} and {fold} in its path stand for the network's own, as in
        runs/NAME/{encoder}/fold{fold}/last.ckpt. Null starts from `weights`.
    """

    decoder: str | dict[str, str] = "unet"
    weights: str | dict[str, str] = "auto"
    normalisation: Normalisation | dict[str, Normalisation] | None = None
    start: str | None = None

    def weights_of(self, encoder: str) -> str:
        """Return the weights that one encoder starts from."""
        return _own(self.weights, encoder)

    def decoder_of(self, encoder: str) -> str:
        """Return the decoder over one encoder, in small letters."""
        return _own(self.decoder, encoder).lower()

    def normalisation_of(self, encoder: str) -> Normalisation | None:
        """Return how grey values reach one encoder."""
        one: Normalisation | None = _own(self.normalisation, encoder)  # type: ignore[arg-type]
        return one

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
        that is larger; null shows the network whole images, and those of over 2,048 pixels in
        tiles of 1,024.
    checkpoint
        The epoch that predicts: last; or best, of the highest score on the fold that is then
        predicted, so that out-of-fold scores are too high.
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
        Where networks are: auto (a GPU where there is one), cpu or cuda.
    precision
        Of numbers: auto (16-bit mixed where the device has it), 32, 16-mixed or bf16-mixed.
    workers
        Loader processes; null takes none on a CPU and one a core, up to 12, on a GPU.
    cores
        Cores of a network that is trained without a GPU on a Ray cluster (`--ray`).
    batch
        Images that go through the network at once, of a training batch whose gradients are summed
        up: auto (as many as fit into the memory of the GPU; on a CPU all), a number, or null for
        all. Batch normalisation sees these alone.
    compile
        Compile the network with torch.compile, which takes a minute or more at the start of a fit.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    workers: int | None = None
    cores: int = 1
    batch: Literal["auto"] | int | None = "auto"
    compile: bool = False


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
        The metric by which decoding is tuned and the best epoch chosen: one of docs/scores.md
        (adjusted_all, average_precision, ...), or one that is added; null takes the competition's.
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
    external: ExternalConfig = field(default_factory=ExternalConfig)
    unlabelled: UnlabelledConfig = field(default_factory=UnlabelledConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    @property
    def batches(self) -> tuple[int, ...]:
        """How many images of each kind a training step has: labelled ones, and others."""
        others = ((self.external, self.external.data), (self.unlabelled, self.unlabelled.weight))
        return (self.input.batch, *(part.batch for part, used in others if used))


def _own(value: T | dict[str, T], encoder: str) -> T:
    """Return what a setting is for one encoder."""
    return value[encoder] if isinstance(value, dict) else value
