"""Networks: an encoder of timm under a decoder of segmentation-models-pytorch, grey images in."""

from __future__ import annotations

import warnings
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compkit import plugins
from compkit.config import ModelConfig
from compkit.config.run import Normalisation
from compkit.errors import CompkitError, nearest
from compkit.models.plain import PLAIN, plain_settings
from compkit.models.vit import PER_IMAGE, Dpt, size_settings
from compkit.models.weights import load_encoder, packaged
from compkit.registry import Registry

#: Mean and standard deviation of ImageNet in grey, on a scale of 0 to 1: most pretrained encoders
#: expect images normalised so.
_IMAGENET = (0.449, 0.226)

#: How images are normalised if nothing is said, by their bits.
_DEFAULT: dict[int, Normalisation] = {8: "imagenet", 16: "image"}


class Network(nn.Module):
    """Images to dense maps of logits.

    Parameters
    ----------
    encoder : str
        A timm model's name, or one of `PLAIN`.
    outputs : int
        Number of output channels C.
    config : ModelConfig
    pretrained : bool
        Load the encoder weights that `config` names; a checkpoint's network needs none.
    channels : int
        How many an image has: grey ones have one.
    bits : int
        Of a channel of the images, which says how they are normalised by default.

    Attributes
    ----------
    stride : int
        Height and width of an input must be multiples of it.
    """

    def __init__(
        self,
        encoder: str,
        outputs: int,
        config: ModelConfig,
        pretrained: bool = True,
        channels: int = 1,
        bits: int = 8,
    ) -> None:
        super().__init__()
        check_names((encoder,), config)
        weights = config.weights_of(encoder) if pretrained else "none"
        if weights == "auto":
            weights = "none" if encoder in PLAIN else packaged(encoder)
        self.model = _build(
            encoder, channels, outputs, config.decoder_of(encoder), weights == "hub"
        )
        self.model.to(memory_format=torch.channels_last)
        encoder_part: Any = self.encoder
        self.stride = int(getattr(self.model, "stride", encoder_part.output_stride))
        self._frozen = False
        self._normalisation = _grey_of(encoder, config.normalisation_of(encoder) or _DEFAULT[bits])
        if weights not in ("none", "hub"):
            load_encoder(encoder_part.model, weights, channels)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W) of images (N, channels, H, W) between 0 and 1."""
        logits: Tensor = self.model(normalised(images, self._normalisation))
        return logits

    @property
    def encoder(self) -> nn.Module:
        """What makes maps of features, for the decoder."""
        encoder: Any = self.model.encoder
        return encoder

    def freeze_encoder(self) -> None:
        """Leave the encoder as it is: without gradients, and with its statistics as they are."""
        self._frozen = True
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Go into training or evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self._frozen:
            self.encoder.eval()
        return self


def cost_of(encoder: str, config: ModelConfig) -> float:
    """Return the floating-point operations a pixel of a forward pass, which is not computed."""
    with torch.device("meta"):
        network = Network(encoder, 1, config, pretrained=False).eval()  # as of one image
        side = 128 + -128 % network.stride
        with FlopCounterMode(display=False) as counted:
            network(torch.empty(1, 1, side, side))
    return float(counted.get_total_flops()) / side**2


def normalised(images: Tensor, grey: tuple[float, float] | None = _IMAGENET) -> Tensor:
    """Return images as encoders expect them, of images (N, C, H, W) between 0 and 1.

    `grey` are the mean and the standard deviation to normalise with; None takes every image's own.
    """
    if grey is None:
        deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
        images = (images - mean) / deviation.clamp_min(1e-6)
    else:
        images = (images - grey[0]) / grey[1]
    # Channels last: on CPUs and GPUs alike convolutions are up to twice as fast.
    return images.contiguous(memory_format=torch.channels_last)


def _grey_of(encoder: str, how: Normalisation) -> tuple[float, float] | None:
    """Return the mean and deviation that a setting means for an encoder, None for each image's."""
    if how == "image" or (how == "encoder" and encoder in PER_IMAGE):
        return None
    if how == "imagenet":
        return _IMAGENET
    if not isinstance(how, str):
        return how
    known = None if encoder in PLAIN else timm.get_pretrained_cfg(encoder)
    if known is None:
        raise CompkitError(
            f"timm does not know how the weights of {encoder} were normalised: give "
            "model.normalisation imagenet, image or [mean, deviation]"
        )
    mean, deviation = (sum(values) / len(values) for values in (known.mean, known.std))
    return mean, deviation


def check_names(encoders: tuple[str, ...], config: ModelConfig) -> None:
    """Refuse encoders and decoders that do not exist or fit each other, before any is built.

    Raises
    ------
    CompkitError
        Naming the encoder or decoder, and the nearest that exists.
    """
    for encoder in set(encoders) & set(ENCODERS.names()):
        ENCODERS.get(encoder)  # so that timm knows it
    known = [*timm.list_models(), *PLAIN]
    for encoder in encoders:
        if encoder.split(".")[0] not in known:
            raise CompkitError(
                f"there is no timm encoder {encoder!r}{nearest(encoder, known)}: "
                "`python -c 'import timm; print(timm.list_models())'` lists them"
                f"{plugins.hint()}"
            )
        if encoder in PLAIN and config.weights_of(encoder) == "hub":
            raise CompkitError(
                f"no hub has weights of {encoder}: give model.weights a file or none"
            )
        decoder = config.decoder_of(encoder)
        if decoder not in DECODERS:
            raise CompkitError(
                f"there is no decoder {decoder!r}{nearest(decoder, DECODERS)}: "
                f"take one of {', '.join(sorted(DECODERS))}"
            )
        if encoder in PLAIN and decoder != "unet":
            raise CompkitError(
                f"the encoder {encoder!r} does not fit under the decoder {decoder!r}: "
                "take unet, or another encoder"
            )


#: What packages register with timm: an entry point only tells which module does.
ENCODERS = Registry("compkit.encoders", "encoder", {})

#: Networks by the name of their decoder.
DECODERS: dict[str, Any] = smp.MODEL_ARCHITECTURES_MAPPING | {"dpt": Dpt}


def _build(encoder: str, channels: int, outputs: int, decoder: str, hub: bool) -> nn.Module:
    if encoder in PLAIN:
        settings = plain_settings(encoder)
    else:
        settings = {"encoder_name": f"tu-{encoder}", **size_settings(encoder)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return DECODERS[decoder](
                encoder_weights="imagenet" if hub else None,
                in_channels=channels,
                classes=outputs,
                **settings,
            )
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, OSError):
            raise CompkitError(
                f"the weights of {encoder} cannot be had from the hub ({reason}): "
                "connect, or give model.weights a file or none"
            ) from None
        raise CompkitError(
            f"the encoder {encoder!r} does not fit under the decoder {decoder!r} ({reason}): "
            "take another of either"
        ) from None


def padded(stride: int, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return images reflected at the lower right to multiples of `stride`, and their old size."""
    height, width = images.shape[-2:]
    down, right = -height % stride, -width % stride
    # Reflection needs a border smaller than the image; tiny images repeat their edge instead.
    mode = "reflect" if down < height and right < width else "replicate"
    return torch.nn.functional.pad(images, (0, right, 0, down), mode=mode), (height, width)
