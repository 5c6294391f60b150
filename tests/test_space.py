"""The search space: the shipped one, what a user lays over it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compkit.config import InputConfig, RunConfig
from compkit.config.check import check
from compkit.config.files import from_plain, read_yaml, setting_names
from compkit.errors import CompkitError
from compkit.tuning.settings import configured
from compkit.tuning.sides import in_pixels
from compkit.tuning.space import Space, print_space, read_space, refuse_other

CONFIGS = Path(__file__).parents[1] / "configs"

#: Freezes or replaces whatever the shipped space asks under a condition.
FLAT = "loss: dice\naugment.affine_p: null\n" + "".join(
    f"augment.{name}: 0\n"
    for name in ("rotate", "scale", "shift", "elastic", "contrast", "noise", "blur")
)


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
        seen |= set(asked)
    assert seen == set(space.names)
    numbers = {name for name in setting_names() if name.startswith("augment.")}
    assert numbers <= seen


def test_the_default_configuration_lies_in_the_shipped_space():
    default = RunConfig()
    labels = {p.name: p.definition() for p in read_space().parameters}
    assert default.encoders[0] in labels["encoder"]["choice"]
    assert default.head in labels["head"]["choice"]
    assert {"loss.terms": default.loss.terms} in labels["loss"]["choice"].values()
    assert default.training.ema in labels["training.ema"]["choice"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("tune-*.yaml")), ids=lambda path: path.name)
def test_the_shipped_narrower_spaces_are_sound(path):
    narrow, whole = read_space(path), read_space()
    assert 0 < len(narrow.names) < len(whole.names)
    assert "encoder" not in narrow.names


@pytest.mark.parametrize("name", ["ct-mini", "seed-report", "seed-report-cpu"])
def test_a_search_can_begin_from_the_shipped_configurations(name):
    config = from_plain(read_yaml(CONFIGS / f"{name}.yaml"))
    assert read_space(base=config).lacking(config) == ""
    elsewhere = replace(config, training=replace(config.training, ema=0.5))
    space = read_space(base=elsewhere)
    assert space.lacking(elsewhere) == "training.ema"
    assert space.told(elsewhere) is None


def input_of(space: Space) -> dict[str, dict]:
    return next(p.definition()["choice"] for p in space.parameters if p.name == "input")


def test_input_sizes_are_shares_of_the_images_side(tmp_path):
    wide = input_of(read_space(side=512))
    assert wide["512 px"] == {"input.size": None, "input.crop": None}
    assert wide["256 px"] == {"input.size": 256, "input.crop": None}
    assert wide["640 px in crops of 384"] == {"input.size": 640, "input.crop": 384}
    base = RunConfig(input=InputConfig(size=224, crop=100))
    assert input_of(read_space(base=base, side=512)) == wide | {
        "224 px in crops of 100": {"input.size": 224, "input.crop": 100}
    }
    assert read_space(base=base, side=512).lacking(base) == ""
    only = input_of(laid_over(tmp_path, "input: {sides: [[2, 1]]}", RunConfig()))
    assert set(only) == {"512 px", "1024 px in crops of 512"}


@given(side=st.integers(16, 1024), size=st.sampled_from([None, 64, 160]), focus=st.booleans())
def test_any_input_size_fits_its_images(side, size, focus):
    crop = min(side, size or side) // 2 + 8
    own = InputConfig(size=size, crop=crop, focus=0.5 if focus else 0.0)
    entry = in_pixels({"sides": [0.5, 1, [1, 0.75], [0.25, 1]], "when": {}}, side, own)
    assert list(entry) == ["choice", "when"]
    for settings in entry["choice"].values():
        config = configured(RunConfig(input=own), settings)
        check(config)
        assert (config.input.crop or 0) <= (config.input.size or side)


def test_a_condition_decides_what_is_asked():
    space = read_space()
    for settings, asked in trials(space, 60):
        assert ("tvmf_dice" in settings["loss.terms"]) == ("loss.kappa" in settings)
        adaptive = "adaptive_tvmf_dice" in settings["loss.terms"]
        assert adaptive == ("loss.adaptive_lambda" in settings)
        assert asked["augment.rotate.on"] == ("augment.rotate" in asked)
        assert (settings["augment.rotate"] >= 3) == asked["augment.rotate.on"]
        assert asked["augment.blur.on"] == ("augment.blur_p" in asked)
        assert set(asked) <= set(space.names)


def test_a_fixed_trial_gives_the_settings_that_it_names(tmp_path):
    space = laid_over(
        tmp_path, FLAT + "input: null\nencoder: resnet18\nhead: slots\ntraining.ema: 0\n"
    )
    asked = {"augment.hflip": 0.5, "augment.vflip": 0.0, "augment.rot90": 0.1}
    asked |= {"training.lr": 0.002, "training.weight_decay": 0.01, "training.schedule": "poly"}
    settings = space.suggest(optuna.trial.FixedTrial(asked))
    assert settings["encoders"] == ["resnet18"]
    assert settings["loss.terms"] == {"dice": 1.0}
    assert (settings["head"], settings["training.lr"]) == ("slots", 0.002)
    assert settings["augment.noise"] == 0
    assert configured(RunConfig(), settings).encoders == ("resnet18",)


def test_entries_replace_add_freeze_and_leave_out(tmp_path):
    text = """
    training.lr: {float: [1e-3, 2e-3]}
    training.steps: {int: [1000, 3000], step: 1000}
    augment.rotate: {float: [1, 2]}
    encoder: {choice: [resnet34, resnet18]}
    head: boundary
    training.schedule: null
    partition.reach: {choice: [[3, 9], [3, 9, 27]]}
    model.weights: {choice: [{resnet18: none, resnet34: none, x: none}, auto], when: {head: slots}}
    """
    space = laid_over(tmp_path, text)
    assert "augment.rotate.on" not in space.names
    assert "model.weights" not in space.names  # the head is never slots
    for settings, asked in trials(space, 20):
        assert 1e-3 <= settings["training.lr"] <= 2e-3
        assert settings["training.steps"] in (1000, 2000, 3000)
        assert settings["encoders"] in (["resnet18"], ["resnet34"])
        assert settings["head"] == "boundary"
        assert asked["partition.reach"] == str([int(r) for r in settings["partition.reach"]])
        assert not {"training.schedule", "head"} & set(asked)
        assert "training.schedule" not in settings


def test_what_depends_on_a_choice_goes_with_it(tmp_path):
    def named(text: str) -> set[str]:
        return {n for n in laid_over(tmp_path, text).names if n.startswith(("loss", "encoder"))}

    assert named("loss: null") == named("loss: cross entropy") == {"encoder"}
    assert named("loss.terms: {choice: [{dice: 1}, {cross_entropy: 1}]}") == {
        "encoder",
        "loss.terms",
    }
    assert named("loss: t-vMF\nencoders: [resnet18]") == {"loss.kappa"}
    assert named("loss: {choice: [t-vMF, cross entropy + t-vMF]}") == {
        "encoder",
        "loss",
        "loss.kappa",
    }


@pytest.mark.parametrize(
    ("blur", "asked"),
    [
        ("{float: [1, 2], off: 0}", {"augment.blur", "augment.blur.on", "augment.blur_p"}),
        ("{float: [1, 2]}", {"augment.blur", "augment.blur_p"}),
        ("1.5", {"augment.blur_p"}),
        ("0", set()),
        ("null", set()),
        ("{float: [1, 2], when: {head: slots}}", {"augment.blur", "augment.blur_p"}),
    ],
)
def test_what_depends_on_a_switch_goes_with_it(tmp_path, blur, asked):
    space = laid_over(tmp_path, f"augment.blur: {blur}\nhead: {{choice: [slots, affinity]}}")
    assert {name for name in space.names if name.startswith("augment.blur")} == asked
    for settings, answers in trials(space, 20):
        on = "augment.blur_p" in asked and settings.get("augment.blur", 0) > 0
        assert ("augment.blur_p" in settings) == on
        assert set(answers) <= set(space.names)


@pytest.mark.parametrize(("heads", "asked"), [("[slots, affinity]", True), ("affinity", False)])
def test_conditions_on_one_choice_hold_together(tmp_path, heads, asked):
    text = f"""
    head: {{choice: [slots, affinity, boundary]}}
    augment.blur: {{float: [1, 2], when: {{head: [slots, boundary]}}}}
    augment.blur_p: {{float: [0.1, 1], when: {{head: {heads}, augment.blur.on: true}}}}
    """
    space = laid_over(tmp_path, text)
    for settings, _ in trials(space, 20):
        assert ("augment.blur_p" in settings) == (asked and settings["head"] == "slots")


def test_a_setting_may_need_another_of_the_space_or_of_the_configuration(tmp_path):
    focus = "input.focus: {float: [0.2, 1]}\n"
    with pytest.raises(CompkitError, match=r"input\.focus: .*needs input\.crop"):
        laid_over(tmp_path, focus)
    laid_over(tmp_path, focus, base=RunConfig(input=InputConfig(crop=64)))
    laid_over(tmp_path, focus + "input.crop: {choice: [64, 96]}")
    when = "input.crop: {choice: [null, 64]}\ninput.focus: {choice: [0.5], when: {input.crop: 64}}"
    for settings, _ in trials(laid_over(tmp_path, when), 20):
        assert ("input.focus" in settings) == (settings["input.crop"] == 64)
        check(configured(RunConfig(), settings))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainng.lr: 0.1", "trainng.lr: there is no .*did you mean 'training.lr'"),
        ("encodr: {choice: [resnet18]}", "encodr: .*did you mean 'encoder"),
        ("seeed: null", "seeed: .*did you mean 'seed'"),
        ("mine: {choice: {a: {trainng.lr: 1}}}", "mine: .*did you mean 'training.lr'"),
        ("training.lr: {float: [0.1, 0.01]}", "training.lr: .* is reversed"),
        ("training.lr: {float: [0.1, 0.1]}", "training.lr: .* is empty"),
        ("training.lr: {float: [0.1]}", "training.lr: float is .*two numbers"),
        ("training.lr: {float: [0.1, .inf]}", "training.lr: float is .*two numbers"),
        ("training.lr: {float: [0, 1], log: true}", "training.lr: .*begin above 0"),
        ("training.lr: {float: [0, 1]}", r"training.lr: .*training\.lr must be positive"),
        ("training.lr: {float: [0.1, 1], log: 10}", "training.lr: log is 10: give true"),
        ("training.lr: {flot: [0.1, 1]}", "training.lr: it has no range; did you mean 'float'"),
        (
            "training.lr: {float: [0.1, 1], step: 1}",
            "training.lr: 'step' is unknown.*float goes with",
        ),
        ("training.lr: {float: [0.1, 1], int: [1, 2]}", "training.lr: it has float and int"),
        ("training.lr: {log: true}", "training.lr: it has no range"),
        ("training.lr: many", "training.lr: takes float, not 'many'"),
        ("training.lr: {choice: [null]}", "training.lr: takes float, not null"),
        ("training.steps: {float: [100, 200]}", "training.steps: takes int, not 100.0"),
        ("training.steps: {int: [100, 250], step: 100}", "training.steps: step 100 does not"),
        ("training.steps: {int: [1.5, 2]}", "training.steps: .*whole numbers"),
        ("augment.rotate: {float: [5, 9], off: no}", "augment.rotate: .*takes float, not 'no'"),
        ("augment.hflip: {float: [0, 1.5]}", "augment.hflip: .*probabilities"),
        ("head: {choice: []}", "head: choice has no options"),
        ("head: {choice: {}}", "head: choice has no options"),
        ("head: {choice: [slots, slots]}", "head: .*twice"),
        ("head: {choice: {a: slots}}", "head: the option 'a' is no mapping"),
        ("head: {choice: [boundary, boundry]}", "head: .*'boundry'; did you mean 'boundary'"),
        ("head: boundry", "head: .*'boundry'; did you mean 'boundary'"),
        ("training.schedule: {choice: [polly]}", "training.schedule: .*did you mean 'poly'"),
        ("encoder: resnet81", "encoder: there is no option 'resnet81'; did you mean"),
        ("encoder: {choice: [resnet81]}", "encoder: there is no option 'resnet81'"),
        ("encoders: [resnet81]", "encoders: there is no timm encoder 'resnet81'"),
        ("loss: {choice: {a: {loss.terms: {dise: 1}}}}", "loss: .*'dise'; did you mean 'dice'"),
        ("seed: {int: [0, 9], when: {hed: slots}}", "seed: .*'hed'.*did you mean 'head'"),
        ("seed: {int: [0, 9], when: {head: slot}}", "seed: .*'slot'.*did you mean 'slots'"),
        ("seed: {int: [0, 9], when: {head: []}}", "seed: `when` has no value"),
        ("seed: {int: [0, 9], when: head}", "seed: `when` is no mapping"),
        ("seed: {int: [0, 9], when: {training.lr: 0.1}}", "seed: .*is a range"),
        ("seed: {int: [0, 9], when: {loss: dice}}\nloss: null", "seed: .*this file leaves out"),
        ("seed: {int: [0, 9], when: {augment.blur: 1}}", r"seed: .*or augment\.blur\.on"),
        ("seed: {int: [0, 9], when: {augment.blur.on: 1.5}}", "seed: .*take some of false, true"),
        (
            "seed: {int: [0, 9], when: {augment.blur.on: true}}\naugment.blur: null",
            "seed: .*this file leaves out",
        ),
        ("encoders: [resnet18]\nencoder: resnet34", "encoder: encoders sets encoders, too"),
        (
            "head: {choice: [slots], when: {encoder: resnet18}}\n"
            "encoder: {choice: [resnet18], when: {head: slots}}",
            "depends on itself .* → ",
        ),
        ("input: {sides: 0.5}", "input: sides has 0.5: list shares"),
        ("input: {sides: [[1, 0.5, 2]]}", r"input: sides has \[1, 0.5, 2\]: list shares"),
        ("input: {sides: [128]}", "input: sides has 128: list shares"),
        ("input: {sides: [half]}", "input: sides has 'half': list shares"),
        ("input: 100 px", "input: there is no option '100 px'"),
        ("- head", "does not hold entries"),
        ("head: [", "is not valid YAML"),
    ],
)
def test_refusals_name_the_file_the_key_and_the_fault(tmp_path, text, expected):
    with pytest.raises(CompkitError, match=expected) as caught:
        laid_over(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_a_configuration_that_does_not_fit_are_named(tmp_path):
    with pytest.raises(CompkitError, match=r"there is no search space .*absent\.yaml"):
        read_space(tmp_path / "absent.yaml")
    base = configured(RunConfig(), {"model.weights": {"tf_efficientnet_lite0": "none"}})
    with pytest.raises(CompkitError, match=r"space\.yaml: encoder: .*model\.weights must name"):
        read_space(base=base)
    laid_over(tmp_path, "encoder: null", base=base)


def test_the_digest_does_not_depend_on_the_order_of_entries(tmp_path):
    one = laid_over(
        tmp_path,
        "seed: {int: [0, 9], when: {head: [slots, boundary]}}\n"
        "loss: {choice: {a: {loss.terms: {dice: 1}}, b: {loss.terms: {dice: 2}, loss.kappa: 3}}}",
    )
    other = laid_over(
        tmp_path,
        "loss: {choice: {b: {loss.kappa: 3, loss.terms: {dice: 2}}, a: {loss.terms: {dice: 1}}}}\n"
        "seed: {when: {head: [boundary, slots]}, int: [0, 9]}",
    )
    assert one.digest == other.digest != read_space().digest
    refuse_other(one.digest, other.digest)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.lr: {float: [1e-3, 1e-2], log: true}", r"training\.lr: float was \[0\.0001, "),
        ("head: boundary", r'head was .*"boundary", .* and is "boundary"'),
        ("head: null", "head was .* and is absent"),
        ("seed: {int: [0, 3]}", "seed was absent and is"),
        ("loss.kappa: {float: [0.5, 256], log: true}", r"loss\.kappa: when was .* and is absent"),
    ],
)
def test_a_study_of_another_space_is_refused_by_the_first_difference(tmp_path, text, expected):
    with pytest.raises(CompkitError, match=expected) as caught:
        refuse_other(read_space().digest, laid_over(tmp_path, text).digest)
    assert "\n" not in str(caught.value)


def test_the_space_is_printed_with_ranges_and_conditions(tmp_path, capsys):
    space = laid_over(tmp_path, "head: boundary\ntraining.steps: {int: [100, 300], step: 100}")
    rows = {name: (what, where) for name, what, where in space.rows()}
    assert rows["augment.rotate"] == ("3 to 45, or off (0)", "")
    assert rows["head"] == ("fixed: boundary", "")
    assert rows["training.steps"] == ("100 to 300 by 100", "")
    assert rows["loss.kappa"] == ("0.5 to 256, log", "loss is t-vMF or cross entropy + t-vMF")
    print_space(space, 512)
    printed = capsys.readouterr().out
    assert "0.5 to 256, log" in printed
    assert "512²" in printed
