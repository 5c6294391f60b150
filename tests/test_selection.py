"""Weights of members: searched for, estimated honestly, kept only if they are worth it."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes import put_fit

from compkit.cli import main as compkit
from compkit.config import FoldsConfig, RunConfig
from compkit.data.store import Store
from compkit.ensemble import audit
from compkit.ensemble.build import calibrated, read_ensemble
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import tempered
from compkit.ensemble.selection import Candidates, draw, greedy, nested, normal, random_weights
from compkit.ensemble.temperature import losses, temperature
from compkit.files import write_json
from compkit.folds import Folds
from compkit.run import FITTED, start_run

DATA = "phantom:size=32,labelled=12,unlabelled=0,test=3,seed=5"
CONFIG = RunConfig(encoders=("resnet10t",), head="foreground", folds=FoldsConfig(k=3))


PLAIN_MAPS = np.linspace(0, 1, 12 * 32 * 32, dtype=np.float32).reshape(12, 1, 32, 32)


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


def candidates_of(runs) -> Candidates:
    members = members_of(runs)
    return Candidates(members, [1.0] * len(members), list(members[0].out_of_fold))


def test_greedy_selection_finds_the_best_bag_of_a_known_worth():
    target = np.array([0.5, 0.25, 0.25, 0.0])

    def worth(tried):
        return -np.abs(np.array([normal(t) for t in tried]) - target).sum(axis=1)

    assert np.allclose(greedy(worth, 4), target)


def test_random_weights_are_fair_and_begin_with_equal_ones():
    weights = np.array(random_weights(3, 2000))
    assert np.allclose(weights[0], 1 / 3, atol=1e-5)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights.mean(axis=0), 1 / 3, atol=0.02)


def test_a_candidate_is_decoded_once_whatever_the_scale_of_its_weights(runs, monkeypatch):
    candidates = candidates_of(runs)
    first = candidates([(1, 1, 0), (1, 0, 0)])
    monkeypatch.setattr(candidates, "_pool", None)  # nothing is computed any more
    assert np.array_equal(candidates([(2.0, 2.0, 0.0), (5, 0, 0)]), first)


def test_searches_leave_a_bad_member_out_and_beat_the_plain_mean(runs):
    candidates = candidates_of(runs)
    plain = candidates([(1, 1, 1)])[0]
    for search in (partial(greedy, count=3), partial(draw, random_weights(3, 60))):
        honest, weights = nested(candidates, search)
        assert weights[2] < 0.1 < min(weights[:2])
        assert (honest - plain).mean() > 0.02


def test_the_nested_estimate_comes_from_other_folds():

    class Known:
        folds = np.repeat([0, 1, 2], 4)

        def __call__(self, tried):  # in fold 0 the second member is better, else the first
            return np.array([np.where(self.folds == 0, w[1], w[0]) for w in tried])

    honest, weights = nested(Known(), partial(draw, [(1.0, 0.0), (0.0, 1.0)]))
    assert weights == (1.0, 0.0)
    assert honest.tolist() == [0.0] * 4 + [1.0] * 8


@pytest.mark.parametrize("sure", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_overconfidence(runs, sure):
    """Logits of 2 ± 1.5 say as much as log odds of 4 / 1.5² · x; made surer, they need cooling."""
    (member,) = members_of([make_run(f"sure{sure}", 1, 1.5, sure)])
    best = temperature(losses(member, list(member.out_of_fold)))
    assert best == pytest.approx(sure * 1.5**2 / 4, rel=0.2)


def test_an_image_without_foreground_has_a_loss(runs, monkeypatch):
    monkeypatch.setattr(Store, "labels_of", lambda store, index: np.zeros((32, 32), int))
    (member,) = members_of(runs[:1])
    found = losses(member, list(member.out_of_fold))
    assert np.isfinite(found).all()
    assert found.shape[0] == 12


def test_a_folds_labels_have_no_part_in_what_it_is_scored_with(runs, monkeypatch):
    """Not even in the temperatures, nor in whether they are taken."""
    (sure,) = members_of([make_run("sure", 9, 4.0, 3.0)])
    members, labels = [*members_of(runs[:1]), sure], Store.labels_of
    folds, images = runs[0].folds, list(sure.out_of_fold)

    def chosen():
        """Return temperatures and weights by fold, then those of all images."""
        whole, by_fold = calibrated(members, images)
        weights = []

        def search(worth):
            weights.append(greedy(worth, 2))
            return weights[-1]

        nested(whole, search, by_fold=by_fold)
        systems = [*by_fold.values(), whole]
        return [(one.temperatures, each) for one, each in zip(systems, weights, strict=True)]

    before = chosen()
    assert any(set(temperatures) != {1.0} for temperatures, _ in before)
    for fold in range(3):

        def altered(store, index, fold=fold):
            true = labels(store, index)
            return (true == 0).astype(int) if folds.fold[index] == fold else true

        monkeypatch.setattr(Store, "labels_of", altered)
        after = chosen()
        assert after[fold] == before[fold]
        assert sum(new != old for new, old in zip(after, before, strict=True)) > 1


def test_a_temperature_divides_logits():
    p = np.array([0.1, 0.5, 0.9])
    assert np.allclose(tempered(p, 1.0), p)
    assert np.allclose(tempered(p, 1e6), 0.5, atol=1e-4)
    assert np.allclose(tempered(tempered(p, 2.0), 0.5), p)


def test_an_ensemble_is_built_saved_and_read(runs, capsys):
    command = ["ensemble", "--name", "best", *(f"--run={run.name}" for run in runs)]
    assert compkit(command) == 0
    shown = capsys.readouterr()
    assert "is kept" in shown.err
    saved = json.loads(Path("runs/best/ensemble.json").read_text())
    assert saved["weights"] in ("greedy selection", "random weights")
    weights = {member["run"]: member["weight"] for member in saved["members"]}
    assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert weights.get("bad", 0) < 0.1
    report = saved["out_of_fold"]
    assert report["greedy selection"]["optimistic"] >= report["greedy selection"]["score"] - 1e-9
    mixture = read_ensemble("best")
    assert {m.run.name: w for m, w in zip(mixture.members, mixture.weights, strict=True)} == (
        pytest.approx(weights, abs=1e-4)
    )
    assert Path("runs/best/decoder.json").is_file()


def test_after_a_kill_while_an_ensemble_is_saved_the_name_is_not_refused(runs):
    command = ["ensemble", "--name", "e", *(f"--run={run.name}" for run in runs[:2])]
    if not (child := os.fork()):
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        compkit(command)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list(Path("runs/e").glob(".*.part"))
    assert compkit(command) == 0
    assert not list(Path("runs/e").glob(".*.part"))


def test_scores_of_cut_groups_are_marked(runs, capsys, monkeypatch):
    monkeypatch.setattr(audit, "_predicted", lambda run, views, _folder: [PLAIN_MAPS] * len(views))
    commands = (
        ["ensemble", "--name", "e", *(f"--run={run.name}" for run in runs[:2])],
        ["views", "--run", "good"],
    )
    for command in commands:
        assert compkit(command) == 0
        assert "*" not in capsys.readouterr().out
    monkeypatch.setattr(Folds, "doubts", lambda _: ["cut groups"])
    for command in commands:
        assert compkit(command) == 0
        printed = capsys.readouterr()
        assert re.search(r"\d\.\d{4}\*", printed.out) and "* cut groups\n" in printed.out
    assert compkit(commands[0]) == 0
    assert re.search(r"adjusted_all \d\.\d{4}\*.*\* cut groups", capsys.readouterr().err, re.DOTALL)


def test_equal_members_keep_the_plain_mean(runs, capsys):
    twins = [make_run("twin", 7, 1.5), make_run("other", 8, 1.5)]
    assert compkit(["ensemble", "--name", "e", *(f"--run={run.name}" for run in twins)]) == 0
    assert "the plain mean is kept" in capsys.readouterr().err
    saved = json.loads(Path("runs/e/ensemble.json").read_text())
    assert [member["weight"] for member in saved["members"]] == pytest.approx([0.5, 0.5])


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
    (runs[1].part("resnet10t", 0) / FITTED).unlink()
    assert "are all of one fold" in refused(*argv)
    write_json(runs[1].part("resnet10t", 0) / FITTED, {"score": 0.5})
    path = Path("runs/e/ensemble.json")
    saved = json.loads(path.read_text())
    saved["members"][0]["weight"] += 0.3
    write_json(path, saved)
    submit = ["submit", "--run", "e", "--out", "x.csv"]
    assert "ensemble.json was changed" in refused(*submit)
    saved["members"][0]["weight"] = -0.5
    write_json(path, saved)
    assert "members.0.weight: Input should be greater" in refused(*submit)
    saved["members"][0]["weight"] = 0.5
    for never in (0.0, -1.0, 1e-320, 0.2, 5.0, 1e308):
        saved["members"][1]["temperature"] = never
        write_json(path, saved)
        assert "members.1.temperature: Input should be" in refused(*submit)
    del saved["members"][0]["weight"]
    write_json(path, saved)
    assert "is damaged" in refused(*submit)
    path.write_text("{")
    assert "not valid JSON" in refused(*submit)
