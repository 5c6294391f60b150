"""What is added by plugins and packages, proven before it is used: competitions and heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compkit.competition import COMPETITIONS, competition_of
from compkit.competition.base import Competition, Rules, Source, Table
from compkit.competition.proven import Proven
from compkit.config import LossConfig, RunConfig
from compkit.data import store
from compkit.errors import CompkitError
from compkit.heads.boundary import Boundary
from compkit.heads.proven import prove_head
from compkit.parameters import Param
from compkit.registry import HEADS, LOSSES

NAMES = ("0.png", "1.png")
LABELS = np.ones((2, 4, 4), np.uint8)
IMAGE = np.zeros((4, 4), np.uint8)


class Given(Competition, Source):
    """A competition that gives what it is told to."""

    name = "given"
    locator = "anything"

    def __init__(self, **given) -> None:
        sound = {"train": NAMES, "test": NAMES, "fingerprint": "a", "image": IMAGE}
        self.given = sound | {"labels": Table(NAMES, LABELS), "rules": Rules()} | given
        self.train, self.test, self.rules = (self.given[n] for n in ("train", "test", "rules"))

    def owns(self, data):
        return True

    def source(self, data):
        return self

    def fingerprint(self):
        return self.given["fingerprint"]

    def image(self, split, index):
        return self.given["image"]

    def labels(self):
        return self.given["labels"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(COMPETITIONS, "origin", lambda name: "the plugin mine.py")
    return tmp_path / "cache"


def table(labels, images=NAMES) -> dict[str, Table]:
    return {"labels": Table(images, labels)}


WRONG = {
    "float image": ({"image": IMAGE / 2}, "train image 0.png float64 of shape .*, where uint8"),
    "another size": ({"image": np.zeros((4, 5), np.uint8)}, r"\(4, 5\), where the size .* \(4, 4"),
    "channels": ({"image": np.zeros((4, 4, 2), np.uint8)}, r"uint8 of shape \(4, 4, 2\), where"),
    "no image": ({"image": None}, "as train image 0.png None"),
    "names twice": ({"train": ("0.png",) * 2}, "names of train images .*'0.png', '0.png'.* once"),
    "odd names": ({"test": ("a/b.png",)}, "names of test images 'a/b.png', where"),
    "names that are none": ({"test": 3}, "names of test images 3, where"),
    "no fingerprint": ({"fingerprint": None}, "as fingerprint None, where printable text"),
    "no text": ({"fingerprint": "\udcff"}, "as fingerprint .*, where printable text"),
    "labels of no names": (table(LABELS, None), "as labels uint8 .*, where a Table or"),
    "labels of others": (table(LABELS, ("0.png", "2.png")), "no column 1.png, but every image"),
    "labels of one": (table(LABELS[:1]), r"labels uint8 .*\(1, 4, 4\), where .* \(2, H, W\)"),
    "float labels": (table(LABELS / 2), "labels float64 of .* whole numbers from 0 to 4294967295"),
    "negative labels": (table(LABELS - np.int32(3)), "labels int32 .* from 0 to 4294967295"),
    "labels too high": (table(LABELS + np.int64(1 << 32)), "labels int64 .* from 0 to 4294967295"),
    "labels as they are": ({"labels": LABELS}, "as labels uint8 .*, where a Table"),
    "no rules": ({"rules": {"ranking": "adjusted_all"}}, "as rules {'ranking'"),
    "none beside": (
        {"rules": Rules(metrics=("v_rnad",))},
        "'given' cannot be told of by its metrics: there is no metric 'v_rnad' .did you mean 'v_r",
    ),
    "no such metric": ({"rules": Rules("adjusted")}, "'given' cannot rank: there is no metric"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_a_competition_gives_is_proven_before_a_store_is_built(place, monkeypatch, case):
    given, sentence = WRONG[case]
    monkeypatch.setattr(store, "competition_of", lambda data: Given(**given))
    with pytest.raises(CompkitError, match=sentence) as caught:
        store.open_store("x")
    assert "the competition 'given'" in str(caught.value)
    assert not list(place.rglob("store.json"))
    monkeypatch.setattr(store, "competition_of", lambda data: Given())
    assert (store.open_store("x").labels == LABELS).all()


@pytest.mark.parametrize("method", ["source", "fingerprint", "image", "labels"])
def test_what_a_competition_raises_is_told_as_its_own(monkeypatch, method):
    def broken(*_):
        raise KeyError("no such slice")

    monkeypatch.setattr(Given, method, broken)
    with pytest.raises(CompkitError, match=rf"'given' of the plugin mine.py fails in {method}"):
        source = Proven(Given(), "x")
        source.fingerprint(), source.labels(), source.image("train", 0)


def test_a_competition_without_a_name_and_one_that_fails_as_it_is_asked_are_told(monkeypatch):
    class Nameless(Given):
        name = None

    monkeypatch.setattr(COMPETITIONS, "names", lambda: ("given",))
    monkeypatch.setattr(COMPETITIONS, "get", lambda name: Nameless)
    with pytest.raises(CompkitError, match=r"'given' of the plugin mine.py .* must be text"):
        competition_of("x")
    monkeypatch.setattr(Given, "source", lambda self, data: property)
    with pytest.raises(CompkitError, match="names of train images None"):
        Proven(Given(), "x")
    with pytest.raises(CompkitError, match="rules have ranking 3: give a metric's name"):
        Rules(ranking=3)
    for metrics in ("v_rand", [3], None):
        with pytest.raises(CompkitError, match=r"have metrics .*: give a list of names"):
            Rules(metrics=metrics)


@pytest.mark.parametrize("limit", [0, 65536, 2.5, True, None])
def test_rules_that_cannot_be_are_refused(limit):
    with pytest.raises(CompkitError, match=f"max_label {limit}: give a whole number from 1"):
        Rules(max_label=limit)


HEAD = {
    "space": ({"seed": (0.5, 0.3)}, r"gives as space .*, where a mapping from names to Param"),
    "taken": ({"threshold": Param((0.5,), 0, 1)}, "'threshold', where a name that no other"),
    "outside": ({"seed": Param((2.0,), 0, 1)}, "'mine', in its space: the decoding's seed is 2.0"),
    "activate": (lambda self, x: x + 2, "as activate 2.0, where what is from 0 to 1"),
    "ideal": (lambda self, labels: self.targets(labels), r"ideal float32 .*\(2, 32, 32\), where"),
    "loss": (lambda self, *_: torch.zeros(2), r"as loss torch.float32 of shape \(2,\), where"),
    "constant": (lambda self, *_: torch.ones(()), "as loss .*, where a real number with a"),
    "targets": (lambda self, labels: labels, r"as targets int32 .* the shape \(any, 32, 32\)"),
    "outputs": (None, "'mine' of the plugin mine.py lacks what Partition has .TypeError"),
    "weight": (None, "'mine' of the plugin mine.py lacks what Partition has .TypeError"),
    "no tensor": (lambda self, x: x.sigmoid().numpy(), "as activate float32 .*, where a tensor"),
    "negative": (lambda self, *_: np.full((32, 32), -1), "as decode int64 .*, where a map of"),
    "decode": (lambda self, *_: None, r"as decode object .*, where a map of"),
    "reorient": (lambda self, maps, matrix: maps[0], "gives as reorient"),
    "affinities": (lambda self, maps, offsets: maps[5], "fails in affinities .IndexError"),
}  # fmt: skip


def head(**methods) -> type[Boundary]:
    return type("Mine", (Boundary,), {"name": "mine", **methods})


@pytest.mark.parametrize("case", HEAD)
def test_a_head_is_tried_before_anything_is_trained(monkeypatch, case):
    wrong, sentence = HEAD[case]
    if isinstance(wrong, dict):
        space, case = wrong, "__init__"

        def wrong(self, config, side):
            Boundary.__init__(self, config, side)
            self.space = space

    method = {"no tensor": "activate", "negative": "decode", "constant": "loss"}
    case = method.get(case, case)
    kinds = {"mine": head(**{case: wrong}), "boundary": Boundary}
    monkeypatch.setattr(HEADS, "get", kinds.__getitem__)
    monkeypatch.setattr(HEADS, "origin", lambda name: "the plugin mine.py")
    for name in ("mine", "boundary+mine"):
        with pytest.raises(CompkitError, match=sentence):
            prove_head(RunConfig(head=name), 64)


def test_a_head_that_lacks_a_method_or_is_none_is_named(monkeypatch):
    monkeypatch.setattr(HEADS, "origin", lambda name: "the plugin mine.py")
    lacking = head(decode=None)
    lacking.__abstractmethods__ = frozenset({"decode"})
    for kind, sentence in (
        (lacking, "'mine' of the plugin mine.py cannot be made .TypeError.*decode"),
        (lambda config, side: 3, "no subclass of Partition with the name 'mine'"),
        (Boundary, "no subclass of Partition with the name 'mine'"),
    ):
        monkeypatch.setattr(HEADS, "get", lambda name, kind=kind: kind)
        with pytest.raises(CompkitError, match=sentence):
            prove_head(RunConfig(head="mine"), 64)


def broken(logits):
    raise RuntimeError("sizes differ")


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (broken, "of the plugin .*sizes differ"),
        (lambda logits: logits.detach().sum(), "gives as a loss .*, where a real number with a"),
        (lambda logits: logits.sum() * 1j, "gives as a loss torch.complex64 .*, where a real"),
    ],
)
def test_each_loss_is_tried_too(monkeypatch, loss, sentence):
    sound = LOSSES.get("dice")
    terms = {"dice": sound, "mine": lambda logits, targets, weights: loss(logits)}
    monkeypatch.setattr(LOSSES, "get", terms.__getitem__)
    monkeypatch.setattr(LOSSES, "origin", lambda name: "the plugin mine.py")
    with pytest.raises(CompkitError, match=f"the loss 'mine' {sentence}"):
        prove_head(replace(RunConfig(), loss=LossConfig(dict.fromkeys(terms, 1.0))), 64)


@pytest.mark.parametrize("name", HEADS.names())
def test_all_heads_hold_what_partitions_promise(name):
    prove_head(RunConfig(head=name), 64)
