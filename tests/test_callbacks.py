"""Callbacks on their own: history, best scores, averaged weights."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from compkit.config import TrainingConfig
from compkit.errors import CompkitError
from compkit.models.checkpoint import CARD
from compkit.run import FITTED
from compkit.training.callbacks import (
    BEST,
    LAST,
    History,
    KeepBestAndLast,
    finish,
)
from compkit.training.module import rate


def trainer(epoch: int, score: float, loss: float = 0.5) -> SimpleNamespace:
    saved: list[str] = []
    return SimpleNamespace(
        current_epoch=epoch,
        global_step=10 * (epoch + 1),
        callback_metrics={"loss": torch.tensor(loss), "score": torch.tensor(score)},
        save_checkpoint=lambda path: saved.append(path.name),
        saved=saved,
    )


def test_history_goes_on_where_its_state_was_taken(tmp_path):
    one = History(tmp_path / "m.csv")
    one.on_train_epoch_end(trainer(0, 0.1), None)
    state = one.state_dict()
    one.on_train_epoch_end(trainer(1, 0.9), None)  # lost with the process
    other = History(tmp_path / "m.csv")
    other.load_state_dict(state)
    other.on_train_epoch_end(trainer(1, 0.2), None)
    table = pd.read_csv(tmp_path / "m.csv")
    assert table.epoch.tolist() == [0, 1]
    assert table.score.round(6).tolist() == [0.1, 0.2]


def test_a_loss_that_is_not_finite_ends_the_fit(tmp_path):
    with pytest.raises(CompkitError, match="not finite by step 10"):
        History(tmp_path / "m.csv").on_train_epoch_end(trainer(0, 0.1, float("nan")), None)
    assert not (tmp_path / "m.csv").exists()


def test_a_fit_is_not_over_before_its_checkpoint_is_cut_down(tmp_path, monkeypatch):
    whole = {"state_dict": {"w": torch.zeros(2)}, CARD: {}, "optimizer_states": [1]}
    for name in (BEST, LAST):
        torch.save(whole, tmp_path / name)

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(Path, "write_bytes", full)
        finish(tmp_path, {"score": 0.5})
    assert {path.name for path in tmp_path.iterdir()} == {BEST, LAST}  # gone on with, another time
    finish(tmp_path, {"score": 0.5})
    assert (tmp_path / FITTED).is_file()
    assert set(torch.load(tmp_path / LAST)) == {"state_dict", CARD}


def test_best_is_kept_only_when_better_also_after_resuming(tmp_path):
    keeper = KeepBestAndLast(tmp_path)
    saved = []
    for epoch, score in enumerate([0.3, 0.3, 0.5]):
        now = trainer(epoch, score)
        keeper.on_train_epoch_end(now, None)
        saved.append(now.saved)
    assert saved == [["best.ckpt", "last.ckpt"], ["last.ckpt"], ["best.ckpt", "last.ckpt"]]
    resumed = KeepBestAndLast(tmp_path)
    resumed.load_state_dict(keeper.state_dict())
    now = trainer(3, 0.4)
    resumed.on_train_epoch_end(now, None)
    assert now.saved == ["last.ckpt"]


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_the_rate_warms_up_and_falls_to_zero(schedule):
    t = TrainingConfig(steps=100, steps_per_epoch=10, warmup=10, schedule=schedule)
    rates = [rate(t, step) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    if schedule == "poly":
        assert rates[55] == pytest.approx(0.5**0.9)
