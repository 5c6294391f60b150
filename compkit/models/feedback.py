"""The Feedback U-Net: two rounds through one U-Net, of which the second knows the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

#: What a cell hands to the next round: its output H and its memory C, each (N, C, H, W).
State = tuple[Tensor, Tensor]


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell with as many channels out as in.

    ``i, f, o = σ(W * X + U * H + b)`` and ``G = tanh(W * X + U * H + b)``, each with 3×3 kernels of
    its own; ``C' = f C + i G``; ``H' = o tanh C'``.

    Source: Shi et al. 2015, arXiv 1506.04214, eq. 3, without the terms by which gates look at C, as
    their weights belong to one size of images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_input = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.of_state = nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, state: State | None) -> State:
        """Return the next state, whose first tensor is the cell's output; None is all zeros."""
        gates = self.of_input(x)
        if state is not None:
            gates = gates + self.of_state(state[0])
        i, f, o, g = gates.chunk(4, dim=1)
        memory = i.sigmoid() * g.tanh()
        if state is not None:
            memory = memory + f.sigmoid() * state[1]
        return o.sigmoid() * memory.tanh(), memory


class FeedbackUnet(smp.Unet):
    """A U-Net that is run twice, with the same weights, and sees its first answer the second time.

    Beside the images it takes its own outputs as probabilities, zeros in the first round. In every
    stage of the decoder a convolutional LSTM cell stands in place of the second convolution and
    carries its state from the first round to the second; nothing is carried from batch to batch.

    Source: Shibuya & Hotta 2020, "Feedback U-net for cell image segmentation", arXiv 2004.14581:
    the two rounds, the output fed back to the input, and convolutional LSTM. Chosen here: any
    encoder in place of a plain U-Net's (`plain_unet64` is near it); one cell a stage, and none in
    the encoder; outputs fed back that are not classes; and batch normalisation with statistics of
    each round's own, as Cooijmans et al. 2017 (arXiv 1603.09025) have it.

    Parameters
    ----------
    encoder_name, in_channels, classes, **settings
        As for `smp.Unet`; `in_channels` are the images' alone, and `classes` are fed back.
    """

    def __init__(self, encoder_name: str, in_channels: int, classes: int, **settings: Any) -> None:
        super().__init__(
            encoder_name, in_channels=in_channels + classes, classes=classes, **settings
        )
        self.fed_back = classes
        self.cells, self.after_cells = nn.ModuleList(), nn.ModuleList()
        for block in self.decoder.blocks:
            convolution, *after = block.conv2
            self.cells.append(ConvLSTM(convolution.out_channels))
            self.after_cells.append(nn.Sequential(*after))
            block.conv2 = nn.Identity()
        # Features of the two rounds differ so much in scale that statistics of both together fit
        # neither: a network that validates with them is far worse than in training.
        self._norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        self.first_norms = nn.ModuleList(
            nn.BatchNorm2d(norm.num_features, affine=False) for norm in self._norms
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes, H, W) of the second round; see `rounds`."""
        return self.rounds(images)[-1]

    def rounds(self, images: Tensor) -> list[Tensor]:
        """Return the logits (N, classes, H, W) of both rounds, of images (N, in_channels, H, W)."""
        nothing = images.new_zeros(len(images), self.fed_back, *images.shape[-2:])
        with self._statistics_of_the_first():
            first, states = self._round(images, nothing, [None] * len(self.cells))
        second, _ = self._round(images, _probabilities(first), states)
        return [first, second]

    def _round(
        self, images: Tensor, fed_back: Tensor, states: Sequence[State | None]
    ) -> tuple[Tensor, list[State]]:
        """Return one round's logits, and the states that it leaves to the next."""
        inputs = torch.cat([images, fed_back], dim=1)
        features = self.encoder(inputs.contiguous(memory_format=torch.channels_last))
        # The decoder of smp.Unet, whose own forward has no place for states.
        x = self.decoder.center(features[-1])
        left: list[State] = []
        stages = zip(self.decoder.blocks, self.cells, self.after_cells, strict=True)
        for (block, cell, after), state, skip in zip(
            stages, states, features[-2::-1], strict=False
        ):
            x = block(x, *skip.shape[-2:], None if skip is features[0] else skip)
            left.append(cell(x, state))
            x = after(left[-1][0])
        return self.segmentation_head(x), left

    @contextmanager
    def _statistics_of_the_first(self) -> Iterator[None]:
        """Normalise with the first round's statistics, and gather them in training."""
        self._swap_statistics()
        try:
            yield
        finally:
            self._swap_statistics()

    def _swap_statistics(self) -> None:
        for norm, first in zip(self._norms, self.first_norms, strict=True):
            for name in ("running_mean", "running_var"):
                current = getattr(norm, name)
                setattr(norm, name, getattr(first, name))
                setattr(first, name, current)


def _probabilities(logits: Tensor) -> Tensor:
    """Return a head's outputs between 0 and 1: two exclusive classes, and then any others."""
    logits = logits.float()
    return torch.cat([logits[:, :2].softmax(dim=1), logits[:, 2:].sigmoid()], dim=1)
