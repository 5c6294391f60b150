"""What all methods of pretraining have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from compkit.config import RunConfig
from compkit.models.checkpoint import CARD, card
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
