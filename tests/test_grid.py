"""The points of a space's grid, and the answers that give a configuration itself."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.tuning.settings import configured
from compkit.tuning.space import Space, read_space

KAPPA = Path(__file__).parents[1] / "configs/tune-kappa.yaml"


def laid_over(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_space(path)


def only(tmp_path: Path, text: str) -> Space:
    """Return a space of these entries alone."""
    names = [name for name in read_space().names if not name.endswith(".on")]
    return laid_over(tmp_path, "".join(f"{n}: null\n" for n in names if n not in text) + text)


def test_a_grid_holds_all_combinations_of_round_numbers(tmp_path):
    text = "training.lr: {float: [1e-4, 1e-2], log: true}\nhead: {choice: [slots, boundary]}\n"
    space = only(tmp_path, text + "training.steps: {int: [100, 800], step: 100}\n")
    grid = space.grid(3)
    assert {name for point in grid for name in point} == set(space.names)
    assert len({tuple(point.values()) for point in grid}) == len(grid) == 3 * 2 * 3
    assert {point["training.lr"] for point in grid} == {1e-4, 1e-3, 1e-2}
    assert {point["training.steps"] for point in grid} == {100, 500, 800}


def test_a_grid_asks_only_for_what_matters_at_a_point():
    space = read_space(KAPPA)
    assert set(space.names) == {"loss", "loss.kappa", "loss.adaptive_lambda"}
    kappas = [0.5, 1.414, 4, 11.31, 32, 90.51, 256]
    lambdas = [4, 8, 16, 32, 64, 128, 256]
    assert space.grid(7) == [
        *({"loss": "t-vMF", "loss.kappa": kappa} for kappa in kappas),
        *({"loss": "adaptive t-vMF", "loss.adaptive_lambda": one} for one in lambdas),
    ]
    for point in space.grid(3):
        assert space.told(configured(RunConfig(), settings_at(space, point))) == point


def test_a_grid_has_a_switched_off_range_once(tmp_path):
    space = only(tmp_path, "augment.blur: {float: [1, 2], off: 0}\n")
    blur = "augment.blur"
    assert space.grid(2) == [
        {f"{blur}.on": False}, {f"{blur}.on": True, blur: 1}, {f"{blur}.on": True, blur: 2}
    ]  # fmt: skip


def test_a_grid_that_nobody_can_try_is_refused():
    with pytest.raises(CompkitError, match="more than 10000 points: fix"):
        read_space().grid(3)


def settings_at(space: Space, answers: dict) -> dict:
    return space.suggest(optuna.trial.FixedTrial(answers))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augment.rotate": 0.0, "training.ema": 0.0, "head": "slots"},
        {"loss.terms": {"tvmf_dice": 1.0}, "loss.kappa": 7.0, "encoders": ["resnet18"]},
    ],
)
def test_answers_give_the_configuration_that_they_are_told_from(settings):
    space, config = read_space(), configured(RunConfig(), settings)
    answers = space.told(config)
    assert answers is not None
    assert configured(config, settings_at(space, answers)) == config
    other = configured(RunConfig(), {"training.lr": 1e-3, "head": "affinity", "seed": config.seed})
    assert space.told(other) != answers


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {"training.lr": 0.5}),
        ("", {"loss.terms": {"dice": 2.0}}),
        ("", {"encoders": ["resnet18", "resnet34"]}),
        ("", {"augment.rotate": 1.0}),
        ("head: slots", {}),
        ("input.size: {int: [64, 128], step: 32}", {}),
        ("input.size: {int: [64, 128], step: 32}", {"input.size": 100}),
    ],
)
def test_a_configuration_beyond_the_space_has_no_answers(tmp_path, text, settings):
    assert laid_over(tmp_path, text).told(configured(RunConfig(), settings)) is None
