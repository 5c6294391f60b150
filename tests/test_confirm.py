"""What a study settles for: its best trial, or what the trials began from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import create_trial

from compkit.config import RunConfig
from compkit.errors import InUseError
from compkit.tuning.job import confirm
from compkit.tuning.trial import Runs

TUNED = {"settings": {"training.lr": 0.0123}, "image_scores": [0.5, 0.7], "run": "one"}


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("of_base", "wins"), [(0.5, True), (0.6, False), (0.7, False), (None, True)]
)
def test_the_configuration_itself_is_kept_where_no_trial_beats_it(count, of_base, wins):
    base = RunConfig()
    study = optuna.create_study(direction="maximize")
    if of_base is not None:
        attributes = {"image_scores": [of_base] * 2, "run": "base", "settings": {}, "base": True}
        study.add_trial(create_trial(value=of_base, user_attrs=attributes))
    study.add_trial(create_trial(value=0.6, user_attrs=TUNED))

    def decoder(config: RunConfig) -> SimpleNamespace:
        assert config.seed == count
        each = [0.5, 0.7] if config.training.lr == 0.0123 else [of_base, of_base]
        return SimpleNamespace(
            ranking="adjusted_all",
            image_scores={"adjusted_all": each},
            image_groups=["p", "q"],
        )

    def evaluated(configs: dict[str, RunConfig]) -> dict[str, SimpleNamespace]:
        return {name: decoder(config) for name, config in configs.items()}

    chosen = confirm(study, base, SimpleNamespace(hold_out=None, evaluated=evaluated), count)
    assert all(one["groups"] == ["p", "q"] for one in study.user_attrs["confirmed"])
    assert len(study.user_attrs["confirmed"]) == count
    assert (chosen == base) is not wins
    assert (chosen.training.lr == 0.0123) is wins


def test_what_another_worker_trains_is_left_for_last(tmp_path, monkeypatch):
    trained = []

    @contextmanager
    def owned(runs: Runs, config: RunConfig, wait: bool) -> Iterator[SimpleNamespace]:
        if config.seed == 1 and not wait:
            raise InUseError("by another worker")
        trained.append(config.seed)
        yield SimpleNamespace(parts=list)

    monkeypatch.setattr(Runs, "owned", owned)
    monkeypatch.setattr("compkit.tuning.trial.tune_run", lambda run: len(trained))
    configs = {f"seed {seed}": RunConfig(seed=seed) for seed in range(3)}
    decoders = Runs("phantom", tmp_path).evaluated(configs)
    assert trained == [0, 2, 1]
    assert list(decoders.items()) == [("seed 0", 1), ("seed 1", 3), ("seed 2", 2)]
