"""The encoder of the plain U-Net, which neither timm nor segmentation-models-pytorch has."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

#: Encoders of this module by name, with the channels of their first level.
PLAIN = {f"plain_unet{width}": width for width in (16, 32, 64)}

#: How often the resolution is halved.
_DEPTH = 4


class PlainEncoder(nn.Module):
    """Five levels of two 3×3 convolutions each, with twice the channels at half the resolution.

    Source: Ronneberger et al. 2015, "U-Net", arXiv 1505.04597, fig. 1, whose first level has 64
    channels. Here, as in most later work, convolutions are padded and normalised over the batch.
    The decoder is that of segmentation-models-pytorch, with the paper's channels: it enlarges by
    repeating pixels, without the paper's 2×2 convolutions, and ends in a 3×3 convolution, not 1×1.

    Parameters
    ----------
    width : int
        Channels of the first level.
    """

    output_stride = 2**_DEPTH

    def __init__(self, width: int, **_: Any) -> None:
        super().__init__()
        self.out_channels = [3, *(width * 2**level for level in range(_DEPTH + 1))]
        levels = [_level(*ends) for ends in pairwise(self.out_channels)]
        for level in levels[1:]:
            level.insert(0, nn.MaxPool2d(2))
        self.model = nn.Sequential(*levels)

    def set_in_channels(self, channels: int, pretrained: bool) -> None:
        """Take images of another number of channels; segmentation-models-pytorch calls it."""
        del pretrained
        self.out_channels[0] = channels
        self.model[0] = _level(*self.out_channels[:2])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the images and the features of every level, the finest first.

        The U-Net of segmentation-models-pytorch leaves the first of a list of features aside, so
        that with the images there the finest level has a skip connection, as in the paper.
        """
        features = [images]
        for level in self.model:
            features.append(level(features[-1]))
        return features


def plain_settings(encoder: str) -> dict[str, Any]:
    """Return what a U-Net of segmentation-models-pytorch is told of one of these encoders."""
    channels = tuple(PLAIN[encoder] * 2**level for level in reversed(range(_DEPTH)))
    return {"encoder_name": encoder, "encoder_depth": _DEPTH, "decoder_channels": channels}


def _level(before: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (before, channels):
        layers += [
            nn.Conv2d(given, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


# The way in which segmentation-models-pytorch is told of encoders that are not its own.
smp.encoders.encoders.update(
    {
        name: {"encoder": PlainEncoder, "pretrained_settings": {}, "params": {"width": width}}
        for name, width in PLAIN.items()
    }
)
