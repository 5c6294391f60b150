"""One network in training: steps, validation on decoded regions, checkpoints that stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Required, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from compkit.config import RunConfig, TrainingConfig
from compkit.data.dataset import Batch
from compkit.data.resample import resized
from compkit.heads import make_head
from compkit.heads.partition import Truth
from compkit.inference.predict import Predictor
from compkit.metrics.bootstrap import mean
from compkit.metrics.named import beside, image_scores
from compkit.models.checkpoint import CARD, card
from compkit.models.network import Network, padded


class Batches(TypedDict, total=False):
    """What one step learns from: labelled images, and those that another network labelled."""

    labelled: Required[Batch]
    pseudo: Batch


class SegmentationModule(pl.LightningModule):
    """A network and its head under a run's configuration.

    Parameters
    ----------
    config : RunConfig
    encoder : str
        One of its encoders.
    side : int
        Side in pixels of the images, as the network sees them.
    ranking : str
        The metric that ranks, logged as ``score``.
    pretrained : bool
        Load encoder weights as configured.
    seen : sequence of str
        Digests of the labelled images that it learns from, or its starting weights did.
    """

    def __init__(
        self,
        config: RunConfig,
        encoder: str,
        side: int,
        ranking: str,
        pretrained: bool = True,
        seen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.side, self.ranking = config, encoder, side, ranking
        self.seen, self._metrics = list(seen), beside(ranking)
        self.head = make_head(config, side)
        self.network = Network(encoder, len(self.head.outputs), config.model, pretrained)
        if config.training.freeze_encoder:
            self.network.freeze_encoder()
        # Validation is unaugmented: views are for the maps that are kept.
        self._predictor = Predictor(self.network, self.head, ("identity",), config.input.size)
        self._scores: list[dict[str, float]] = []

    def on_train_epoch_start(self) -> None:
        # Dropout and the like draw from the global generator: a resumed epoch draws the same.
        torch.manual_seed(seed_of(self.config.seed, self.current_epoch))

    def training_step(self, batch: Batches, batch_idx: int) -> Tensor:
        loss = self._supervised(batch["labelled"])
        self._log_loss("loss", loss)
        if "pseudo" not in batch:
            return loss
        other = self._supervised(batch["pseudo"])
        self._log_loss("unlabelled_loss", other)
        u = self.config.unlabelled
        risen = min(1.0, (self.global_step + 1) / max(1.0, u.ramp * self.config.training.steps))
        return loss + u.weight * risen * other

    def _supervised(self, batch: Batch) -> Tensor:
        truth = Truth(batch["labels"], batch["targets"], batch["weights"])
        images, (height, width) = padded(self.network.stride, batch["images"])
        return self.head.loss(self.network(images)[..., :height, :width], truth)

    def _log_loss(self, name: str, loss: Tensor) -> None:
        size = self.config.input.batch
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=size)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        maps = self._predictor(images)
        shape = (labels.shape[-2], labels.shape[-1])
        self.head.foreground.observe(resized(maps[:, :1], shape), labels)
        for one, truth in zip(maps.cpu().numpy(), labels.cpu().numpy(), strict=True):
            regions = self.head.decode(one, self.head.defaults, shape)
            self._scores.append(image_scores(truth, regions, self._metrics))

    def on_validation_epoch_end(self) -> None:
        rows = np.array([list(scores.values()) for scores in self._scores])
        means = dict(zip(self._metrics, mean(rows, axis=0).tolist(), strict=True))
        self._scores = []
        self.head.foreground.end_validation()
        self.log_dict({"score": means[self.ranking], **means})

    def configure_optimizers(self) -> Any:
        return optimisers(self.network, self.config.training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD] = card(self.config, self.encoder, self.side, self.seen) | {
            "head": self.head.foreground.state()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = list(dict.fromkeys([*checkpoint[CARD].get("seen", ()), *self.seen]))
        self.head.foreground.load_state(checkpoint[CARD]["head"])


def optimisers(module: nn.Module, t: TrainingConfig) -> Any:
    """Return what Lightning asks for: an optimiser of all that learns, and its schedule."""
    groups = param_groups_weight_decay(module, t.weight_decay)
    optimizer: torch.optim.Optimizer
    if t.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=t.lr, momentum=t.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, lr=t.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(t, step))
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def rate(t: TrainingConfig, step: int) -> float:
    """Return the learning rate at `step` as a share of its peak: warm-up, then poly or cosine."""
    if step < t.warmup:
        return (step + 1) / (t.warmup + 1)
    done = min(1.0, (step - t.warmup) / max(1, t.steps - t.warmup))
    return (1 - done) ** 0.9 if t.schedule == "poly" else 0.5 * (1 + float(np.cos(np.pi * done)))


def seed_of(*parts: int) -> int:
    """Return a 32-bit seed that depends on every part."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
