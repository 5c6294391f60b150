"""What the network makes of a grey image before its first convolution: its input channels."""

from __future__ import annotations

import torch
from torch import Tensor

from compkit.config import InputConfig

#: Mean and standard deviation of ImageNet in grey, on a scale of 0 to 1: pretrained encoders
#: expect images normalised so.
_MEAN, _STD = 0.449, 0.226

#: Windows of the grey range, stretched to 0…1. In the challenge's images air is 0, fat lies from
#: 0.12 to 0.30 and soft tissue from 0.30 to 0.55, most of it near 0.43; contrast medium and bone
#: take the sparse rest.
WINDOWS = ((0.30, 0.55), (0.50, 1.0))


def channel_counts(inputs: InputConfig) -> tuple[int, int]:
    """Return how many channels are images, and how many are coordinates."""
    return (
        1 + len(WINDOWS) if inputs.contrast == "windows" else 1,
        2 if inputs.coordinates else 0,
    )


def input_channels(grey: Tensor, inputs: InputConfig) -> Tensor:
    """Return the normalised images, then the coordinates, (N, C, H, W), of grey images.

    Coordinates are of the tensor at hand: of a crop in training, of a view (and its padding) in
    prediction.

    Parameters
    ----------
    grey : Tensor of float32, shape (N, 1, H, W)
        Between 0 and 1.
    inputs : InputConfig
    """
    channels = [grey]
    if inputs.contrast == "windows":
        channels += [((grey - low) / (high - low)).clamp(0, 1) for low, high in WINDOWS]
    channels = [(channel - _MEAN) / _STD for channel in channels]
    if inputs.coordinates:
        channels += _coordinates(grey)
    return torch.cat(channels, dim=1)


def _coordinates(grey: Tensor) -> list[Tensor]:
    height, width = grey.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=grey.device, dtype=grey.dtype)
    columns = torch.linspace(-1, 1, width, device=grey.device, dtype=grey.dtype)
    return [rows[:, None].expand_as(grey), columns.expand_as(grey)]
