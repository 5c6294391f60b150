"""What plugins and packages add: found by name, refused in a sentence, used in every process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from compkit import plugins, registry
from compkit.begin import start_run
from compkit.cli import main
from compkit.competition import competition_of
from compkit.competition.table import write_table
from compkit.config import FoldsConfig, LossConfig, ModelConfig, RunConfig
from compkit.config.check import check_all
from compkit.errors import CompkitError
from compkit.leaderboard.ledger import add_row, set_scores
from compkit.metrics.named import REGISTRY, image_scores
from compkit.metrics.rand import METRICS
from compkit.models.checkpoint import CARD, card, card_of
from compkit.models.network import check_names
from compkit.phantom.slices import draw_slice
from compkit.run import open_run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")

CONFIG = """
encoders: [resnet10_narrow]
head: core+boundary
folds: {k: 2, grouped: false}
model: {weights: none}
loss: {terms: {brier: 1.0, cross_entropy: 1.0}}
input: {batch: 2}
training: {steps: 4, steps_per_epoch: 2, warmup: 1}
machine: {workers: 1, device: cpu}
"""

#: Makes loaders start their processes anew, in which nothing is imported yet.
SPAWN = 'import multiprocessing; multiprocessing.set_start_method("spawn")'


def blocks(language: str, encoder: str = "resnet10_narrow") -> str:
    """Return the code of `docs/extending.md`; timm keeps its encoder as long as a process lives."""
    code = "\n\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL))
    return code.replace("resnet10_narrow", encoder)


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def package(folder: Path, entries: str, text: str | None = None) -> Path:
    """Make what an installed package leaves: its entry points, and its module `theirs`."""
    about = folder / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entries)
    if text is not None:
        (folder / "theirs.py").write_text(text)
    return folder


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Let a test add what it likes; nothing of it is left afterwards."""
    monkeypatch.setattr(registry, "_registered", {group: [] for group in registry._registered})
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_expected", {})
    registry._installed.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    registry._installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith(f"{plugins.__name__}.")]:
        del sys.modules[name]
    sys.modules.pop("theirs", None)
    plugins.__path__.clear()


DATA = "phantom:size=32,labelled=6,unlabelled=0,test=1"
METRIC = """
from compkit.registry import register
@register("compkit.metrics", "{name}")
def metric(truth, prediction):
    return {value}
"""


def test_a_plugin_adds_a_metric(fresh):
    plugins.add(plugin(fresh, METRIC.format(name="mine", value="truth.mean() - prediction.mean()")))
    ones, zeros = np.ones((2, 2), int), np.zeros((2, 2), int)
    assert REGISTRY.names() == (*REGISTRY.builtin, "mine")
    assert image_scores(ones, zeros, ["mine", "plain_foreground"]) == {
        "mine": 1.0, "plain_foreground": 1.0,
    }  # fmt: skip
    check_all(RunConfig(ranking="mine"), encoders=False)


def test_of_a_package_only_what_is_asked_for_is_imported(fresh):
    entries = "[compkit.metrics]\nbroken = theirs:metric\nsound = others:metric\n"
    package(fresh, entries, "raise OSError('no such library')")
    (fresh / "others.py").write_text("def metric(truth, prediction): return 0.5")
    assert image_scores(np.ones((2, 2), int), np.ones((2, 2), int), ["sound"]) == {"sound": 0.5}
    assert "broken" in REGISTRY.names()
    with pytest.raises(CompkitError, match=r"'broken' of the package theirs .*no such library"):
        REGISTRY.get("broken")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("2.0", "'mine' is 2 of an image"),
        ("float('inf')", "is inf of"),
        ("None", "'mine' of the plugin .*mine.py cannot be computed .TypeError"),
        ("1 / 0", "'mine' of .* cannot be computed .ZeroDivisionError"),
        ("exit()", "'mine' of .* cannot be computed .SystemExit"),
    ],
)
def test_a_metric_keeps_to_its_range(fresh, value, sentence):
    plugins.add(plugin(fresh, METRIC.format(name="mine", value=value)))
    with pytest.raises(CompkitError, match=sentence):
        image_scores(np.ones((2, 2), int), np.ones((2, 2), int), ["mine"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("adjusted_all", "registered twice, by compkit and by the plugin .*mine.py"),
        ("theirs", r"twice, by the package theirs \(theirs:metric\) and by the plugin .*mine.py"),
    ],
)
def test_a_name_is_registered_once(fresh, name, sentence):
    package(fresh, "[compkit.metrics]\ntheirs = theirs:metric\n", "def metric(a, b): return 0.0")
    plugins.add(plugin(fresh, METRIC.format(name=name, value=1.0)))
    with pytest.raises(CompkitError, match=sentence):
        REGISTRY.get(name)


def test_an_entry_point_and_a_decorator_may_say_the_same(fresh):
    text = METRIC.format(name="theirs", value=0.25)
    package(fresh, "[compkit.metrics]\ntheirs = theirs:metric\n", text)
    assert REGISTRY.get("theirs")(None, None) == 0.25
    assert REGISTRY.get("theirs")(None, None) == 0.25  # now both have been said


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"ranking": "adjusted_al"}, "no metric 'adjusted_al' .did you mean 'adjusted_all'"),
        ({"head": "bounday+slots"}, "no head 'bounday' .did you mean 'boundary'.*foreground, aff"),
        ({"ranking": "loss"}, "no metric 'loss'"),
    ],
)
def test_an_unknown_name_is_answered_by_what_there_is(config, sentence):
    with pytest.raises(CompkitError, match=sentence):
        check_all(RunConfig(**config), encoders=False)


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("import nothing_like_this", "mine.py", "mine.py cannot be imported .ModuleNotFoundError"),
        ("import sys; sys.exit()", "mine.py", "mine.py cannot be imported .SystemExit"),
        ("def f(:", "mine.py", "mine.py cannot be imported .SyntaxError"),
        ("", "my-plugin.py", "cannot be imported under this name"),
        ("", "mine.txt", "cannot be imported under this name"),
        (
            "from compkit.registry import register\nregister('compkit.metric', 'x')", "mine.py",
            "no group 'compkit.metric' .did you mean 'compkit.metrics'",
        ),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_used_is_named(fresh, capsys, text, name, sentence):
    for argv in (["--plugin", str(plugin(fresh, text, name)), "ledger"], ["ledger", "--plugin="]):
        assert main(argv) == 2
    assert re.search(f"{sentence}.*\n.*names no file", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("@register('compkit.metrics', '')\ndef f(a, b): ...", "nothing .* can be called ''"),
        ("@register('compkit.heads', 'a+b')\nclass F: ...", "nothing .* can be called 'a.b'"),
        ("@register('compkit.heads', 3)\nclass F: ...", "nothing of compkit.heads .* 3"),
        ("register('compkit.metrics', 'm')(lambda a, b: 0)", "'m' of compkit.metrics is .*lambda"),
        ("register('compkit.metrics', 'm')(map(len, ''))", "which other processes cannot import"),
        (
            "def make():\n @register('compkit.heads', 'm')\n class F: ...\nmake()",
            "'m' of compkit.heads is .*make.<locals>.F.*and not inside of a function",
        ),
    ],
)
def test_what_other_processes_could_not_find_is_not_registered(fresh, text, sentence):
    plugins.add(plugin(fresh, f"from compkit.registry import register\n{text}"))
    with pytest.raises(CompkitError, match=sentence):
        REGISTRY.names()


def test_a_metric_of_the_contingency_table_is_registered_as_it_is_decorated(fresh):
    text = """
from compkit.metrics.rand import OfTable
from compkit.registry import register
@register("compkit.metrics", "cells")
@OfTable
def cells(table):
    return 1 / table.size
"""
    plugins.add(plugin(fresh, text))
    assert image_scores(np.eye(2, dtype=int), np.eye(2, dtype=int), ["cells"]) == {"cells": 0.25}


@pytest.mark.parametrize("name", ["pixel_dice", "region_iou", "score"])
def test_a_metric_is_not_called_as_a_column_is(fresh, name):
    plugins.add(plugin(fresh, METRIC.format(name=name, value=1.0)))
    with pytest.raises(CompkitError, match=f"no metric can be called '{name}', as a column is"):
        check_all(RunConfig(ranking=name), encoders=False)


def test_the_environment_names_only_what_can_be_a_plugin(fresh, capsys, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, str(plugin(fresh, "", "x.txt")))
    assert main(["ledger"]) == 2
    assert "x.txt cannot be imported under this name" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["score", "--help"], ["train", "--help"]])
def test_help_is_given_where_a_plugin_is_broken_and_names_it(fresh, capsys, words):
    for file in (plugin(fresh, "1 / 0"), fresh / "absent.py"):
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--plugin", str(file)])
        shown = capsys.readouterr().out
        assert re.search(f"without plugins, since .*{file}.*\n(.*\n)*usage: compkit", shown)
        assert main(["ledger", "--plugin", str(file)]) == 2
        os.environ[plugins.VARIABLE] = ""


def test_a_run_tells_with_which_plugins_it_was_made(fresh, capsys, monkeypatch):
    monkeypatch.chdir(fresh)
    monkeypatch.setenv("COMPKIT_CACHE", "cache")
    plugins.add(plugin(fresh, METRIC.format(name="mine", value=1.0)).name)
    start_run("a", RunConfig(ranking="mine", folds=FoldsConfig(k=2)), DATA)
    assert json.loads(Path("runs/a/run.json").read_text())["plugins"].keys() == {"mine.py"}
    hint = "; the run a was made with --plugin mine.py"
    about = card(RunConfig(), "resnet18", 32, ())
    registry._registered["compkit.metrics"].clear()
    plugins.clear()
    assert card_of(Path("lone.ckpt"), {CARD: about}, "").plugins.keys() == {"mine.py"}
    assert plugins.hint() == "; lone.ckpt was made with --plugin mine.py"
    monkeypatch.setattr(plugins, "_expected", {})
    open_run("a")
    card_of(Path("runs/a/last.ckpt"), {CARD: about}, "")  # which is not told again
    for broken, sentence in (
        (lambda: check_all(RunConfig(ranking="mine"), encoders=False), "no metric 'mine'.*"),
        (lambda: check_all(RunConfig(head="core"), encoders=False), "no head 'core'.*"),
        (lambda: check_all(RunConfig(loss=LossConfig({"x": 1.0})), encoders=False), "no loss.*"),
        (lambda: check_names(("resnet_d",), ModelConfig()), "no timm encoder 'resnet_d'.*"),
        (lambda: competition_of("nowhere"), "no competition's data at nowhere.*"),
    ):
        with pytest.raises(CompkitError, match=sentence + hint):
            broken()
    capsys.readouterr()
    plugins.add(plugin(fresh, METRIC.format(name="mine", value=0.5)))
    open_run("a")
    assert "begun with other plugins, or ones that were edited since (mine.py)" in (
        capsys.readouterr().err
    )


def test_plugins_of_one_name_are_told_apart(fresh, capsys):
    paths = [fresh / name / "mine.py" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("")
    assert main(["--plugin", str(paths[0]), "ledger", f"--plugin={paths[1]}"]) == 2
    assert re.search(f"{paths[0]} and {paths[1]} have one name", capsys.readouterr().err)


def test_a_competition_is_that_of_the_data(fresh):
    folder = fresh / "data"
    folder.mkdir()
    text = blocks("python", "resnet_b")
    text = text.replace('"train" / "0" / "label.npy").is_file', '"X_train").exists')
    assert 'Path(data) / "X_train"' in text
    with pytest.raises(CompkitError, match=r"in a layout of docs/data.md \(raidium, phantom, "):
        competition_of(str(folder))
    (folder / "X_train").mkdir()
    assert competition_of(str(folder)).name == "raidium"
    plugins.add(plugin(fresh, text))
    with pytest.raises(CompkitError, match=r"is of several competitions \(raidium, folders\)"):
        competition_of(str(folder))
    assert competition_of("phantom:size=64").name == "phantom"


def test_a_command_of_compkit_stays_its_own(fresh, capsys):
    names = ("ledger", "train", "scan")
    entries = "".join(f"{name} = theirs:fill\n" for name in names)
    package(fresh, f"[compkit.commands]\n{entries}", "1 / 0")
    for own in names[:2]:
        assert main([own]) == 2
        assert "twice, by compkit and by the package theirs" in capsys.readouterr().err
    assert main(["scan"]) == 2
    assert "'scan' of the package theirs (theirs:fill) cannot be" in capsys.readouterr().err
    (fresh / "idle.py").write_text(
        "from compkit.registry import register\n\n\n"
        "@register('compkit.commands', 'idle')\ndef fill(parser):\n    pass\n"
    )
    assert main(["--plugin", str(fresh / "idle.py"), "idle"]) == 2
    assert "gives as command None, where a function, by parser.set_" in capsys.readouterr().err
    assert main(["scann"]) == 2
    assert "no command 'scann' (did you mean 'scan'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert re.search(r"scan +from the package theirs", capsys.readouterr().out)


def test_a_command_of_research_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(registry, "_installed", lambda group: [])
    for name in ("pretrain", "sam"):
        assert main([name, "mae"]) == 2
        assert f"compkit {name} comes with the package" in capsys.readouterr().err


def test_a_plugin_stands_before_or_after_the_command_or_in_the_environment(
    fresh, capsys, monkeypatch
):
    monkeypatch.chdir(fresh)
    write_table(fresh / "y.csv", ["0.png"], np.eye(8, dtype=int)[None])
    option = ["--plugin", str(plugin(fresh, METRIC.format(name="mine", value=0.125)))]
    score = ["score", str(fresh / "y.csv"), "--truth", str(fresh / "y.csv"), "--metric", "mine"]
    assert main(score) == 2
    assert "no metric 'mine'" in capsys.readouterr().err
    for argv in ([*option, *score], [*score, *option], [*option, *score, *option], score):
        os.environ[plugins.VARIABLE] = "mine.py" if argv is score else ""
        assert main(argv) == 0
        assert "0.1250" in capsys.readouterr().out


def test_no_blend_is_found_by_an_added_metric(fresh, capsys):
    option = ["--plugin", str(plugin(fresh, METRIC.format(name="mine", value=0.125)))]
    assert main(["blend", "a.csv", "b.csv", "--out", "c.csv", "--metric", "mine", *option]) == 2
    assert "no blend can be found by mine, only by a Rand index" in capsys.readouterr().err


def test_the_ledger_shows_added_metrics_where_they_are_known(fresh, capsys):
    ledger = fresh / "ledger.csv"
    for name, extra in (("a", {}), ("b", {"mine": 0.25})):
        add_row(ledger, fresh / f"{name}.csv", name, name, 1, dict.fromkeys(METRICS, 0.5) | extra)
        set_scores(ledger, f"{name}.csv", {"public": 0.5})
    assert main(["ledger", "--ledger", str(ledger)]) == 0
    assert "mine" not in capsys.readouterr().out
    option = ["--plugin", str(plugin(fresh, METRIC.format(name="mine", value=0.125)))]
    assert main(["ledger", "--ledger", str(ledger), *option]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"0\.5000 +0\.5000 +0\.5000 +0\.2500", shown)
    assert "2 public scores against the local ones" in shown  # of those that both rows have


def test_timm_learns_of_the_encoders_of_a_package(fresh):
    config = ModelConfig(weights="none")
    with pytest.raises(CompkitError, match="no timm encoder 'resnet_c'"):
        check_names(("resnet_c",), config)
    registry._installed.cache_clear()
    package(fresh, "[compkit.encoders]\nresnet_c = theirs:resnet_c\n", blocks("python", "resnet_c"))
    check_names(("resnet_c",), config)


def test_a_command_is_run(fresh, capsys, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(fresh / "cache"))
    package(fresh, "[compkit.commands]\nshape = theirs:shape\n", blocks("python", "resnet_a"))
    data = "phantom:size=64,labelled=2,unlabelled=0,test=1"
    assert main(["shape", "--data", data]) == 0
    assert "phantom: 2 images of 64²" in capsys.readouterr().out


def test_where_a_metric_says_nothing_json_says_null(fresh, capsys):
    labels = np.stack([np.eye(8, dtype=int), np.zeros((8, 8), int)])
    write_table(fresh / "y.csv", ["0.png", "1.png"], labels)
    nothing = METRIC.format(name="mine", value="0.5 if truth.any() else float('nan')")
    score = ["score", str(fresh / "y.csv"), "--truth", str(fresh / "y.csv"), "--metric", "mine"]
    assert main([*score, "--json", "--plugin", str(plugin(fresh, nothing))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found["per_image"][image]["mine"] for image in ("0.png", "1.png")] == [0.5, None]
    assert found["means"]["mine"] == 0.5
    assert found["intervals"]["mine"] is None  # of a single image


class Project:
    """A folder to run commands in, with data of a competition that only the plugin knows."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        own = {"COMPKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", **environment}
        self.environment = os.environ | own
        (folder / "c.yaml").write_text(CONFIG)
        for split, count in (("train", 6), ("test", 2)):
            for index in range(count):
                image = folder / "data" / split / str(index)
                image.mkdir(parents=True)
                drawn = draw_slice(0, split, index, 64)
                Image.fromarray(drawn.image).save(image / "image.png")
                if split == "train":
                    np.save(image / "label.npy", drawn.labels)

    def __call__(self, *argv: str, code: int = 0) -> str:
        """Run a script of the root, or a module, and return what it says."""
        ended = subprocess.run(
            [sys.executable, *argv], cwd=self.folder, env=self.environment, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        return ended.stdout + ended.stderr


COMPKIT = ("-m", "compkit.cli")
TRAIN = (str(ROOT / "train.py"), "--config", "c.yaml", "--data", "data", "--run", "a")


@pytest.mark.slow
def test_a_package_takes_part_from_data_to_submission(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    plugin(source, blocks("python"), "my_plugin.py")
    (source / "pyproject.toml").write_text(blocks("toml"))
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([sys.executable, *pip, "--target", site, source], check=True)
    run = Project(tmp_path, PYTHONPATH=os.pathsep.join(map(str, (tmp_path, ROOT, site))))
    assert "region_count" in run(*TRAIN)
    assert "a.csv: 2 images" in run(*COMPKIT, "submit", "--run", "a", "--out", "s/a.csv")
    manifest = json.loads((tmp_path / "s/a.json").read_text())
    assert manifest["max_label"] == 1000
    score = manifest["out_of_fold"]["scores"]["region_count"]
    ledger = pd.read_csv(tmp_path / "s/ledger.csv")
    assert ledger.loc[0, "region_count"] == pytest.approx(score, abs=1e-6)


@pytest.mark.slow
def test_a_plugin_file_takes_part_in_training_and_scoring(tmp_path):
    plugin(tmp_path, blocks("python"), "my_plugin.py")
    plugin(tmp_path, SPAWN, "sitecustomize.py")
    run = Project(tmp_path, PYTHONPATH=os.pathsep.join(map(str, (tmp_path, ROOT))))
    option = ("--plugin", "my_plugin.py")
    assert "still to train: resnet10_narrow fold 1" in run(*TRAIN, "--fold", "0", *option)


PROCESSES = """
from joblib import Parallel, delayed
from compkit import plugins
from compkit.competition import competition_of
from compkit.competition.table import write_table
from compkit.config import LossConfig, RunConfig
from compkit.data.store import open_store
from compkit.heads import make_head
from compkit.metrics.named import image_scores

if __name__ == "__main__":
    plugins.add("my_plugin.py")
    store = open_store("data")
    head = make_head(RunConfig(head="core", loss=LossConfig(terms={"brier": 1.0})), 64)
    labels = store.labels_of(0)
    found = Parallel(n_jobs=2)(delayed(head.ideal)(labels) for _ in range(2))
    assert (found[0] == head.ideal(labels)).all()
    jobs = (delayed(image_scores)(labels, labels, ["region_count"]) for _ in range(2))
    assert Parallel(n_jobs=2)(jobs) == [{"region_count": 1.0}] * 2
    assert Parallel(n_jobs=2)([delayed(len)(store.train), delayed(store.labels_of)(0)])[0] == 6
    print("all are known")
"""


@pytest.mark.slow
def test_other_processes_know_what_a_plugin_defines(tmp_path):
    plugin(tmp_path, blocks("python"), "my_plugin.py")
    run = Project(tmp_path, PYTHONPATH=os.pathsep.join(map(str, (tmp_path, ROOT))))
    assert "all are known" in run(str(plugin(tmp_path, PROCESSES, "script.py")))
