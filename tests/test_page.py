"""What comes out of a study, on made-up ones whose answer is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from compkit.submission.leaderboard import selection_optimism
from compkit.tuning.evidence import chance_of_best, effect
from compkit.tuning.findings import find
from compkit.tuning.page import print_findings, write_page

RATE = FloatDistribution(1e-4, 1e-1, log=True)
KAPPA = FloatDistribution(1, 128, log=True)
IMAGES = 12


def study(**attributes: Any) -> optuna.Study:
    made = optuna.create_study(direction="maximize", study_name="made up")
    for name, value in {"metric": "adjusted_all", "data": "phantom:", **attributes}.items():
        made.set_user_attr(name, value)
    return made


def add(
    made: optuna.Study, params: dict[str, Any], space: dict[str, Any], scores: Sequence[float]
) -> None:
    scores = [float(one) for one in scores]
    folds = [float(part.mean()) for part in np.array_split(scores, min(3, len(scores)))]
    made.add_trial(
        create_trial(
            params=params,
            distributions={name: space[name] for name in params},
            value=float(np.mean(scores)),
            user_attrs={"image_scores": scores, "fold_scores": folds, "seconds": 60.0,
                        "run": "made/up", "settings": {**params, "loss.terms": {"dice": 1.0}}},
        )
    )  # fmt: skip


def lost(made: optuna.Study, state: TrialState, params: dict[str, Any], **attributes: str) -> None:
    space = dict.fromkeys(params, KAPPA)
    made.add_trial(
        create_trial(state=state, params=params, distributions=space, user_attrs=attributes)
    )


def search(count: int, seed: int = 0, lr: float = 0.02, kappa: float = 0.02) -> optuna.Study:
    """Return a study whose score falls with the distance of lr from 0.003 and of κ from 8."""
    rng, made = np.random.default_rng(seed), study()
    losses = CategoricalDistribution(["dice", "fixed", "adaptive"])
    space = {"training.lr": RATE, "loss": losses, "loss.kappa": KAPPA,
             "loss.adaptive_lambda": KAPPA, "nothing": FloatDistribution(0, 1)}  # fmt: skip
    images = rng.normal(0, 0.1, IMAGES)
    for _ in range(count):
        loss = str(rng.choice(losses.choices))
        params = {"training.lr": 10 ** rng.uniform(-4, -1), "loss": loss, "nothing": rng.random()}
        score = 0.7 - lr * (np.log10(params["training.lr"]) + 2.5) ** 2 + rng.normal(0, 0.004)
        if loss != "dice":
            name = "loss.kappa" if loss == "fixed" else "loss.adaptive_lambda"
            params[name] = float(np.exp(rng.uniform(0, np.log(128))))
            score -= kappa * abs(np.log(params[name] / 8)) if loss == "fixed" else 0
        add(made, params, space, score + images + rng.normal(0, 0.01, IMAGES))
    return made


class Page(HTMLParser):
    """A page that was read, its tags all closed in order."""

    VOID = ("meta", "br")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.text = path.read_text()
        self.feed(self.text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name.rpartition(":")[2] in ("src", "href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += data


def page(made: optuna.Study, folder: Path) -> Page:
    write_page(made, folder / "page.html", "sqlite:///runs/made up/study.db")
    return Page(folder / "page.html")


def points(x: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"number": range(len(x)), "x": x, "score": score})


def test_trials_within_noise_of_the_best_are_tied_and_worse_ones_are_not():
    rng = np.random.default_rng(0)
    best = rng.uniform(0.6, 0.9, 40)
    noise = rng.normal(0, 0.03, 40)
    trials = [best, best - 0.002 + noise - noise.mean(), best - 0.05 + noise, best - 0.01]
    p = chance_of_best(np.array(trials), 0)
    assert p[0] == 1
    assert p[1] > 0.5
    assert p[2] < 0.001
    assert p[3] == 0  # worse by the same in every image
    assert chance_of_best(np.full((3, 5), 0.5), 0).tolist() == [1, 1, 1]
    assert chance_of_best(np.array([[0.6], [0.5]]), 0).tolist() == [1, 1]
    assert chance_of_best(np.array([[0.6, 0.7]]), 0).tolist() == [1]


def test_a_truly_best_trial_is_seldom_left_out():
    rng = np.random.default_rng(0)
    left_out = 0
    for _ in range(400):
        scores = rng.normal(0, 0.1, 30) + rng.normal(0, 0.03, (15, 30))  # any of them is best
        left_out += chance_of_best(scores, int(scores.mean(axis=1).argmax()))[0] < 0.05
    assert left_out <= 400 * 0.05


def test_an_effect_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(0, np.log(128), 40))
    noise = rng.normal(0, 0.01, 40)
    rising = effect("κ", points(x, 0.01 * np.log(x) + noise))
    assert rising.visible
    assert rising.rank > 0.5
    peaked = effect("κ", points(x, -0.02 * abs(np.log(x / 11)) + noise))
    assert peaked.visible
    assert peaked.p_rank > 0.025  # an optimum in between is no trend
    best = peaked.bins.loc[peaked.bins["mean"].idxmax()]
    assert best["low"] < 15
    assert best["high"] > 7
    assert "κ mattered, over 40 trials" in peaked.sentence()


def test_chance_seldom_is_an_effect():
    rng = np.random.default_rng(0)
    found = [effect("κ", points(rng.random(30), rng.normal(0, 1, 30))) for _ in range(200)]
    assert sum(one.visible for one in found) <= 14
    assert "No effect of κ beyond chance over 30 trials" in found[0].sentence()
    assert "would not show" in found[0].sentence()


def test_what_cannot_be_told_is_said():
    x = np.arange(1.0, 21)
    assert "Too few trials" in effect("κ", points(x[:5], x[:5])).sentence()
    assert "hardly varied" in effect("κ", points(np.full(20, 8.0), x)).sentence()
    assert "score the same" in effect("κ", points(x, np.full(20, 0.7))).sentence()
    two = effect("κ", points(np.repeat([1.0, 64.0], 10), x))
    assert two.visible
    assert two.bins["count"].tolist() == [10, 10]


def test_findings_are_those_of_the_study():
    made = search(60)
    own = made.best_trial.user_attrs["image_scores"]
    base = [one - 0.03 for one in own]
    baseline = {
        "plain": {"mean": float(np.mean(base)), "image_scores": base},
        "other images": {"mean": 0.5, "image_scores": [0.5]},
    }
    made.set_user_attr("baseline", baseline)
    lost(made, TrialState.PRUNED, {"loss.kappa": 99.0}, pruned_at="fold 1, epoch 3")
    lost(made, TrialState.FAIL, {}, error="out of memory")
    found = find(made)
    assert found.states["count"].to_dict() == {
        "complete": 60, "pruned": 1, "failed": 1, "unfinished": 0}  # fmt: skip
    assert found.states.loc["complete", "seconds"] == 3600
    assert found.trials.index[0] == made.best_trial.number
    assert found.trials["value"].is_monotonic_decreasing
    scores = np.array(
        [made.trials[number].user_attrs["image_scores"] for number in found.trials.index]
    )
    assert found.optimism == selection_optimism(scores)
    assert found.images == IMAGES
    assert found.trials["tied"].iloc[0]
    assert not found.trials["tied"].iloc[-1]
    plain, other = found.baselines
    assert plain.gain == pytest.approx(0.03)
    assert plain.low == pytest.approx(0.03)
    assert np.isnan(other.low)
    assert found.pruned == {"fold 1, epoch 3": 1}
    assert found.pruned_with["loss.kappa"] == 1
    assert found.failures == [(61, "out of memory")]
    assert found.curves["loss.kappa"].visible
    assert not found.curves["loss.adaptive_lambda"].visible
    assert found.labels["training.lr"] == "lr"


def test_importances_take_conditional_parameters_and_know_chance():
    table = find(search(80, lr=0.05, kappa=0)).importances
    assert table.index[0] == "training.lr"
    assert table.loc["training.lr", "p"] < 0.05
    assert (table.drop("training.lr")["p"] >= 0.05).all()
    assert table["share"].sum() == pytest.approx(1)
    assert table.loc["loss.kappa", "trials"] < table.loc["loss", "trials"] == 80


def test_a_page_needs_nothing_but_itself(tmp_path, capsys):
    made = search(200)
    made.set_user_attr("hold_out", 4)
    lost(made, TrialState.FAIL, {}, error="out of memory in fold 2")
    read = page(made, tmp_path)
    assert all(link.startswith("#") for link in read.links)
    assert not read.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"url\((?!#)|@import|@font-face", read.text)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", read.text)) <= set(read.ids)
    for picture in re.findall(r"<svg.*?</svg>", read.text, re.DOTALL):
        ElementTree.fromstring(picture)
    for words in ("κ mattered", "No effect of λ", "Fold 4 took no part", "out of memory in fold 2",
                  "optuna-dashboard 'sqlite:///runs/made up/study.db'", "mean ± s.e."):  # fmt: skip
        assert words in read.words
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    print_findings(made)
    printed = capsys.readouterr().out
    assert "κ mattered" in printed
    assert f"Best is trial {made.best_trial.number}" in printed


def test_what_comes_from_a_study_is_escaped(tmp_path):
    evil = "<script>alert('$\\frac x$')</script>--><b>"
    made = study(metric=evil, data=evil, baseline={evil: {"mean": 0.4}})
    space = {evil: CategoricalDistribution([evil, "b"]), "lr": RATE}
    for number in range(3):
        add(made, {evil: ("b", evil)[number % 2], "lr": 10.0 ** -(number + 2)}, space,
            np.linspace(0.4, 0.6, 5) + 0.01 * number)  # fmt: skip
    lost(made, TrialState.FAIL, {}, error=evil)
    lost(made, TrialState.PRUNED, {}, pruned_at=evil)
    read = page(made, tmp_path)
    assert not read.tags & {"script", "b"}
    assert evil in read.words


def few(count: int, constant: bool = False) -> optuna.Study:
    made = study()
    for number in range(count):
        scores = np.linspace(0.5, 0.7, 6) + (0 if constant else 0.01 * number)
        add(made, {"lr": 10.0 ** -(2 + number % 3)}, {"lr": RATE}, scores)
    return made


@pytest.mark.parametrize("count, constant", [(0, False), (1, False), (2, False), (12, True)])
def test_small_and_flat_studies_have_a_page(tmp_path, count, constant, capsys):
    made = few(count, constant)
    read = page(made, tmp_path)
    assert f"{count} trial" in read.words
    assert ("No trial is complete" in read.words) == (count == 0)
    assert "matter" not in read.words  # no κ, no λ
    assert "nan" not in read.words
    print_findings(made)
    assert "nan" not in capsys.readouterr().out


def test_a_study_without_complete_trials_has_a_page(tmp_path):
    made = study()
    for number in range(3):
        lost(made, TrialState.PRUNED, {"loss.kappa": 2.0**number}, pruned_at="fold 0, epoch 2")
    read = page(made, tmp_path)
    assert "3 pruned" in read.words
    assert "No trial is complete" in read.words
    assert "fold 0, epoch 2" in read.words


def test_a_study_without_parameters_or_folds_has_a_page(tmp_path):
    made = study()
    for _ in range(12):
        add(made, {}, {}, [0.5])
    assert "12 complete" in page(made, tmp_path).words
