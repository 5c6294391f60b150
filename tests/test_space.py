"""The search space: the shipped one, what a user lays over it, its grid, and what is refused."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from compkit.config import InputConfig, RunConfig
from compkit.config.check import check
from compkit.config.files import from_plain, read_yaml, setting_names
from compkit.errors import CompkitError
from compkit.tuning.space import Space, configured, read_space

CONFIGS = Path(__file__).parents[1] / "configs"


def laid_over(tmp_path: Path, text: str, base: RunConfig | None = None) -> Space:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_space(path, base)


def trials(space: Space, count: int) -> list[tuple[dict, dict]]:
    """Return settings and Optuna's parameters of random trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask() for _ in range(count)]
    return [(space.suggest(trial), trial.params) for trial in asked]


def test_any_trial_of_the_shipped_space_can_be_trained():
    space = read_space()
    seen: set[str] = set()
    for settings, asked in trials(space, 200):
        config = configured(RunConfig(), settings)
        check(config)
        assert len(config.encoders) == 1
        assert config.training.lr == asked["training.lr"]
        assert ("tvmf_dice" in settings["loss.terms"]) == ("loss.kappa" in settings)
        adaptive = "adaptive_tvmf_dice" in settings["loss.terms"]
        assert adaptive == ("loss.adaptive_lambda" in settings)
        assert (settings["augment.blur"] > 0) == ("augment.blur_p" in asked)
        seen |= set(asked)
    assert seen == set(space.ranges)
    assert {name for name in setting_names() if name.startswith("augment.")} <= seen


@pytest.mark.parametrize("name", ["ct-mini", "seed-report", "seed-report-cpu"])
def test_a_search_can_begin_from_the_shipped_configurations(name):
    config = from_plain(read_yaml(CONFIGS / f"{name}.yaml"))
    space = read_space(base=config)
    params = space.params_of_base()
    assert params is not None
    settings = space.suggest(optuna.trial.FixedTrial(params))
    assert configured(config, settings) == config
    elsewhere = configured(config, {"training.ema": 0.5})
    assert read_space(base=elsewhere).params_of_base() is None


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("tune-*.yaml")), ids=lambda path: path.name)
def test_the_shipped_narrower_spaces_are_sound(path):
    narrow, whole = read_space(path), read_space()
    assert 0 < len(narrow.ranges) < len(whole.ranges)
    assert "encoders" not in narrow.ranges


def test_entries_replace_add_fix_and_leave_out(tmp_path):
    text = """
    training.lr: {float: [1e-3, 2e-3]}
    training.steps: {int: [1000, 3000], step: 1000}
    encoders: {choice: [[resnet34], [resnet18]]}
    head: boundary
    loss.terms: {tvmf_dice: 1}
    training.schedule: null
    partition.reach: {choice: [[3, 9], [3, 9, 27]]}
    """
    space = laid_over(tmp_path, text)
    for settings, asked in trials(space, 20):
        assert 1e-3 <= settings["training.lr"] <= 2e-3
        assert settings["training.steps"] in (1000, 2000, 3000)
        assert settings["encoders"] in (["resnet18"], ["resnet34"])
        assert settings["head"] == "boundary"
        assert asked["partition.reach"] == ", ".join(map(str, settings["partition.reach"]))
        assert "loss.kappa" in asked  # the loss that is fixed has it
        assert not {"training.schedule", "head", "loss.terms", "loss.adaptive_lambda"} & set(asked)
        assert "training.schedule" not in settings


def test_what_is_left_to_the_configuration_still_decides_what_is_asked(tmp_path):
    for terms, asked in (({"dice": 1.0}, set()), ({"tvmf_dice": 1.0}, {"loss.kappa"})):
        base = configured(RunConfig(), {"loss.terms": terms})
        space = laid_over(tmp_path, "loss.terms: null", base)
        for _, params in trials(space, 3):
            assert {name for name in params if name.startswith("loss")} == asked


def test_an_entry_may_come_before_what_its_condition_is_about(tmp_path):
    text = """
    input.focus: {float: [0.1, 1], when: {input.crop: [64, 96]}}
    input.crop: {choice: [null, 64, 96]}
    """
    for settings, _ in trials(laid_over(tmp_path, text), 20):
        assert ("input.focus" in settings) == (settings["input.crop"] is not None)
        check(configured(RunConfig(), settings))


def test_what_is_fixed_may_be_needed_by_what_varies(tmp_path):
    focus = "input.focus: {float: [0.2, 1]}\n"
    with pytest.raises(CompkitError, match=r"input\.focus 0.2 .*needs input\.crop"):
        laid_over(tmp_path, focus)
    laid_over(tmp_path, focus, RunConfig(input=InputConfig(crop=64)))
    laid_over(tmp_path, focus + "input.crop: 64")


def only(tmp_path: Path, text: str) -> Space:
    """Return a space of these entries alone."""
    nothing = "".join(f"{name}: null\n" for name in read_space().ranges if f"{name}:" not in text)
    return laid_over(tmp_path, nothing + text)


def test_a_grid_holds_all_combinations_of_round_numbers(tmp_path):
    text = "training.lr: {float: [1e-4, 1e-2], log: true}\nhead: {choice: [slots, boundary]}\n"
    space = only(tmp_path, text + "training.steps: {int: [100, 800], step: 100}\n")
    grid = space.grid(3)
    assert {name for point in grid for name in point} == set(space.ranges)
    assert len({tuple(point.values()) for point in grid}) == len(grid) == 3 * 2 * 3
    assert {point["training.lr"] for point in grid} == {1e-4, 1e-3, 1e-2}
    assert {point["training.steps"] for point in grid} == {100, 500, 800}


def test_the_grid_of_kappa_asks_only_for_what_matters_at_a_point():
    space = read_space(CONFIGS / "tune-kappa.yaml")
    kappas = [0.5, 1.414, 4, 11.31, 32, 90.51, 256]
    lambdas = [4, 8, 16, 32, 64, 128, 256]
    grid = space.grid(7)
    assert grid == [
        *({"loss.terms": "tvmf_dice: 1", "loss.kappa": kappa} for kappa in kappas),
        *({"loss.terms": "adaptive_tvmf_dice: 1", "loss.adaptive_lambda": one} for one in lambdas),
    ]
    for point in grid:
        settings = space.suggest(optuna.trial.FixedTrial(point))
        assert set(settings) == set(point)
        check(configured(RunConfig(), settings))


def test_a_grid_that_nobody_can_try_is_refused():
    with pytest.raises(CompkitError, match="more than 1000 points: fix"):
        read_space().grid(3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainng.lr: 0.1", "trainng.lr: there is no .*did you mean 'training.lr'"),
        ("seeed: null", "seeed: .*did you mean 'seed'"),
        ("training.lr: {float: [0.1, 0.01]}", "training.lr .*empty or reversed"),
        ("training.lr: {float: [0.1]}", "training.lr .*float"),
        ("training.lr: {float: [0.1, .inf]}", "training.lr .*inf is no finite number"),
        ("training.lr: {float: [0, 1], log: true}", "training.lr .*from above 0"),
        ("training.lr: {float: [0, 1]}", r"training.lr 0.* .*training\.lr must be positive"),
        ("training.lr: {float: [0.1, 1], log: 10}", "training.lr .*log"),
        ("training.lr: {flot: [0.1, 1]}", "training.lr flot: .*valid number"),
        ("training.lr: {float: [0.1, 1], lg: true}", "training.lr .*lg"),
        ("training.lr: {float: [0.1, 1], step: 2}", "training.lr .*step goes with int"),
        ("training.lr: {float: [0.1, 1], int: [1, 2]}", "training.lr .*one of float, int and"),
        ("training.lr: many", "training.lr many .*valid number"),
        ("training.lr: {choice: [null]}", "training.lr None .*valid number"),
        ("training.steps: {float: [100, 200]}", "training.steps .*valid integer"),
        ("training.steps: {int: [100, 250], step: 100}", "training.steps .*leads from one end"),
        ("augment.hflip: {float: [0, 1.5]}", "augment.hflip 1.5 .*probabilities"),
        ("head: {choice: []}", "head .*at least 1"),
        ("head: {choice: [slots, slots]}", "head .*slots is there twice"),
        ("head: {choice: [boundary, boundry]}", "head boundry: .*did you mean 'boundary'"),
        ("training.schedule: {choice: [polly]}", "training.schedule polly .*'poly'"),
        ("encoders: {choice: [[resnet81]]}", "encoders resnet81: there is no timm encoder"),
        ("loss.terms: {choice: [{dise: 1}]}", "loss.terms dise: 1: .*did you mean 'dice'"),
        ("seed: {int: [0, 9], when: {hed: slots}}", "seed: .*'hed'.*did you mean 'head'"),
        ("seed: {int: [0, 9], when: {head: boundry}}", "seed: .*boundry of head.*'boundary'"),
        ("seed: {int: [0, 9], when: {head: []}}", "seed .*when.head"),
        ("seed: {int: [0, 9], when: {training.lr: 0.1}}", "seed: .*is a range"),
        ("augment.blur: {float: [0, 1]}", "augment.blur_p: `when` names augment.blur.* a range"),
        (
            "head: {choice: [slots], when: {seed: 1}}\nseed: {choice: [1], when: {head: slots}}",
            "its `when` depends on itself",
        ),
        ("- head", "does not hold entries"),
        ("head: [", "is not valid YAML"),
    ],
)
def test_refusals_name_the_file_the_setting_and_the_fault(tmp_path, text, expected):
    with pytest.raises(CompkitError, match=expected) as caught:
        laid_over(tmp_path, text)
    shipped = "space.yaml" in str(caught.value)
    assert shipped or str(caught.value).startswith(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_a_configuration_that_does_not_fit_are_named(tmp_path):
    with pytest.raises(CompkitError, match=r"there is no search space .*absent\.yaml"):
        read_space(tmp_path / "absent.yaml")
    base = configured(RunConfig(), {"model.weights": {"tf_efficientnet_lite0": "none"}})
    with pytest.raises(CompkitError, match=r"space\.yaml: encoders .*model\.weights must name"):
        read_space(base=base)
