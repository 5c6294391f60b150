"""One network in training: steps, validation on decoded regions, checkpoints that stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Required, TypedDict, cast

import numpy as np
import pytorch_lightning as pl
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from compkit.config import RunConfig, TrainingConfig
from compkit.data.arrays import GREY, Pixels
from compkit.data.dataset import Batch
from compkit.heads import make_head
from compkit.heads.partition import Truth
from compkit.inference.predict import Predictor
from compkit.metrics.bootstrap import mean
from compkit.metrics.named import beside, image_scores
from compkit.models.checkpoint import CARD, card
from compkit.models.network import Network, padded
from compkit.resample import resized


class Batches(TypedDict, total=False):
    """What one step learns from: labelled images, others', and those that a network labelled."""

    labelled: Required[Batch]
    external: Batch
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
    pixels : Pixels
        What the images are.

    Attributes
    ----------
    parts : int
        Into how many micro-batches a batch falls, of which one is computed at a time. The gradient
        is the mean of theirs: that of the batch, but for what a loss pools over images (the Dice
        family) and for statistics of batch normalisation, which are of a micro-batch each.
    """

    def __init__(
        self,
        config: RunConfig,
        encoder: str,
        side: int,
        ranking: str,
        pretrained: bool = True,
        seen: Sequence[str] = (),
        pixels: Pixels = GREY,
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.side, self.ranking = config, encoder, side, ranking
        self.seen, self._metrics, self.parts = list(seen), beside(ranking), 1
        self.head = make_head(config, side)
        self.pixels, outputs = pixels, len(self.head.outputs)
        self.network = Network(
            encoder, outputs, config.model, pretrained, pixels.channels, pixels.bits
        )
        if config.training.freeze_encoder:
            self.network.freeze_encoder()
        # Validation is unaugmented: views are for the maps that are kept.
        self._predictor = Predictor(self.network, self.head, ("identity",), config.input.size)
        self._scores: list[dict[str, float]] = []

    def on_train_epoch_start(self) -> None:
        # Dropout and the like draw from the global generator: a resumed epoch draws the same.
        torch.manual_seed(seed_of(self.config.seed, self.current_epoch))

    def training_step(self, batch: Batches, batch_idx: int) -> Tensor:
        """Return what the last micro-batch adds to the loss; the others went backwards by then."""
        self.zero_grad()
        loss = self._share(batch, 0)
        for number in range(1, self.parts):
            self.trainer.strategy.backward(loss, None)
            loss = self._share(batch, number)
        return loss

    def optimizer_zero_grad(self, *_: Any) -> None:
        """Leave the gradients that `training_step` left, after which the trainer calls this."""

    def _share(self, batch: Batches, number: int) -> Tensor:
        """Return what one micro-batch adds to the loss of a batch."""
        own = batch["labelled"]
        if "external" in batch:
            weights = torch.where(own["labels"] > 0, 1.0, self.config.external.background)
            own = cast(Batch, {**own, "weights": weights[:, None] * own["weights"]})
        loss = self._supervised_share("loss", own, number)
        if "external" in batch:
            other = self._supervised_share("external_loss", batch["external"], number)
            loss = loss + self.config.external.weight * other
        if "pseudo" not in batch:
            return loss
        other = self._supervised_share("unlabelled_loss", batch["pseudo"], number)
        u = self.config.unlabelled
        risen = min(1.0, (self.global_step + 1) / max(1.0, u.ramp * self.config.training.steps))
        return loss + u.weight * risen * other

    def _supervised_share(self, name: str, batch: Batch, number: int) -> Tensor:
        part = micro_batch(batch, self.parts, number)
        loss, count = self.supervised(part), len(part["images"])
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=count)
        return loss * (count / len(batch["images"]))

    def supervised(self, batch: Batch) -> Tensor:
        """Return the loss of images with labels, whoever gave these."""
        truth = Truth(batch["labels"], batch["targets"], batch["weights"])
        images, (height, width) = padded(self.network.stride, batch["images"])
        return self.head.loss(self.network(images)[..., :height, :width], truth)

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
        checkpoint[CARD] = card(self.config, self.encoder, self.side, self.seen, self.pixels) | {
            "head": self.head.foreground.state()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = list(dict.fromkeys([*checkpoint[CARD].get("seen", ()), *self.seen]))
        self.head.foreground.load_state(checkpoint[CARD]["head"])


def micro_batch(batch: Batch, parts: int, number: int) -> Batch:
    """Return one of as many parts of a batch, of which the first are the largest."""
    tensors = cast(dict[str, Tensor], batch)
    return cast(Batch, {key: one.tensor_split(parts)[number] for key, one in tensors.items()})


def optimisers(module: nn.Module, t: TrainingConfig) -> Any:
    """Return what Lightning asks for: an optimiser of all that learns, and its schedule."""
    groups: list[dict[str, Any]] = param_groups_weight_decay(module, t.weight_decay)
    if t.encoder_lr != 1:
        encoder: Any = module.encoder
        own = set(encoder.parameters())
        parts = [
            group | {"params": [p for p in group["params"] if (p in own) is inside], "lr": lr}
            for group in groups
            for inside, lr in ((False, t.lr), (True, t.lr * t.encoder_lr))
        ]
        groups = [part for part in parts if part["params"]]
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
