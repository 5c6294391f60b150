"""SimCLR: an encoder that tells two views of one image from views of all others.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations",
arXiv 2002.05709.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compkit.config import RunConfig
from compkit.models.network import Network, padded
from compkit_research.pretrain.images import Pair
from compkit_research.pretrain.module import PretrainModule, feature_maps


class Simclr(PretrainModule):
    """An encoder, a projection of its pooled deepest map, and the NT-Xent loss.

    The score is the share of held-back views whose nearest other view, by cosine, is the other
    view of the same image; see `chance`. Near-duplicates, as neighbouring slices are, lower it.

    Parameters
    ----------
    config, encoder, side
        As for `PretrainModule`.
    temperature : float
        Divides the cosines in the loss.
    pretrained : bool
        Load encoder weights as configured.
    """

    def __init__(
        self, config: RunConfig, encoder: str, side: int, temperature: float, pretrained: bool
    ) -> None:
        super().__init__(config, encoder, side)
        # Here, since it takes seconds, and the other methods do without.
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        network = Network(encoder, 1, config.model, pretrained)
        self.backbone, self.stride = network.encoder, network.stride
        with torch.no_grad():
            smallest = torch.zeros(1, 1, 2 * self.stride, 2 * self.stride)
            width = feature_maps(self.backbone.eval(), smallest)[-1].shape[1]
        self.backbone.train()
        self.projection = SimCLRProjectionHead(width, width)
        self.loss = NTXentLoss(temperature)
        self._held_back: list[tuple[Tensor, Tensor]] = []

    def parts(self) -> tuple[nn.Module, int]:
        return self.backbone, self.stride

    def training_step(self, batches: dict[str, Pair], batch_idx: int) -> Tensor:
        batch = batches["unlabelled"]
        # Both views at once: statistics of batch normalisation are of both.
        one, other = self._projected(torch.cat([batch["one"], batch["other"]])).chunk(2)
        with torch.autocast(one.device.type, enabled=False):
            loss = self.loss(one, other)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(one))
        return loss

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        self._held_back.append((self._projected(batch["one"]), self._projected(batch["other"])))

    def on_validation_epoch_end(self) -> None:
        one, other = (torch.cat(views) for views in zip(*self._held_back, strict=True))
        self._held_back = []
        self.log("score", contrastive_accuracy(one, other))

    def _projected(self, images: Tensor) -> Tensor:
        """Return vectors, float32 (N, 128), of grey images (N, 1, H, W)."""
        images, _ = padded(self.stride, images)
        deepest = feature_maps(self.backbone, images)[-1]
        return self.projection(deepest.mean(dim=(2, 3))).float()


def contrastive_accuracy(one: Tensor, other: Tensor) -> Tensor:
    """Return the share of views whose nearest other view, by cosine, is of the same image.

    Parameters
    ----------
    one, other : Tensor of float32, shape (N, D)
        Two views of each of N images.
    """
    views = torch.nn.functional.normalize(torch.cat([one, other]), dim=1)
    cosines = (views @ views.T).fill_diagonal_(-2)
    count = len(one)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return (cosines.argmax(dim=1) == partner).float().mean()


def chance(images: int) -> float:
    """Return the contrastive accuracy of guesses: one of the other 2N - 1 views is right."""
    return 1 / (2 * images - 1)
