"""The consensus of label maps: never worse than an input, blind to names."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compkit.blend.consensus import find_consensus, joint_segments, objective_of
from compkit.blend.search import search
from compkit.cli import main
from compkit.competition.table import fill_table, read_table, write_table
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
from compkit.regions import numbered
from compkit.submission import forms, publish
from compkit.submission.forms import PixelTable

some = settings(max_examples=40)
metrics = st.sampled_from(METRICS)


@st.composite
def label_maps(draw: st.DrawFn, side: int = 4) -> np.ndarray:
    """Draw 2 to 5 label maps, (M, side, side), half of them copies of another in most places."""
    count = draw(st.integers(2, 5))
    one = st.integers(0, draw(st.integers(1, 4)))
    maps = draw(hnp.arrays("u1", (count, side, side), elements=one))
    if draw(st.booleans()):
        kept = draw(hnp.arrays("u1", maps.shape, elements=st.integers(0, 3)))
        maps = np.where(kept > 0, maps[:1], maps)
    return maps


def weights_of(count: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays("f8", count, elements=st.sampled_from([1.0, 0.3, 2.0]))


def mean_score(maps: np.ndarray, weights: np.ndarray, metric: str, labels: np.ndarray) -> float:
    scores = [image_scores(truth, labels)[metric] for truth in maps]
    return float(np.average(scores, weights=weights))


def cells(seed: int, regions: int = 8, side: int = 48, noise: float = 0.15) -> np.ndarray:
    """Return 5 label maps, (5, side, side), of one truth (Voronoi cells) with cells renamed."""
    rng = np.random.default_rng(seed)
    places = rng.random((regions, 2)) * side
    rows, columns = np.indices((side, side))
    maps = []
    for _ in range(5):
        moved = places + rng.normal(0, noise * side / 8, places.shape)
        far = (rows - moved[:, 0, None, None]) ** 2 + (columns - moved[:, 1, None, None]) ** 2
        names = rng.permutation(regions)
        names[rng.random(regions) < noise] = 0
        maps.append(names[far.argmin(axis=0)])
    return np.array(maps, np.uint8)


@some
@given(label_maps())
def test_segments_are_where_nothing_changes(maps):
    segments = joint_segments(maps)
    np.testing.assert_array_equal(segments.labels[:, segments.index], maps)
    assert len(np.unique(segments.labels, axis=1).T) == len(segments.sizes)
    np.testing.assert_array_equal(np.bincount(segments.index.ravel()), segments.sizes)
    np.testing.assert_array_equal(pd.factorize(segments.index.ravel())[0], segments.index.ravel())


def test_segments_of_many_maps_of_many_ids():
    maps = np.random.default_rng(0).integers(0, 65536, (12, 16, 16)).astype(np.uint16)
    maps[:, 8:] = maps[:, :8]
    assert len(joint_segments(maps).sizes) == 128


@some
@given(label_maps(), metrics, st.data())
def test_what_moves_gain_is_exact(maps, metric, data):
    weights = data.draw(weights_of(len(maps)))
    segments = joint_segments(maps)
    objective, _, seen = objective_of(segments, weights, metric)
    count = len(objective.sizes)
    tally = objective.tally(data.draw(hnp.arrays("i8", count, elements=st.integers(0, 3))))
    clusters = np.zeros(len(seen), int)
    clusters[seen] = tally.clusters
    wanted = mean_score(maps, weights, metric, clusters[segments.index])
    assert tally.value == pytest.approx(wanted, abs=1e-12)
    targets = data.draw(hnp.arrays("i8", count, elements=st.integers(0, tally.count)))
    values = objective.moved(tally, np.arange(count), targets)
    for segment in np.flatnonzero(targets != tally.clusters):
        clusters = tally.clusters.copy()
        clusters[segment] = targets[segment]
        assert objective.tally(clusters).value == pytest.approx(values[segment], abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_slopes_are_derivatives(metric):
    objective = objective_of(joint_segments(cells(0)), np.arange(1.0, 6), metric)[0]
    tally = objective.tally(objective.codes[2])
    for slope, (one, other) in zip(objective.slopes(tally), ((50, 0), (0, 50)), strict=True):
        above = objective.scores(tally.joined + one, tally.spread + other)
        below = objective.scores(tally.joined - one, tally.spread - other)
        np.testing.assert_allclose(slope, objective.weights * (above - below) / 100, rtol=1e-4)


def partitions(count: int) -> list[list[int]]:
    """Return every partition of `count` things once."""
    found: list[list[int]] = [[]]
    for _ in range(count):
        found = [[*one, new] for one in found for new in range(max(one, default=-1) + 2)]
    return found


def test_search_finds_the_best_of_small_cases():
    rng = np.random.default_rng(0)
    found = []
    while len(found) < 100:
        maps = rng.integers(0, rng.integers(2, 5), (rng.integers(2, 6), 3, 3))
        maps = np.where(rng.random(maps.shape) < rng.random(), maps[:1], maps)
        weights, metric = rng.uniform(0.5, 2, len(maps)), METRICS[len(found) % 3]
        objective = objective_of(joint_segments(maps), weights, metric)[0]
        if len(objective.codes) > 1 and 3 < len(objective.sizes) < 8:
            ends = search(objective, [objective.tally(row) for row in objective.codes])
            every = partitions(len(objective.sizes))
            best = max(objective.tally(np.array(one)).value for one in every)
            found.append((ends.value, best))
    mine, best = np.array(found).T
    assert (mine <= best + 1e-12).all()
    assert (mine > best - 1e-7).mean() > 0.97


@some
@given(label_maps(side=7), metrics, st.data())
def test_never_worse_than_an_input(maps, metric, data):
    weights = data.draw(weights_of(len(maps)))
    found = find_consensus(maps, weights, metric)
    mine = [image_scores(truth, found.labels)[metric] for truth in maps]
    np.testing.assert_allclose(found.agreement, mine, rtol=0, atol=1e-12)
    pairs = [[image_scores(truth, labels)[metric] for labels in maps] for truth in maps]
    np.testing.assert_allclose(found.mutual, pairs, rtol=0, atol=1e-12)
    assert weights @ mine >= (weights @ np.array(pairs)).max() - 1e-12


@some
@given(label_maps(side=6), metrics, st.data())
def test_names_and_order_do_not_matter(maps, metric, data):
    weights = data.draw(weights_of(len(maps)))
    found = find_consensus(maps, weights, metric)
    order = np.array(data.draw(st.permutations(range(len(maps)))))
    names = [np.array([0, *data.draw(st.permutations(range(1, 9)))]) for _ in maps]
    renamed = np.array([name[labels] for name, labels in zip(names, maps, strict=True)])
    other = find_consensus(renamed[order], weights[order], metric)
    np.testing.assert_array_equal(other.labels, found.labels)
    np.testing.assert_array_equal(other.agreement, found.agreement[order])
    np.testing.assert_array_equal(other.mutual, found.mutual[np.ix_(order, order)])


@pytest.mark.parametrize("metric", METRICS)
def test_names_and_order_do_not_matter_in_a_search(metric):
    maps, weights = cells(1), np.array([0.1, 0.7, 0.2, 0.4, 0.3])
    renamed = (17 * maps[::-1].astype(int)) % 251
    found = find_consensus(maps, weights, metric)
    other = find_consensus(renamed, weights[::-1], metric)
    np.testing.assert_array_equal(other.labels, found.labels)


@some
@given(label_maps(), metrics)
def test_of_one_distinct_input_is_that_input(maps, metric):
    copies = np.stack([maps[0], (maps[0] * 7) % 251, maps[0]])
    found = find_consensus(copies, np.ones(3), metric)
    np.testing.assert_array_equal(found.labels, numbered(maps[0]))
    np.testing.assert_array_equal(found.agreement, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_nearer_to_the_truth_than_any_input(metric):
    truth = cells(2, noise=0)[0]
    maps = cells(2, noise=0.25)
    mine = image_scores(truth, find_consensus(maps, np.ones(5), metric).labels)[metric]
    assert mine > max(image_scores(truth, labels)[metric] for labels in maps)


def test_majority_by_hand():
    one, other, third = [0, 0, 0, 1, 1, 1], [0, 0, 0, 7, 7, 7], [0, 0, 3, 3, 3, 3]
    maps = np.repeat(np.array([[one], [other], [third]]), 4, axis=2)
    found = find_consensus(maps, np.ones(3), "adjusted_all")
    np.testing.assert_array_equal(found.labels[0, ::4], one)
    heavy = find_consensus(maps, np.array([1, 1, 5]), "adjusted_all")
    np.testing.assert_array_equal(heavy.labels[0, ::4], [0, 0, 1, 1, 1, 1])


def test_background_is_where_most_of_the_inputs_is():
    halves = np.array([[[0, 0, 0, 1, 1]], [[2, 2, 2, 0, 0]]])
    maps = np.repeat(halves, 3, axis=2)
    for weights, wanted in (([1, 1], [0, 0, 0, 1, 1]), ([1, 2], [1, 1, 1, 0, 0])):
        found = find_consensus(maps, np.array(weights), "adjusted_all").labels
        np.testing.assert_array_equal(found[0, ::3], wanted)
    maps[maps == 0] = 9
    found = find_consensus(maps, np.ones(2), "adjusted_all").labels
    np.testing.assert_array_equal(found[0, ::3], [1, 1, 1, 2, 2])


def test_what_no_input_labels_is_background_under_the_foreground_metrics():
    maps = cells(3)
    maps[:, :10] = 0
    for metric in METRICS[1:]:
        assert not find_consensus(maps, np.ones(5), metric).labels[:10].any()
    empty = find_consensus(np.zeros((2, 3, 3), int), np.ones(2), METRICS[1])
    assert not empty.labels.any()
    assert empty.agreement.tolist() == [1, 1]


@pytest.fixture
def files(tmp_path):
    """Write three inputs of 6 images of 48², and their truth."""
    names = [f"{seed}.png" for seed in range(6)]
    for number, letter in enumerate("abc"):
        write_table(
            tmp_path / f"{letter}.csv", names, np.array([cells(s)[number] for s in range(6)])
        )
    write_table(tmp_path / "y.csv", names, np.array([cells(seed, noise=0)[0] for seed in range(6)]))
    return tmp_path


def run(folder, *arguments: str) -> int:
    return main(["blend", *(str(folder / a) if a.endswith(".csv") else a for a in arguments)])


def test_command(files, capsys):
    assert run(files, "a.csv", "b.csv", "c.csv", "--out", "d.csv") == 0
    shown = capsys.readouterr()
    assert "0.3333" in shown.out
    assert "6 images from 3 inputs" in shown.err
    blended = read_table(files / "d.csv")
    manifest = json.loads((files / "d.json").read_text())
    truth = read_table(files / "y.csv").labels
    inputs = [read_table(files / f"{letter}.csv").labels for letter in "abc"]

    def mean(labels):
        pairs = zip(truth, labels, strict=True)
        return np.mean([image_scores(*pair)["adjusted_all"] for pair in pairs])

    assert mean(blended.labels) > max(mean(labels) for labels in inputs)
    assert manifest["agreement"] > manifest["agreement_of_best_input"]
    assert manifest["sha256"] == hashlib.sha256((files / "d.csv").read_bytes()).hexdigest()
    assert [row["weight"] for row in manifest["inputs"]] == pytest.approx([1 / 3] * 3)
    before = (files / "d.csv").read_bytes()
    assert run(files, "c.csv", "a.csv", "b.csv", "--out", "d.csv", "--weights", "2", "2", "2") == 0
    assert (files / "d.csv").read_bytes() == before
    assert not list(files.glob("*.tmp"))


BLEND = ["a.csv", "b.csv", "c.csv", "--out"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("out", "there", "sentence"),
    [
        ("d.csv", {"d.csv": "mine"}, "is no submission as compkit wrote it"),
        ("d.csv", {"d.json": "{}"}, "where the manifest of"),
        ("d.csv", {"d.json": "[" * 100_000}, "where the manifest of"),
        ("a.csv", {}, "is one of the inputs"),
        ("sub/../a.csv", {}, "is one of the inputs"),
        ("d.json", {}, "give it a name ending in .csv"),
        ("d", {}, "give it a name ending in .csv"),
        (".csv", {}, "give it a name ending in .csv"),
        ("ledger.csv", {}, "is the ledger"),
        ("LEDGER.csv", {}, "is the ledger"),
        ("folder.csv", {}, "is there and is no file"),
        ("pipe.csv", {}, "is there and is no file"),
        ("gone.csv", {}, "is there and is no file"),
        ("loop.csv", {}, "is there and is no file"),
        ("red\x1b[31m.csv", {}, "control characters"),
        ("d\udcff.csv", {}, "is no text in UTF-8, as the records of a submission are: rename"),
        ("", {}, "give it a name ending in .csv"),
        ("X_test/1.csv", {}, "among a competition's images"),
        ("run.csv", {"run.json": ""}, "among the files of a run"),
        ("full.csv", {}, "full.json is there and is no file"),
        ("d.csv", {"ledger.csv": "mine"}, "is not a ledger"),
        ("c.csv/d.csv", {}, "nothing can be written to"),
    ],
)
def test_what_is_not_ours_is_refused_before_anything_is_written(
    files, capsys, out, there, sentence
):
    (files / "folder.csv").mkdir()
    (files / "full.json").mkdir()
    (files / "sub").mkdir()
    os.mkfifo(files / "pipe.csv")
    (files / "gone.csv").symlink_to(files / "nowhere")
    (files / "loop.csv").symlink_to("loop.csv")
    for name, text in there.items():
        (files / name).write_text(text)
    before = contents(files)
    assert main(["blend", *(str(files / a) for a in BLEND[:3]), "--out", str(files / out)]) == 2
    assert sentence in capsys.readouterr().err
    assert contents(files) == before
    forced = main(["blend", *(str(files / a) for a in BLEND[:3]), "--out", str(files / out),
                   "--overwrite"])  # fmt: skip
    assert forced == (0 if there and not {"ledger.csv", "run.json"} & there.keys() else 2)
    if forced:
        assert contents(files) == before


def test_inputs_whose_names_are_no_text_are_refused_before_they_are_blended(files, capsys):
    (files / "c.csv").rename(files / "c\udcff.csv")
    assert run(files, "a.csv", "b.csv", "c\udcff.csv", "--out", "d.csv") == 2
    assert "c\\udcff.csv is no text in UTF-8, as the records of a" in capsys.readouterr().err
    assert not (files / "d.csv").exists()


def test_a_submission_of_ours_is_replaced_and_one_that_was_edited_is_not(files, capsys):
    assert run(files, *BLEND, "d.csv") == run(files, *BLEND, "d.csv") == 0
    assert len((files / "ledger.csv").read_text().splitlines()) == 2
    (files / "d.csv").write_bytes((files / "d.csv").read_bytes() + b"\n")
    assert run(files, *BLEND, "d.csv") == 2
    assert run(files, *BLEND, "d.csv", "--overwrite") == run(files, *BLEND, "d.csv") == 0
    (files / "d.csv").unlink()
    assert run(files, *BLEND, "d.csv") == 0


@pytest.mark.parametrize("name", ["d.csv", "d.json"])
@pytest.mark.parametrize("again", [False, True])
def test_a_full_disk_is_said_of_the_file_and_nothing_is_half_there(
    files, capsys, monkeypatch, name, again
):
    replace = Path.replace

    def full(self, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    if again:  # over another submission of ours
        assert run(files, *BLEND[:2], "--out", "d.csv") == 0
    before = contents(files)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert run(files, *BLEND, "d.csv") == 2
    assert str(files / name) in capsys.readouterr().err
    after = contents(files)
    assert all(after[kept] == before[kept] for kept in before if kept != "d.json")
    assert after.keys() <= {*before, "d.json"}
    assert (after == before) or name == "d.csv"
    assert run(files, *BLEND, "d.csv") == 0


def test_a_link_stays_and_what_it_leads_to_is_replaced(files):
    assert run(files, *BLEND[:2], "--out", "d.csv") == 0
    (files / "elsewhere").mkdir()
    (files / "d.csv").rename(files / "elsewhere" / "real.csv")
    (files / "d.csv").symlink_to(files / "elsewhere" / "real.csv")
    before = (files / "d.csv").read_bytes()
    assert run(files, *BLEND, "d.csv") == 0
    assert (files / "d.csv").is_symlink()
    assert (files / "elsewhere" / "real.csv").read_bytes() != before
    assert run(files, *BLEND, "d.csv") == 0


def test_what_a_user_puts_there_meanwhile_is_not_replaced(files, capsys, monkeypatch):
    def meanwhile(*arguments, **how):
        (files / "d.csv").write_text("mine")
        return fill_table(*arguments, **how)

    monkeypatch.setattr(forms, "fill_table", meanwhile)
    before = contents(files)
    assert run(files, *BLEND, "d.csv") == 2
    assert "is no submission as compkit wrote it" in capsys.readouterr().err
    assert contents(files) == before | {"d.csv": b"mine"}


def test_an_input_is_not_overwritten_by_a_manifest(files, capsys):
    (files / "a.csv").rename(files / "d.json")
    before = contents(files)
    inputs = [str(files / name) for name in ("d.json", "b.csv")]
    assert main(["blend", *inputs, "--out", str(files / "d.csv"), "--overwrite"]) == 2
    assert "d.json is one of the inputs" in capsys.readouterr().err
    assert contents(files) == before


KILLED = """
import os, pathlib, signal, sys
from compkit.cli import main
from compkit.blend.job import blend  # imported once, for all the processes below

def dying(method):
    def call(self, *arguments, **how):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments, **how)
    return call

def run(kill):
    global left
    left = kill
    if not (process := os.fork()):
        for name in ("replace", "unlink") if kill else ():
            setattr(pathlib.Path, name, dying(getattr(pathlib.Path, name)))
        os._exit(main(sys.argv[1:]))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

for line in sys.stdin:
    print(run(int(line)), flush=True)
"""


@pytest.mark.parametrize("again", [False, True])
def test_after_a_kill_anywhere_the_same_command_completes(files, again):
    command = ["blend", *(str(files / name) for name in ("a.csv", "b.csv"))]
    out = [*command, "--out", str(files / "d.csv")]
    if again:  # over another submission of ours
        assert main([*command, str(files / "c.csv"), "--out", out[-1]]) == 0
    before = contents(files)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *out],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    def ended(kill: int) -> int:
        """Run the command, killed at its n-th step or not at all (0); return its exit code."""
        process.stdin.write(f"{kill}\n")
        process.stdin.flush()
        while (line := process.stdout.readline().strip()).lstrip("-").isdecimal() is False:
            assert line or process.poll() is None
        return int(line)

    with process:
        for kill in range(1, 50):
            for name in contents(files).keys() - before.keys():
                (files / name).unlink()
            for name, content in before.items():
                (files / name).write_bytes(content)
            if ended(kill) == 0:
                break
            assert ended(0) == 0
            digest = json.loads((files / "d.json").read_text())["sha256"]
            assert digest == hashlib.sha256((files / "d.csv").read_bytes()).hexdigest()
            assert (files / "ledger.csv").read_text().count(digest) == 1
            assert not list(files.glob(".*.tmp"))
        process.stdin.close()
    assert 6 <= kill < 49


def many_regions() -> np.ndarray:
    """Return a label map of 381 regions, (1, 40, 40), of which one is larger than the others."""
    squares = np.arange(400).reshape(20, 20)
    labels = np.kron(squares, np.ones((2, 2), int))[None] + 1
    labels[0, :2] = 1
    return labels


def test_too_many_regions_for_the_competition_lose_the_smallest(tmp_path, capsys):
    for name in "ab":
        write_table(tmp_path / f"{name}.csv", ["0.png"], many_regions(), max_label=65535)
    inputs = ("a.csv", "b.csv", "--out")
    assert run(tmp_path, *inputs, "d.csv", "--data", "phantom") == 0
    assert "1 images had more than 255 regions" in capsys.readouterr().err
    found = read_table(tmp_path / "d.csv").labels
    assert found.max() == 255
    assert found[0, 0, 0] == 1
    # Nothing tells what the competition takes; but its submissions are known to hold as many.
    assert run(tmp_path, *inputs, "e.csv") == 0
    assert read_table(tmp_path / "e.csv").labels.max() == 381


def test_the_highest_id_is_that_of_the_manifests(tmp_path, capsys):
    for name, limit in (("a", 400), ("b", 400), ("c", 500)):
        path = tmp_path / f"{name}.csv"
        labels = many_regions()
        shapes = {"0.png": labels.shape[1:]}
        publish.publish(path, PixelTable(), shapes, labels, limit, name, 1, {})
    assert run(tmp_path, "a.csv", "b.csv", "--out", "d.csv") == 0
    assert json.loads((tmp_path / "d.json").read_text())["max_label"] == 400
    assert run(tmp_path, "a.csv", "c.csv", "--out", "d.csv") == 2
    assert re.search("400 .*a.csv.* and 500 .*c.csv.*--data", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.csv"], "a single submission"),
        (["a.csv", "./a.csv"], "a.csv is given twice"),
        (["a.csv", "d.csv"], "d.csv is one of the inputs"),
        (["a.csv", "b.csv", "--metric", "adjusted_al"], "did you mean 'adjusted_all'?"),
        (["a.csv", "b.csv", "--weights", "1"], "weights that do not fit: 1 for 2 inputs"),
        (["a.csv", "b.csv", "--weights", "1", "0"], "weights that do not fit: 0 for"),
        (["a.csv", "b.csv", "--weights", "1", "nan"], "weights that do not fit: nan for"),
        (["a.csv", "b.csv", "--weights", "1e308", "1e308"], "nothing holds their sum"),
        (["a.csv", "other.csv"], "column 1 is 10.png, but 0.png in"),
        (["a.csv", "few.csv"], "few.csv: column 5 is missing, but 4.png in"),
        (["a.csv", "small.csv"], "small.csv has images of 8×8 pixels from 0.png on"),
        (["a.csv", "gone.csv"], "there is no label CSV"),
    ],
)
def test_what_does_not_fit_is_refused(files, capsys, arguments, sentence):
    names = [f"{index}.png" for index in range(6)]
    write_table(files / "few.csv", names[:4], np.ones((4, 48, 48), int))
    write_table(files / "other.csv", ["10.png", *names[1:]], np.ones((6, 48, 48), int))
    write_table(files / "small.csv", names, np.ones((6, 8, 8), int))
    assert run(files, *arguments, "--out", "d.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert not (files / "d.csv").exists()
