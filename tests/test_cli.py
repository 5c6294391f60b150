"""The one command: what it takes, and where it looks for runs."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compkit.begin import start_run
from compkit.cli import _parser
from compkit.cli import main as compkit
from compkit.config import RunConfig
from compkit.display import print_table
from compkit.errors import CompkitError
from compkit.phantom.layouts import LAYOUTS
from compkit.root import runs_at, runs_option, runs_root
from compkit.run import open_run

REPOSITORY = Path(__file__).parents[1]


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of all commands by name."""
    (found,) = (a for a in _parser(None)._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


def test_every_command_that_names_a_run_can_be_told_where_runs_lie(capsys):
    for name, parser in commands().items():
        options = {option for action in parser._actions for option in action.option_strings}
        assert ("--runs" in options) == ("--run" in options), name
    for words in (["train"], ["tune"]):
        with pytest.raises(SystemExit):
            compkit([*words, "--help"])
        assert "--runs DIR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: COMMAND: see `compkit --help`"),
        (["folds", "--data", "x"], "required: --out: see `compkit folds --help`"),
        (["ledger", "set", "1", "--public", "x"], "invalid float value: 'x': see `compkit ledger"),
        (["tune", "--sampler", "tpo"], "invalid choice: 'tpo' .*: see `compkit tune --help`"),
        (["check", "a", "b", "--data", "x"], "unrecognized arguments: b: see `compkit --help`"),
        (["folds", "--data", "x", "--out", ""], "argument --out: no path is given: see"),
        (["folds", "--data", "", "--out", "x"], "--data names no folder"),
        (["train", "--fold"], "expected one argument: see `compkit train --help`"),
    ],
)
def test_arguments_that_are_wrong_are_one_sentence(capsys, words, sentence):
    assert compkit(words) == 2
    assert re.fullmatch(f"error: .*{sentence}.*\n", capsys.readouterr().err)


def test_runs_lie_where_the_command_or_the_environment_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", "cache")
    monkeypatch.setenv("COMPKIT_RUNS", "others")
    with runs_at("here"):
        start_run("a", RunConfig(), "phantom:size=32,labelled=6,unlabelled=0,test=1")
        assert open_run("a").directory == Path("here/a")
        assert runs_option() == " --runs here"  # as commands suggest the next one
    assert (tmp_path / "here/a/run.json").is_file()
    ask = ["submit", "--run", "a", "--out", "x.csv"]
    for words, where in (
        ([], "there is no run or ensemble 'a' in others/"),
        (["--runs", "elsewhere"], "there is no run or ensemble 'a' in elsewhere/"),
        (["--runs", "here"], "the run a is not finished"),
        (["--runs", "here/a/run.json"], "which is a file"),
    ):
        assert compkit([*ask, *words]) == 2
        assert where in capsys.readouterr().err
    assert runs_root() == Path("others")
    assert runs_option() == ""
    monkeypatch.delenv("COMPKIT_RUNS")
    assert runs_root() == Path("runs")
    with pytest.raises(CompkitError, match="no run or ensemble 'a' in runs/"):
        open_run("a")


@pytest.mark.parametrize("name", ["train", "tune"])
def test_the_scripts_are_the_commands(name, capfd):
    assert compkit([name]) == 2
    said = capfd.readouterr().err
    assert f"`compkit {name} --help`" in said
    script = [sys.executable, str(REPOSITORY / f"{name}.py")]
    run = subprocess.run(script, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (2, said)


def test_every_layout_of_the_phantom_can_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        _parser("phantom").parse_args(["phantom", "--help"])
    listed = ",".join(("raidium", *LAYOUTS))
    assert f"{{{listed}}}" in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("columns", [10, 60, 80, 300, None])
def test_no_terminal_is_too_narrow_for_a_table(columns, monkeypatch, capsys):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    names = ["name", *(f"column_{number}" for number in range(9))]
    rows = [[f"{row}" * 40, *(f"0.{row}{number}23 to 0.5" for number in range(9))] for row in "12"]
    print_table("scores", names, rows)
    lines = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).splitlines()
    shown = {cell.strip() for line in lines for cell in line.split("  ")}
    assert shown >= {*names, *rows[0], *rows[1]}
    assert max(map(len, lines)) <= max(columns or 999, 62)  # a name and one column
