"""Networks that reconstruct grey images, whole (an autoencoder) or what is hidden of them (MAE).

Both train the network that compkit train builds, encoder and decoder, with one output: the grey
value.

Sources: He et al. 2021, "Masked autoencoders are scalable vision learners", arXiv 2111.06377;
Xie et al. 2022, "SimMIM", arXiv 2111.09886, whose hidden patches stay in their place, as encoders
with a hierarchy need it; Xu et al. 2023, "Swin MAE", arXiv 2212.13805, where whole windows of
patches are hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compkit.config import RunConfig
from compkit.models.network import Network, padded
from compkit_research.pretrain.images import Puzzle
from compkit_research.pretrain.module import PretrainModule

#: The grey value that hidden pixels have at first: the mean that images are normalised with.
_GREY = 0.449


class Reconstruction(PretrainModule):
    """A network trained by the mean squared error of its answer, and the grey of hidden pixels.

    Where nothing is hidden, a decoder with skip connections may copy the image through the finest
    of them and leave the rest untrained: hiding windows is the cure.

    The score is the share of the variance of held-back images that is explained, over the pixels
    that count: hidden ones, or all of them where none is hidden.
    """

    def __init__(self, config: RunConfig, encoder: str, side: int, pretrained: bool) -> None:
        super().__init__(config, encoder, side)
        self.network = Network(encoder, 1, config.model, pretrained)
        self.grey = nn.Parameter(torch.tensor(_GREY))
        self._sums: list[Tensor] = []

    def parts(self) -> tuple[nn.Module, int]:
        return self.network.encoder, self.network.stride

    def forward(self, batch: Puzzle) -> Tensor:
        """Return the grey values, float32 (N, 1, H, W), of images of which a part is hidden."""
        height, width = batch["images"].shape[-2:]
        # Hidden before the border is reflected, or the reflection would show what is hidden.
        shown, _ = padded(self.network.stride, self.shown(batch))
        return self.network(shown)[..., :height, :width].float()

    def shown(self, batch: Puzzle) -> Tensor:
        """Return what the network sees: the images, with one grey where they are hidden."""
        return torch.where(batch["hidden"], self.grey, batch["images"])

    def training_step(self, batches: dict[str, Puzzle], batch_idx: int) -> Tensor:
        batch = batches["unlabelled"]
        error = (self(batch) - batch["images"]) ** 2
        counted = batch["counted"]
        # A mean over the batch: an image that the augmentation shifted almost out counts little.
        loss = (error * counted).sum() / counted.sum().clamp(min=1)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(error))
        return loss

    def validation_step(self, batch: Puzzle, batch_idx: int) -> None:
        self._sums.append(sums(batch["images"], self(batch), batch["counted"]))

    def on_validation_epoch_end(self) -> None:
        self.log("score", explained_variance(torch.stack(self._sums).sum(dim=0)).float())
        self._sums = []


def sums(truth: Tensor, answer: Tensor, counted: Tensor) -> Tensor:
    """Return what `explained_variance` needs, float64 (4,); it may be summed over batches.

    It is the number of pixels that count, and the sums of the truth, of its squares and of the
    squared errors over them.
    """
    truth, error = truth[counted].double(), (answer - truth)[counted].double()
    count = torch.tensor(len(truth), dtype=torch.float64, device=truth.device)
    return torch.stack([count, truth.sum(), (truth**2).sum(), (error**2).sum()])


def explained_variance(total: Tensor) -> Tensor:
    """Return 1 - mean squared error / variance: 1 if all is right, 0 for the mean everywhere."""
    mean, square, error = total[1:] / total[0]
    return 1 - error / (square - mean**2).clamp(min=torch.finfo(torch.float64).tiny)
