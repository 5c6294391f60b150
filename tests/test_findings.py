"""What comes out of a study, on made-up ones whose answer is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import NopPruner
from optuna.trial import TrialState, create_trial

from compkit.config import RunConfig
from compkit.config.files import to_plain
from compkit.errors import CompkitError
from compkit.tuning.findings import chance_of_best, effect, print_findings, sentences
from compkit.tuning.page import write_page
from compkit.tuning.storage import open_study, public_address

RATE = FloatDistribution(1e-4, 1e-1, log=True)
KAPPA = FloatDistribution(1, 128, log=True)
IMAGES = 12


def study(**attributes: Any) -> optuna.Study:
    made = optuna.create_study(direction="maximize", study_name="made up")
    made_of = {"metric": "adjusted_all", "data": "phantom:", "hold-out": None}
    for name, value in {"made_of": made_of, **attributes}.items():
        made.set_user_attr(name, value)
    return made


def add(
    made: optuna.Study,
    params: dict[str, Any],
    space: dict[str, Any],
    scores: Sequence[float],
    **attributes: Any,
) -> None:
    scores = [float(one) for one in scores]
    attributes |= {"image_scores": scores, "seconds": 60.0, "run": f"run {len(made.trials)}"}
    attributes["settings"] = {**params, "loss.terms": {"dice": 1.0}}
    made.add_trial(
        create_trial(
            params=params,
            distributions={name: space[name] for name in params},
            value=float(np.mean(scores)),
            user_attrs=attributes,
        )
    )


def lost(made: optuna.Study, state: TrialState, **attributes: str) -> None:
    made.add_trial(create_trial(state=state, user_attrs=attributes))


def search(count: int) -> optuna.Study:
    """Return a study whose score falls with the distance of lr from 0.003 and of κ from 8."""
    rng, made = np.random.default_rng(0), study()
    losses = CategoricalDistribution(["dice", "fixed", "adaptive"])
    space = {"training.lr": RATE, "loss.terms": losses, "loss.kappa": KAPPA,
             "loss.adaptive_lambda": KAPPA, "nothing": FloatDistribution(0, 1)}  # fmt: skip
    images = rng.normal(0, 0.1, IMAGES)
    for number in range(count):
        loss = str(rng.choice(losses.choices))
        params = {"training.lr": 10 ** rng.uniform(-4, -1), "nothing": rng.random()}
        params["loss.terms"] = loss
        score = 0.7 - 0.02 * (np.log10(params["training.lr"]) + 2.5) ** 2 + rng.normal(0, 0.004)
        if loss != "dice":
            name = "loss.kappa" if loss == "fixed" else "loss.adaptive_lambda"
            params[name] = float(np.exp(rng.uniform(0, np.log(128))))
            score -= 0.02 * abs(np.log(params[name] / 8)) if loss == "fixed" else 0
        add(made, params, space, score + images + rng.normal(0, 0.01, IMAGES), base=number == 0)
    return made


class Page(HTMLParser):
    """A page that was read, its tags all closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(path.read_text())
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words += re.sub(r"\s+", " ", data)


def page(made: optuna.Study, folder: Path) -> Page:
    write_page(made, folder / "page.html", "sqlite:///runs/made up/study.db")
    return Page(folder / "page.html")


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


def test_copies_of_images_are_no_evidence():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, 12) + rng.normal(0, 0.03, (6, 12))
    best = int(scores.mean(axis=1).argmax())
    copies, groups = np.repeat(scores, 20, axis=1), np.repeat([f"p{n}" for n in range(12)], 20)
    p = chance_of_best(scores, best)
    assert chance_of_best(copies, best, groups) == pytest.approx(p)
    assert (chance_of_best(copies, best) < p)[p < 1].all()
    assert chance_of_best(scores, best, np.zeros(12)).tolist() == [1] * 6


def test_a_truly_best_trial_is_seldom_left_out_for_groups_that_differ_by_chance():
    rng = np.random.default_rng(0)
    left_out, groups = np.zeros(2), np.repeat(np.arange(12), 10)
    for _ in range(200):
        scores = rng.normal(0, 0.03, (8, 12))[:, groups] + rng.normal(0, 0.01, (8, 120))
        best = int(scores.mean(axis=1).argmax())
        for kind, given in enumerate((groups, None)):
            left_out[kind] += chance_of_best(scores, best, given)[0] < 0.05
    assert left_out[0] <= 200 * 0.05
    assert left_out[1] > 200 * 0.2


def test_an_effect_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(0, np.log(128), 40))
    noise = rng.normal(0, 0.01, 40)
    assert "κ mattered, over 40 trials" in effect("κ", x, 0.01 * np.log(x) + noise)
    peaked = effect("κ", x, -0.02 * abs(np.log(x / 11)) + noise)  # an optimum is no trend
    low, high = re.search(r"κ mattered.*best at ([\d.]+)–([\d.]+),", peaked).groups()
    assert float(low) < 15
    assert float(high) > 7
    assert "κ mattered" in effect("κ", np.repeat([1.0, 64.0], 10), np.arange(20.0))


def test_chance_seldom_is_an_effect():
    rng = np.random.default_rng(0)
    found = [effect("κ", rng.random(30), rng.normal(0, 1, 30)) for _ in range(200)]
    assert sum("mattered" in one for one in found) <= 14
    assert "No effect of κ beyond chance over 30 trials" in found[0]


def test_what_cannot_be_told_is_said():
    x = np.arange(1.0, 21)
    assert "Too few trials" in effect("κ", x[:5], x[:5])
    assert "hardly varied" in effect("κ", np.full(20, 8.0), x)
    assert "score the same" in effect("κ", x, np.full(20, 0.7))


def test_a_page_needs_nothing_but_itself_and_tells_what_was_found(tmp_path, capsys):
    made = search(60)
    made.set_user_attr("made_of", made.user_attrs["made_of"] | {"hold-out": 4})
    lost(made, TrialState.FAIL, error="out of memory in fold 2")
    lost(made, TrialState.PRUNED)
    read = page(made, tmp_path)
    assert not read.links
    assert not read.tags & {"link", "img", "iframe"}
    base = made.trials[0].value
    told = (f"Best is trial {made.best_trial.number}: {made.best_value:.4f}", "κ mattered",
            "No effect of λ", "62 trials for adjusted_all", "60 complete, 1 failed, 1 pruned",
            "Fold 4 took no part", f"the base configuration ({base:.4f}): a gain of +")  # fmt: skip
    print_findings(made)
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    for words in told:
        assert words in read.words
        assert words in printed
    for words in ("out of memory in fold 2", "optuna-dashboard 'sqlite:///runs/made up/study.db'",
                  "0 (base)", "Importance", "Combinations", "Ranks of pairs"):  # fmt: skip
        assert words in read.words
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


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


def few(count: int, constant: bool = False) -> optuna.Study:
    made = study()
    for number in range(count):
        scores = np.linspace(0.5, 0.7, 6) + (0 if constant else 0.01 * number)
        add(made, {"lr": 10.0 ** -(2 + number % 3)}, {"lr": RATE}, scores, base=number == 0)
    return made


def test_intervals_rest_on_the_groups_that_a_study_knows(tmp_path):
    one, three = few(3), few(3)
    best = one.best_trial.user_attrs["image_scores"]
    for made, groups in ((one, ["p"] * 6), (three, list("ppqqrr"))):
        made.set_user_attr("image_groups", groups)
        alike = {"trial": 2, "of": 1, "fold": 0, "best": best, "base": best}
        made.set_user_attr("confirmed", [alike | {"groups": groups}])
    words = page(one, tmp_path).words
    assert "nan" not in words
    assert words.count("95 % n/a, no interval: all are one group") == 2
    assert "2 of the 2 others cannot be told apart" in words
    assert "too good by" not in words
    assert "resampling 3 groups, too few" in page(three, tmp_path).words


def test_what_was_confirmed_is_told(tmp_path):
    made = few(3)
    best = made.best_trial.user_attrs["image_scores"]
    alike = {"trial": 2, "best": best, "base": [one - 0.02 for one in best], "groups": None}
    confirmed = [alike | {"of": 3, "fold": None}, alike | {"of": 1, "fold": 0}]
    made.set_user_attr("confirmed", confirmed)
    words = page(made, tmp_path).words
    over = "resampling 6 images, too few to be sure of it"
    score = f"0.6200 (95 % 0.567 to 0.673, {over})"
    gain = f"{score} and the base configuration 0.6000: a gain of +0.02"
    assert "Trained again with another seed, trial 2, the best of 3, scores " + gain in words
    assert "On fold 0, by which nothing was chosen, trial 2 scores " + gain in words
    made.set_user_attr("confirmed", [confirmed[0] | {"base": None}])
    assert f"scores {score}." in page(made, tmp_path).words


def test_what_comes_from_a_study_is_escaped(tmp_path):
    evil = "<script>alert('$\\frac x$')</script>--><b>"
    made = study(made_of={"metric": evil})
    space = {evil: CategoricalDistribution([evil, "b"]), "lr": RATE}
    for number in range(12):
        add(made, {evil: ("b", evil)[number % 2], "lr": 10.0 ** -(number % 3 + 2)}, space,
            np.linspace(0.4, 0.6, 5) + 0.01 * number)  # fmt: skip
    lost(made, TrialState.FAIL, error=evil)
    read = page(made, tmp_path)
    assert "b" not in read.tags
    assert read.words.count(evil) >= 3
    assert "alert" in read.words
    assert "<script>alert" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("count, constant", [(0, False), (1, False), (2, False), (12, True)])
def test_small_and_flat_studies_have_a_page(tmp_path, count, constant, capsys):
    made = few(count, constant)
    read = page(made, tmp_path)
    assert f"{count} trials" in read.words
    assert ("No trial is complete" in read.words) == (count == 0)
    assert "matter" not in read.words  # no κ, no λ
    assert "nan" not in read.words
    print_findings(made)
    assert "nan" not in capsys.readouterr().out


def test_a_base_that_was_lost_or_is_best_is_said():
    made = study()
    add(made, {}, {}, [0.5, 0.6])
    assert any("was not completed" in one for one in sentences(made))
    add(made, {}, {}, [0.7, 0.8], base=True)
    assert any("no trial scores higher" in one for one in sentences(made))


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
        "postgresql+psycopg://me:a@s3cret@127.0.0.1:9/db",
    ],
)
def test_no_sentence_tells_a_password(storage):
    with pytest.raises(CompkitError) as caught:
        open_study("x", storage, NopPruner(), {"base": to_plain(RunConfig())})
    assert "***" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
