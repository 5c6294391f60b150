"""Configurations: files, command lines, refusals."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from compkit.config import RunConfig, UnlabelledConfig
from compkit.config.check import check
from compkit.config.files import (
    REMOVED,
    differences,
    from_plain,
    read_yaml,
    save,
    to_plain,
)
from compkit.errors import CompkitError
from compkit.training.command import parse

GO = ["--data", "d", "--run", "r"]


def refusal(*argv: str) -> str:
    with pytest.raises(CompkitError) as caught:
        parse([*GO, *argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_command_line_wins_over_the_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("encoders: [resnet18, resnet34]\ntraining: {steps: 200, lr: 0.5}\n")
    own, config = parse([*GO, "--config", str(path), "--training.lr", "0.1", "--fold", "2"])
    assert (own["data"], own["run"], own["fold"], own["encoder"]) == ("d", "r", 2, None)
    assert config.encoders == ("resnet18", "resnet34")
    assert (config.training.steps, config.training.lr) == (200, 0.1)
    assert config.training.clip == RunConfig().training.clip


def test_a_saved_configuration_comes_back_whole(tmp_path):
    config = parse([*GO, "--loss.terms", "{dice: 0.5}", "--inference.views", "[hflip]"])[1]
    save(config, tmp_path / "c.yaml")
    assert from_plain(read_yaml(tmp_path / "c.yaml")) == config
    assert from_plain(to_plain(config)) == config
    assert parse([*GO, "--config", str(tmp_path / "c.yaml")])[1] == config


def test_unknown_keys_are_all_named_with_the_nearest(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("training: {stepz: 3}\nencoder: a\nlr: 1\n")
    sentence = refusal("--config", str(path))
    assert "'training.stepz' (did you mean 'training.steps'?)" in sentence
    assert "'encoder' (did you mean 'encoders'?)" in sentence
    assert "'lr' (did you mean 'training.lr'?)" in sentence
    assert str(path) in sentence


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--training.step", "3"], "'--training.steps'"),
        (["--training.steps", "many"], "training.steps takes int"),
        (["--training.optimizer", "adam"], "'adamw', 'sgd'"),
        (["--encoders", "resnet18"], "encoders takes list"),
        (["--config", "absent.yaml"], "no configuration file absent.yaml"),
    ],
)
def test_wrong_arguments_are_one_sentence(argv, expected):
    assert expected in refusal(*argv)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_files_that_hold_no_settings_are_refused(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert str(path) in refusal("--config", str(path))


LONG = "1" * 5000
UNUSABLE = {
    "seed: 1\nseed: 2\n": "the key 'seed' is there twice in line 2",
    "loss: {terms: {dice: 1, dice: 2}}": "the key 'dice' is there twice",
    "loss: {terms: " + "[" * 10_000: "nested too deep",
    "loss: {terms: " + "{a: " * 10_000: "nested too deep",
    f"seed: {LONG}": "no valid int in line 1",
    "seed: !!int abc": "no valid int",
    "encoders: &a [*a]": "an alias is within its anchor",
    "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefgh")): (
        "over 100000 values"
    ),
    "seed: 1\0": "not valid YAML",
    'model: {start: "\\udcff"}': "no valid str in line 1",
    "--- {}\n--- {}": "another document",
    "training: other.yaml": "'other.yaml' under 'training'",
    "training:": "nothing under 'training'",
    "model: {start: 5}": "model.start takes one of str, null, not '5'",
    "false": "does not hold settings",
}


@pytest.mark.parametrize("text", UNUSABLE, ids=lambda text: text[:20])
def test_what_no_setting_can_be_is_one_short_sentence(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    sentence = refusal("--config", str(path))
    assert UNUSABLE[text] in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--loss.terms", "{dice: 1, dice: 2}"], "the key 'dice' is there twice"),
        (["--training", "{lr: 1, lr: 2}"], "the key 'lr' is there twice"),
        (["--loss.terms", "[" * 10_000], "nested too deep"),
        (["--training.steps", LONG], "no valid int"),
        (["--loss.terms", f"{{dice: {LONG}}}"], "no valid int"),
        (["--encoder", "!!bool abc"], "no valid bool"),
        (["--training", "absent.yaml"], "no configuration file absent.yaml"),
        (["--training.optimizer", "a" * 5000], "not 'aaa"),
        (["--data", "x\udcff"], "is no text in UTF-8, as the records of a run are: rename"),
        (["--folds.groups=x\udcff"], "is no text in UTF-8, as the records of a run are: rename"),
    ],
)
def test_what_no_setting_can_be_is_refused_as_typed_too(argv, expected):
    sentence = refusal(*argv)
    assert expected in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("argument", ["--config", "--training"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, argument):
    os.mkfifo(tmp_path / "pipe")
    assert "must be a regular file" in refusal(argument, str(tmp_path / "pipe"))
    assert "is a folder" in refusal(argument, str(tmp_path))


def test_dates_and_what_is_no_yaml_are_names(tmp_path):
    (tmp_path / "x.yaml").write_text("encoders: [2024-31-01]\n", encoding="utf-8-sig")
    own, config = parse(["--run", "2024-31-01", "--data", "{a", "--config", f"{tmp_path}/x.yaml"])
    assert (own["run"], own["data"], config.encoders) == ("2024-31-01", "{a", ("2024-31-01",))


def test_missing_data_and_run_are_named():
    with pytest.raises(CompkitError, match="--data is missing"):
        parse(["--run", "r"])
    with pytest.raises(CompkitError, match="--run is missing"):
        parse(["--data", "d"])


def test_impossible_values_are_all_named():
    config = parse([*GO, "--folds.k", "1", "--training.steps", "150", "--training.lr", "0"])[1]
    with pytest.raises(CompkitError) as caught:
        check(config)
    for key in ("folds.k", "training.steps", "training.lr"):
        assert key in str(caught.value)
    check(RunConfig())


def test_weights_are_one_for_all_or_one_each(tmp_path):
    text = "{resnet18: none, resnet34: hub}"
    encoders = ["--encoders", "[resnet18, resnet34]"]
    config = parse([*GO, *encoders, "--model.weights", text])[1]
    assert config.model.weights_of("resnet34") == "hub"
    save(config, tmp_path / "c.yaml")
    assert from_plain(read_yaml(tmp_path / "c.yaml")) == config
    check(config)
    assert parse([*GO, "--model.weights", "a.pth"])[1].model.weights_of("resnet34") == "a.pth"
    with pytest.raises(CompkitError, match=r"model\.weights must name"):
        check(parse([*GO, "--model.weights", text])[1])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--input.focus", "0.5"], "input.focus needs input.crop"),
        (["--seed", "-1"], "seed must be from 0"),
        (["--folds.seed", "9" * 30], "folds.seed must be from 0"),
        (["--input.size", "9" * 20], "input.size must be from 16 to"),
        (["--partition.reach", "[.nan, 3]"], "partition.reach must be from 1 to"),
        (["--training.lr", "1e999"], "training.lr must be from"),
        (["--loss.terms", "{dice: .inf}"], "loss.terms.dice must be from"),
        (["--machine.workers", "-1"], "machine.workers must be from 0 to"),
        (["--input.focus", "2", "--input.crop", "32"], "input.focus must be from 0 to 1"),
        (["--model.start", "a.ckpt", "--model.weights", "hub"], "exclude each other"),
        (["--model.start", "a.ckpt", "--model.weights", "{resnet34: b.pth}"], "exclude each"),
        (["--model.start", "a.ckpt", "--encoders", "[resnet18, resnet34]"], "{encoder}"),
    ],
)
def test_settings_that_exclude_each_other_or_leave_their_range(argv, expected):
    with pytest.raises(CompkitError, match=expected):
        check(parse([*GO, *argv])[1])


def test_a_focused_crop_and_a_warm_start_are_accepted():
    argv = ["--input.crop", "64", "--input.focus", "0.5", "--model.start", "a.ckpt"]
    argv += ["--encoders", "[resnet34]", "--model.weights", "{resnet34: none}"]
    config = parse([*GO, *argv])[1]
    check(config)
    assert (config.input.crop, config.input.focus, config.model.start) == (64, 0.5, "a.ckpt")


def test_differences_leave_out_the_machine():
    one = RunConfig()
    other = parse([*GO, "--seed", "1", "--machine.workers", "3"])[1]
    assert differences(one, other, ("machine.",)) == ["seed: 0 → 1"]


def old_record(**settings: object) -> dict:
    """Return a configuration as an older version kept it, with settings that it had."""
    plain = to_plain(RunConfig(seed=3))
    for name, value in settings.items():
        section, key = name.split(".")
        plain.setdefault(section, {})[key] = value
    return plain


def test_settings_that_are_gone_are_passed_over_where_they_changed_nothing(tmp_path):
    record = old_record(**REMOVED, **{"unlabelled.teacher": "mean"})
    assert from_plain(record) == RunConfig(seed=3)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(record))
    assert parse([*GO, "--config", str(tmp_path / "c.yaml")])[1] == RunConfig(seed=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"input.contrast": "clahe"},
        {"input.coordinates": True},
        {"loss.ignore_above": 0.8},
        {"weights.background": 0.25},
        {"weights.small_regions": 0.5},
        {"unlabelled.teacher": "mean", "unlabelled.weight": 0.3},
        {"model.decoder": "feedback-unet"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_are_gone_are_refused_where_they_changed_something(tmp_path, settings):
    name, value = next(iter(settings.items()))
    expected = f"{name} {value!r}, which this version does not know"
    record = old_record(**REMOVED | settings)
    with pytest.raises(CompkitError, match=f"^old.yaml has {expected}"):
        from_plain(record, "old.yaml")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(record))
    assert f"c.yaml has {expected}" in refusal("--config", str(tmp_path / "c.yaml"))


def test_a_teacher_that_is_a_run_is_there_still():
    with pytest.raises(CompkitError, match="rename the run"):
        check(RunConfig(unlabelled=UnlabelledConfig(weight=1.0, teacher="mean")))
    config = from_plain(old_record(**{"unlabelled.teacher": "other", "unlabelled.weight": 0.3}))
    assert config.unlabelled.teacher == "other"


SHIPPED = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if not path.name.startswith("tune-")], ids=lambda p: p.name
)
def test_shipped_configurations_are_sound(path):
    config = parse([*GO, "--config", str(path)])[1]
    check(config)
    assert config != RunConfig()
