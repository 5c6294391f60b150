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
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from compkit.config import RunConfig
from compkit.errors import CompkitError
from compkit.leaderboard.estimates import selection_optimism
from compkit.tuning.findings import find
from compkit.tuning.page import print_findings, write_page
from compkit.tuning.space import read_space
from compkit.tuning.study import open_study, public_address

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


def test_scores_in_doubt_are_marked(tmp_path, capsys):
    made = search(12)
    best = f"{made.best_value:.4f}"
    for doubts in ([], ["1 group is cut & so on"]):
        made.set_user_attr("doubts", doubts)
        read = page(made, tmp_path)
        print_findings(made)
        for text in (read.words, capsys.readouterr().out):
            for mark in (f"{best}*", "* 1 group is cut & so on"):
                assert (mark in text) == bool(doubts)


def test_intervals_rest_on_the_groups_that_a_study_knows(tmp_path):
    one, three = few(3), few(3)
    best = one.best_trial.user_attrs["image_scores"]
    for made, groups in ((one, ["p"] * 6), (three, list("ppqqrr"))):
        made.set_user_attr("image_groups", groups)
        made.set_user_attr("baseline", {"plain": {"mean": 0.5, "image_scores": [0.5] * 6}})
        alike = {"trial": 2, "of": 1, "fold": 0, "best": best, "base": best}
        made.set_user_attr("confirmed", [alike | {"groups": groups}])
    alone = find(one)
    assert alone.trials[["low", "high"]].isna().all(axis=None)
    assert alone.trials["tied"].all()
    assert np.isnan(alone.optimism)
    words = page(one, tmp_path).words
    assert "nan" not in words
    assert words.count("95 % n/a, no interval: all are one group") == 2
    wide = find(three)
    assert "resampling 3 groups, too few" in page(three, tmp_path).words
    assert wide.trials["low"].iloc[0] < 0.567  # ends of three pairs of neighbours


def test_what_mattered_is_told_from_the_lowest_rung(tmp_path, capsys):
    made, lower = few(3), search(200)
    best = made.best_trial.user_attrs["image_scores"]
    base = [one - 0.02 for one in best]
    alike = {"trial": 2, "best": best, "base": base}
    confirmed = [alike | {"of": 3, "fold": None}, alike | {"of": 1, "fold": 0}]
    made.set_user_attr("confirmed", confirmed)
    write_page(made, tmp_path / "page.html", "sqlite:///x.db", [lower])
    words = Page(tmp_path / "page.html").words
    print_findings(made, [lower])
    over = "resampling 6 images, too few to be sure of it"
    gain = (
        f"0.6200 (95 % 0.567 to 0.673, {over}) and the base configuration 0.6000: a gain of +0.02"
    )
    for word in (
        "Trained again with another seed, trial 2, the best of 3, scores " + gain,
                 "On fold 0, by which nothing was chosen, trial 2 scores " + gain,
                 "Importance of parameters in rung 0", "Did κ and λ matter in rung 0?",
    ):  # fmt: skip
        assert word in words
    for printed in (words, capsys.readouterr().out):
        assert "Best is trial 2" in printed
        assert "rung 0: 200 trials at about 1/3 of the work each: 200 complete" in printed
        assert "κ mattered" in printed


def test_what_comes_from_a_study_is_escaped(tmp_path):
    evil = "<script>alert('$\\frac x$')</script>--><b>"
    made = study(metric=evil, baseline={evil: {"mean": 0.4}})
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


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("postgresql://me:s3cret@host:5432/db", "postgresql://me:***@host:5432/db"),
        (
            "postgresql://me:s%403cret@h/d?sslmode=require",
            "postgresql://me:***@h/d?sslmode=require",
        ),
        ("postgresql://h/d?user=me&password=s3cret", "postgresql://h/d?password=***&user=me"),
        ("mssql+pyodbc:///?odbc_connect=a;PWD=s3cret", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://me:a@s3cret@h/d?password=s3cret", "postgresql://***@h/d?***"),
        ("postgresql://me:s3cret@h:none/d", "postgresql://***@h:none/d"),
        ("sqlite:///runs/a b/study.db", "sqlite:///runs/a b/study.db"),
        ("runs/me@work/study.log", "runs/me@work/study.log"),
    ],
)
def test_no_password_is_shown(tmp_path, storage, shown):
    assert public_address(storage) == shown
    write_page(study(), tmp_path / "page.html", storage)
    text = Page(tmp_path / "page.html").words
    assert shown in text
    assert "3cret" not in text
    assert ("in place of ***" in text) == (shown != storage)


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql+psycopg://me:s3cret@127.0.0.1:9/db",  # nobody answers
        "postgresql+psycopg://127.0.0.1:9/db?user=me&password=s3cret",
        "nodriver://me:s3cret@h/db",
        "postgresql://me:s3cret@h:none/db",
        "postgresql:me:s3cret@h/db",
    ],
)
def test_no_sentence_tells_a_password(storage):
    with pytest.raises(CompkitError) as caught:
        open_study("x", storage, "random", read_space(), RunConfig(), {})
    assert "***" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
