"""What the trainer and the loader are relied on for, seen through them: draws, order, progress."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from compkit.config import MachineConfig, RunConfig, TrainingConfig
from compkit.errors import CompkitError
from compkit.models.checkpoint import CARD, card
from compkit.training import loop
from compkit.training.callbacks import BEST, LAST
from compkit.training.loop import drawn, fit
from compkit.training.module import optimisers

IMAGES, BATCH, STEPS, EPOCHS = 7, 3, 4, 5
CONFIG = RunConfig(
    training=TrainingConfig(steps=STEPS * EPOCHS, steps_per_epoch=STEPS, warmup=0, ema=0.5),
    machine=MachineConfig(device="cpu", precision="32"),
)


class Keys(Dataset):
    """Examples that are their own place in the draw, and image."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(key)


class Recorder(pl.LightningModule):
    """Keeps what it is trained on, and scores 0.1 more each epoch, or less."""

    encoder = "none"
    seen = ("images",)
    config = CONFIG

    def __init__(self, gain: float = 0.1) -> None:
        super().__init__()
        self.gain = gain
        self.layer = torch.nn.Linear(1, 1)
        self.drawn: dict[str, list[list[int]]] = {"labelled": [], "unlabelled": []}

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        for name, keys in batch.items():
            self.drawn[name] += keys.tolist()
        loss = self.layer(torch.ones(1, 1)).sum()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("score", self.gain * (self.current_epoch + 1))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint[CARD] = card(self.config, self.encoder, 1, self.seen)

    def configure_optimizers(self):
        return optimisers(self, CONFIG.training)


class StoppedError(Exception):
    pass


def fitted(part: Path, workers: int, stop_after: int | None = None) -> Recorder:
    config = replace(CONFIG, machine=replace(CONFIG.machine, workers=workers))
    module = Recorder()
    loaders = {"labelled": drawn(Keys(), BATCH, config), "unlabelled": drawn(Keys(), 2, config)}

    def watch(epoch: int, score: float) -> None:
        assert torch.load(part / LAST)["epoch"] == epoch - 1  # it is saved when it is told
        assert score == pytest.approx(0.1 * epoch)
        if epoch == stop_after:
            raise StoppedError

    part.mkdir(exist_ok=True)
    with pytest.raises(StoppedError) if stop_after else none():
        fit(module, loaders, DataLoader(torch.zeros(1)), config, part, "a fit", watch)
    return module


@contextmanager
def none():
    yield


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_draws_on_and_a_resumed_one_where_it_was(tmp_path, workers):
    whole = fitted(tmp_path / "whole", workers)
    begun = fitted(tmp_path / "part", workers, stop_after=2)
    resumed = fitted(tmp_path / "part", workers)
    for name, batch in (("labelled", BATCH), ("unlabelled", 2)):
        places = [place for place, _ in whole.drawn[name]]
        assert places == list(range(EPOCHS * STEPS * batch))
        images = [image for _, image in whole.drawn[name]]
        rounds = [images[i : i + IMAGES] for i in range(0, len(images), IMAGES)]
        assert all(sorted(r) == list(range(IMAGES)) for r in rounds if len(r) == IMAGES)
        assert begun.drawn[name] + resumed.drawn[name] == whole.drawn[name]
    history = pd.read_csv(tmp_path / "part/metrics.csv")
    assert history.epoch.tolist() == list(range(EPOCHS))
    assert history.score.round(6).tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_progress_shows_the_score_of_the_epoch_that_ended_and_is_closed(tmp_path, monkeypatch):
    told: list[tuple[float, str]] = []
    open_bars: list[str] = []

    class Bar:
        done = 0.0

        def advance(self, steps: float = 1, note: str = "") -> None:
            self.done += steps
            told.append((self.done, note))

        def skip(self, steps: float) -> None:
            self.done = steps

    @contextmanager
    def task(label: str, total: float):
        assert total == STEPS * EPOCHS
        open_bars.append(label)
        try:
            yield Bar()
        finally:
            open_bars.remove(label)

    monkeypatch.setattr(loop, "task", task)
    fitted(tmp_path / "part", 0, stop_after=2)
    assert not open_bars  # also where somebody ended it by raising
    fitted(tmp_path / "part", 0)
    assert [done for done, _ in told] == list(range(1, STEPS * EPOCHS + 1))
    notes = [note for done, note in told if note]
    assert notes == [f"score {0.1 * n:.4f} (best {0.1 * n:.4f})" for n in range(1, EPOCHS + 1)]


def test_patience_ends_a_fit_and_the_best_epoch_is_kept(tmp_path):
    config = replace(CONFIG, training=replace(CONFIG.training, patience=2))
    loaders = {"labelled": drawn(Keys(), BATCH, config)}
    module, validation = Recorder(gain=-0.1), DataLoader(torch.zeros(1))
    module.config = config
    for _ in range(2):  # and again where it was killed before anybody knew that it was over
        keeper, rows = fit(module, loaders, validation, config, tmp_path, "a fit")
        assert [round(row["score"], 6) for row in rows] == [-0.1, -0.2, -0.3]
        assert keeper.best_score == pytest.approx(-0.1)
        epochs = [torch.load(tmp_path / name)["state_dict"] for name in (BEST, LAST)]
        assert not torch.equal(epochs[0]["layer.weight"], epochs[1]["layer.weight"])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda c: c.pop("loops"), "loops"),
        (lambda c: c.pop("epoch"), "epoch"),
        (lambda c: c.pop(CARD), CARD),
        (lambda c: c.update(epoch="two"), "two"),
        (lambda c: c.update(optimizer_states=[]), "optim"),
        (lambda c: c["optimizer_states"][0]["state"].clear(), "state is empty"),
        (lambda c: c.pop("averaging_state"), "averaging_state"),
        (lambda c: c.pop("current_model_state"), "current_model_state"),
        (lambda c: c.update(callbacks=3), ""),
        (lambda c: c["state_dict"].pop("layer.bias"), "layer.bias"),
        (
            lambda c: c["state_dict"]["layer.bias"].fill_(float("nan")),
            "not finite (state_dict.layer.bias)",
        ),
        (lambda c: c["callbacks"]["KeepBestAndLast"].update(best_score="x"), "best_score"),
        (lambda c: c["callbacks"]["History"].update(rows=[{"loss": None}]), "rows"),
        (lambda c: c["callbacks"]["History"].clear(), "History.rows"),
        (lambda c: c["callbacks"]["KeepBestAndLast"].clear(), "KeepBestAndLast.best_score"),
        (lambda c: c["callbacks"]["History"]["rows"].clear(), "history"),
        (lambda c: c["callbacks"]["History"].update(rows=[{"loss": 1.0}]), "score"),
        (lambda c: c["callbacks"]["KeepBestAndLast"].update(best_score=0.9), "history"),
        (lambda c: c["optimizer_states"][0].update(x=torch.tensor(float("inf"))), "not finite"),
        (lambda c: c[CARD].update(seen=["0"]), "another fold, or of other data"),
        (lambda c: c[CARD].update(side=0), "side"),
        (lambda c: c[CARD]["config"].update(encoders=[]), "encoders"),
        (lambda c: c[CARD].update(encoder="resnet18"), "another fit (its encoder is resnet18)"),
        (lambda c: c[CARD]["config"].update(seed=5), "another fit (seed: 5 → 0)"),
        (lambda c: c[CARD]["config"].update(seed="x"), "seed"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(tmp_path, spoil, expected):
    fitted(tmp_path, 0, stop_after=1)
    checkpoint = torch.load(tmp_path / LAST)
    spoil(checkpoint)
    torch.save(checkpoint, tmp_path / LAST)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(CompkitError, match=re.escape(str(tmp_path / LAST))) as error:
        fitted(tmp_path, 0)
    assert expected in str(error.value)
    assert (tmp_path / LAST).read_bytes() == before


def test_what_an_older_compkit_began_is_gone_on_with_and_said(tmp_path, capsys):
    fitted(tmp_path, 0, stop_after=2)
    checkpoint = torch.load(tmp_path / LAST)
    del checkpoint[CARD]["seen"]
    torch.save(checkpoint, tmp_path / LAST)
    resumed = fitted(tmp_path, 0)
    assert "drew the same examples" in capsys.readouterr().err
    assert resumed.drawn["labelled"][0][0] == 2 * STEPS * BATCH
