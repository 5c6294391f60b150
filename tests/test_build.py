"""Members of an ensemble: their mean, what each adds to it, and what is saved."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import put_fit

from compkit.begin import start_run
from compkit.cli import main as compkit
from compkit.config import FoldsConfig, RunConfig
from compkit.ensemble.build import open_mixture
from compkit.files import read_json, write_json
from compkit.folds import Folds
from compkit.run import FITTED

DATA = "phantom:size=32,labelled=12,unlabelled=0,test=3,seed=5"
CONFIG = RunConfig(encoders=("resnet10t",), head="foreground", folds=FoldsConfig(k=3))


def make_run(name: str, seed: int, noise: float, sure: float = 1.0):
    """Make a run whose foreground is the truth under noise of its own."""
    run = start_run(name, replace(CONFIG, seed=seed), DATA)
    rng = np.random.default_rng(seed)
    for encoder, fold in run.parts():
        chosen = run.folds.valid_indices(fold)
        truths = [run.store.labels_of(i) > 0 for i in chosen]
        logits = [2.0 * np.where(t, 1, -1) + noise * rng.normal(size=t.shape) for t in truths]
        maps = [1 / (1 + np.exp(-sure * each[None])) for each in logits]
        put_fit(run, encoder, fold, maps)
    return run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    return [make_run("good", 1, 1.5), make_run("fair", 2, 2.0), make_run("bad", 3, 40.0)]


def test_an_ensemble_is_built_saved_and_read(runs, capsys):
    command = ["ensemble", "--name", "best", *(f"--run={run.name}" for run in runs)]
    assert compkit(command) == 0
    shown = capsys.readouterr()
    added = dict(re.findall(r"(good|fair|bad)/resnet10t.*?([+-]\d\.\d{4}) \(", shown.out))
    assert float(added["bad"]) < 0 < float(added["good"])  # so a user leaves it out
    mixture, decoder = open_mixture(["best"])
    assert [member.run.name for member in mixture.members] == ["good", "fair", "bad"]
    assert decoder.maps == mixture.fingerprint
    write_json(path := Path("runs/best/ensemble.json"), {"members": [], "weights": "greedy"})
    assert compkit(["submit", "--run", "best", "--out", "s.csv"]) == 2
    assert f"{path} is damaged (mean_of: Field required)" in capsys.readouterr().err
    member = {"run": "good", "encoder": "resnet10t"}
    for members, fault in (
        ([], f"{path} is damaged (it lists no member)"),
        ([member, member], f"{path} is damaged (it lists a member twice)"),
        ([member | {"run": "../runs/good"}], "'../runs/good' is no name for a run"),
    ):
        write_json(path, {"mean_of": members})
        assert compkit(["submit", "--run", "best", "--out", "s.csv"]) == 2
        assert fault in capsys.readouterr().err


def test_an_ensemble_of_other_members_is_replaced_only_if_told(runs, capsys):
    command = ["ensemble", "--name", "best", "--run", "good"]
    assert compkit([*command, "--run", "fair"]) == 0
    saved = [Path("runs/best", name) for name in ("ensemble.json", "decoder.json")]
    before = [path.read_bytes() for path in saved]
    assert compkit([*command, "--run", "bad"]) == 2
    told = "best is an ensemble of other members (good/resnet10t, fair/resnet10t): take another"
    assert told in capsys.readouterr().err
    assert compkit(["ensemble", "--name", "best", "--run", "fair", "--run", "good"]) == 0
    assert compkit([*command, "--run", "fair"]) == 0
    assert [path.read_bytes() for path in saved] == before
    assert compkit([*command, "--run", "bad", "--overwrite"]) == 0
    assert [m.name for m in open_mixture(["best"])[0].members] == [
        "good/resnet10t",
        "bad/resnet10t",
    ]


def test_members_that_lack_folds_are_compared_where_all_have_maps(runs, capsys):
    (runs[1].part("resnet10t", 1) / FITTED).unlink()
    command = ["ensemble", "--name", "e", "--run", "good", "--run", "fair"]
    assert compkit(command) == 2
    assert compkit([*command, "--partial"]) == 0
    shown = capsys.readouterr()
    assert "fair/resnet10t lack folds: members are compared on 8 of 12 images" in shown.err


def test_after_a_kill_while_an_ensemble_is_saved_the_name_is_not_refused(runs):
    command = ["ensemble", "--name", "e", *(f"--run={run.name}" for run in runs[:2])]
    if not (child := os.fork()):
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        compkit(command)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list(Path("runs/e").glob(".*.tmp"))
    assert compkit(command) == 0
    assert not list(Path("runs/e").glob(".*.tmp"))


def test_scores_of_cut_groups_are_marked(runs, capsys, monkeypatch):
    command = ["ensemble", "--name", "e", *(f"--run={run.name}" for run in runs[:2])]
    assert compkit(command) == 0
    assert "*" not in capsys.readouterr().out
    monkeypatch.setattr(Folds, "doubts", lambda _: ["cut groups"])
    assert compkit(command) == 0
    printed = capsys.readouterr()
    assert re.search(r"\d\.\d{4}\*", printed.out) and "* cut groups\n" in printed.out
    assert re.search(r"adjusted_all \d\.\d{4}\*.*\* cut groups", printed.err, re.DOTALL)


def test_bad_input_is_named(runs, capsys):
    def refused(*argv: str) -> str:
        assert compkit(list(argv)) == 2
        return capsys.readouterr().err

    assert "is a run" in refused("ensemble", "--name", "good", "--run", "good")
    assert "no name" in refused("ensemble", "--name", "../x", "--run", "good")
    assert "named twice" in refused("ensemble", "--name", "e", "--run", "good", "--run", "good")
    (runs[0].part("resnet10t", 1) / FITTED).unlink()
    assert "resnet10t fold 1" in refused("ensemble", "--name", "e", "--run", "good")
    assert not Path("runs/e").exists()
    argv = ["ensemble", "--name", "e", "--partial", "--run", "good", "--run", "fair"]
    assert compkit(argv) == 0
    assert "good/resnet10t lack folds" in capsys.readouterr().err
    path = Path("runs/e/ensemble.json")
    saved = read_json(path)
    saved["mean_of"][0]["run"] = "bad"
    write_json(path, saved)
    submit = ["submit", "--run", "e", "--out", "x.csv"]
    assert "ensemble.json was changed" in refused(*submit)
    del saved["mean_of"][0]["encoder"]
    write_json(path, saved)
    assert "mean_of.0.encoder: Field required" in refused(*submit)
    path.write_text("{")
    assert "not valid JSON" in refused(*submit)
