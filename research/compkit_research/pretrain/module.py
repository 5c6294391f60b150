"""What all methods of pretraining have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from compkit.config import RunConfig
from compkit.models.checkpoint import CARD, card
from compkit.models.network import normalised
from compkit.training.module import optimisers, seed_of


class PretrainModule(pl.LightningModule, ABC):
    """A module that learns from images without labels, reproducibly.

    Parameters
    ----------
    config : RunConfig
        The run.
    encoder : str
        Which of its encoders.
    side : int
        Side in pixels of whole images, as the network sees them.
    """

    def __init__(self, config: RunConfig, encoder: str, side: int) -> None:
        super().__init__()
        self.config, self.encoder, self.side = config, encoder, side
        #: Digests of labelled images that the weights which it begins with learnt from.
        self.seen: list[str] = []

    @abstractmethod
    def parts(self) -> tuple[nn.Module, int]:
        """Return the encoder that learns, and the stride of its network."""

    def on_train_epoch_start(self) -> None:
        # Dropout and the like draw from the global generator: a resumed epoch draws the same.
        torch.manual_seed(seed_of(self.config.seed, self.current_epoch))

    def configure_optimizers(self) -> Any:
        return optimisers(self, self.config.training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD] = card(self.config, self.encoder, self.side, self.seen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = list(checkpoint[CARD].get("seen", ()))


def feature_maps(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """Return what a network's encoder makes of grey images, the finest map first.

    Parameters
    ----------
    encoder : Module
        That of a `Network`.
    images : Tensor of float32, shape (N, 1, H, W)
        Between 0 and 1; H and W are multiples of the network's stride.

    Returns
    -------
    list of Tensor
        Of shape (N, C, h, w) each, all coarser than the images.
    """
    maps = encoder(normalised(images))
    # A plain transformer's encoder returns its class tokens beside its maps.
    maps = maps[0] if isinstance(maps, tuple) else maps
    return [m for m in maps if m.shape[1] and m.shape[-1] < images.shape[-1]]
