"""Ensembles without any training: maps written by hand, coverage proven, decoders tuned."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from fakes import put_fit

from compkit.begin import start_run
from compkit.cli import main as compkit
from compkit.config import FoldsConfig, InputConfig, RunConfig
from compkit.crossfit import cross_fit, descend, objective
from compkit.data.store import _TEST, _TRAINING, _digest
from compkit.ensemble.decoder import (
    STARTS,
    Decoder,
    evaluation,
    out_of_fold_regions,
    tune_decoder,
    tune_run,
    tuned_decoder,
)
from compkit.ensemble.mixture import Mixture, members_of
from compkit.errors import CompkitError
from compkit.files import digest_of, read_json, write_json
from compkit.heads import make_head
from compkit.inference.maps import Listing, probabilities, read_maps, write_maps
from compkit.metrics.named import image_scores
from compkit.metrics.rand import METRICS
from compkit.run import FITTED, open_run
from compkit.schema import write_record
from compkit.training import fit

DATA = "phantom:size=32,labelled=6,unlabelled=2,test=3,seed=5"
CONFIG = RunConfig(encoders=("resnet10t", "resnet14t"), head="foreground", folds=FoldsConfig(k=3))
NAMES = [f"{number}.png" for number in range(6)]


def fill(run, level: float = 0.4) -> None:
    """Write out-of-fold maps: `level` inside the true foreground, a quarter of it outside."""
    for encoder, fold in run.parts():
        truths = [run.store.labels_of(i) for i in run.folds.valid_indices(fold)]
        put_fit(run, encoder, fold, [np.where(t > 0, level, level / 4)[None] for t in truths])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    made = start_run("a", CONFIG, DATA)
    fill(made)
    return made


def mixture(*runs) -> Mixture:
    return Mixture(members_of(runs))


def test_every_labelled_image_is_out_of_fold_once(run):
    wanted = {run.store.train[i] for i in run.store.labelled}
    assert [member.name for member in members_of([run])] == ["a/resnet10t", "a/resnet14t"]
    assert all(set(member.out_of_fold) == wanted for member in members_of([run]))
    assert [member.encoder for member in members_of([run], "resnet14t")] == ["resnet14t"]
    assert set(mixture(run).images) == wanted


def test_members_weigh_the_same(run):
    image = run.store.train[int(run.folds.valid_indices(0)[0])]
    part = run.part("resnet14t", 0) / "oof"
    maps = read_maps(part)
    write_maps(part, maps.images, maps.channels, (maps.of(i) * 0.5 for i in maps.images), maps.made)
    members = members_of([run])
    one, other = (member.out_of_fold[image].of(image) for member in members)
    assert np.allclose(Mixture(members).out_of_fold(image), (one + other) / 2)


def test_a_member_that_lacks_a_fold_leaves_it_to_the_others(run):
    (run.part("resnet14t", 0) / FITTED).unlink()
    assert "resnet14t fold 0" in refusal(members_of, [run])
    members = members_of([run], partial=True)
    assert [member.folds for member in members] == [(0, 1, 2), (1, 2)]
    both, image = Mixture(members), run.store.train[int(run.folds.valid_indices(0)[0])]
    assert np.array_equal(both.out_of_fold(image), members[0].out_of_fold[image].of(image))
    assert len(both.images) == 6
    assert len(Mixture(members[1:]).images) == 6 - len(run.folds.valid_indices(0))


def perfect(run) -> None:
    """Write perfect out-of-fold maps."""
    head = run.head()
    for encoder, fold in run.parts():
        truths = [run.store.labels_of(i) for i in run.folds.valid_indices(fold)]
        put_fit(run, encoder, fold, [head.ideal(resize_labels(t, run.side)) for t in truths])


def resize_labels(labels: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


def test_heads_and_input_sizes_are_joined(run):
    """Perfect maps of different heads at different sizes are cut together, and stay perfect."""
    runs = [run]
    for head, size in (("boundary", 32), ("affinity", 48), ("boundary+affinity", 32)):
        config = replace(CONFIG, head=head, encoders=("resnet10t",), input=InputConfig(size=size))
        runs.append(start_run(head, config, DATA))
    for each in runs:
        perfect(each)
    joined = mixture(*runs)
    assert joined.head.name == "affinity+boundary"
    assert joined.side == 48
    for image in joined.images:
        truth = run.store.labels_of(run.store.train.index(image))
        maps = joined.out_of_fold(image)
        regions = joined.head.decode(maps, joined.head.defaults, truth.shape)
        assert image_scores(truth, regions)["adjusted_all"] > 0.9


def test_tuning_finds_the_threshold_that_the_default_misses(run):
    decoder = tune_decoder(mixture(run))
    assert decoder.default_scores["adjusted_all"] == pytest.approx(0, abs=1e-9)
    assert decoder.tuned
    assert 0.1 < decoder.params["threshold"] <= 0.4
    assert decoder.scores["adjusted_all"] > 0.9
    assert decoder.interval[0] <= decoder.scores["adjusted_all"] <= decoder.interval[1]
    path = run.directory / "decoder.json"
    decoder.save(path)
    assert tuned_decoder(mixture(run), path).params == decoder.params


def test_the_scores_of_every_image_are_kept(run):
    decoder = tune_decoder(mixture(run))
    path = run.directory / "decoder.json"
    decoder.save(path)
    kept = tuned_decoder(mixture(run), path)
    assert kept.image_names == [run.store.train[i] for i in run.store.labelled]
    pairs = out_of_fold_regions(mixture(run), decoder)
    assert kept.image_scores["adjusted_all"] == [image_scores(*p)["adjusted_all"] for p in pairs]
    assert {m: np.mean(kept.image_scores[m]) for m in METRICS} == pytest.approx(kept.scores)
    old = read_json(path)
    del old["image_scores"]
    write_json(path, old)
    assert "is damaged" in refusal(tuned_decoder, mixture(run), path)


def test_several_processes_tune_as_one_does(run, monkeypatch):
    def regions(decoder: Decoder) -> list[np.ndarray]:
        return [found for _, found in out_of_fold_regions(mixture(run), decoder)]

    alone = tune_decoder(mixture(run))
    inside = regions(alone)
    monkeypatch.setattr("compkit.parallel._MANY", 0)
    monkeypatch.setattr("compkit.parallel.cpu_count", lambda: 2)
    assert tune_decoder(mixture(run)) == alone
    for found, one in zip(regions(alone), inside, strict=True):
        assert np.array_equal(found, one)


def tuned(head, evaluate, folds, ranking) -> Decoder:
    fit = cross_fit(head.space, evaluate, folds, ranking, "tuning", STARTS)
    return Decoder(head=head.name, **fit.record(ranking, NAMES[: len(folds)]))


def test_tuning_that_does_not_carry_over_keeps_the_defaults():
    """Two folds that want opposite thresholds: each is decoded badly with the other's."""
    truth = np.zeros((16, 16), np.uint8)
    truth[2:8, 2:14], truth[10:15, 3:12] = 1, 2
    shrink = np.zeros_like(truth)
    shrink[4:6, 4:12] = 1
    low = np.where(truth > 0, 0.4, 0.05) + 0.4 * (shrink > 0)  # wants a low threshold
    high = np.where(truth > 0, 0.85, 0.62)  # wants a high one
    maps = np.stack([low, high])[:, None].astype(np.float32)
    head = make_head(RunConfig(head="foreground"), 32)
    folds = np.array([0, 1])
    evaluate = evaluation(head, maps.__getitem__, [truth, truth], maps.size, "adjusted_all")
    decoder = tuned(head, evaluate, folds, "adjusted_all")
    assert decoder.tuned_scores["adjusted_all"] <= decoder.default_scores["adjusted_all"]
    assert not decoder.tuned
    assert decoder.params == head.defaults
    assert decoder.scores == decoder.default_scores
    assert re.search(r"not tuned: .* score no better, .* \(adjusted_all", decoder.verdict)


def test_no_image_is_scored_with_parameters_tuned_on_it():
    """A fold whose own optimum differs from all others' must not get it."""
    rng = np.random.default_rng(0)
    truth = (rng.random((24, 24)) > 0.5).astype(np.uint8)
    ordinary, odd = np.where(truth, 0.45, 0.1), np.where(truth, 0.25, 0.1)
    maps = np.stack([ordinary] * 4 + [odd] * 2)[:, None].astype(np.float32)
    head = make_head(RunConfig(head="foreground"), 32)
    folds = np.array([0, 0, 1, 1, 2, 2])
    evaluate = evaluation(head, maps.__getitem__, [truth] * 6, maps.size, "adjusted_all")
    decoder = tuned(head, evaluate, folds, "adjusted_all")
    assert decoder.params["threshold"] in (0.2, 0.25)  # tuned on all, it serves the odd fold too
    # ... but the odd fold's own score came from the ordinary ones, which settle for 0.2 first.
    honest = evaluate(head.defaults | {"threshold": 0.2})[:, 0].mean()
    assert decoder.tuned_scores["adjusted_all"] == pytest.approx(honest)


def test_several_runs_make_one_ensemble(run):
    other = start_run("b", replace(CONFIG, seed=1, encoders=("resnet10t",)), DATA)
    fill(other, level=0.8)
    assert len(mixture(run, other).members) == 3
    assert tune_decoder(mixture(run, other)).images == 6


def refusal(function, *arguments) -> str:
    with pytest.raises(CompkitError) as caught:
        function(*arguments)
    return str(caught.value)


def test_maps_of_other_images_weights_or_views_are_not_taken(run, capsys):
    part = run.part("resnet10t", 1) / "oof"
    own, other = read_maps(part), read_maps(run.part("resnet10t", 0) / "oof")
    made, (first, second) = own.made, own.images
    wrong = {
        "too few": (own.images[:-1], own.values[:-1], made),
        "reordered": ((second, first), own.values, made),
        "another fold's": (other.images, other.values, other.made),
        "another network's": (own.images, own.values, replace(made, checkpoint="1" * 64)),
        "other views": (own.images, own.values, replace(made, views=("identity",))),
        "another size": (own.images, own.values[..., ::2, ::2], made),
    }
    for what, (images, values, origin) in wrong.items():
        write_maps(part, images, own.channels, probabilities(values), origin)
        # They would be predicted anew, but there is no checkpoint to do it with.
        assert "there is no checkpoint" in refusal(mixture, run), what
        assert "predicting anew" in capsys.readouterr().err
    write_maps(part, own.images, own.channels, probabilities(own.values), made)
    mixture(run)


def test_a_run_of_before_is_taken_with_its_maps(run, capsys):
    """Of an older compkit: one digest of training data and test, and maps of 16 bits."""
    store = run.store
    old = _digest(store.directory, (store.train, store.test), (*_TRAINING, *_TEST))
    write_record(run.directory / "run.json", {"data": DATA, "content": old})
    table = run.directory / "folds.csv"
    table.write_text(table.read_text().replace(store.content, old))
    for encoder, fold in run.parts():
        part = run.part(encoder, fold) / "oof"
        maps = read_maps(part)
        np.save(part / "maps.npy", probabilities(maps.values).astype(np.float16))
        made, digest = replace(maps.made, data=old), digest_of(part / "maps.npy")
        told = Listing(maps.images, maps.channels, made, digest)
        write_record(part / "maps.json", asdict(told))
    capsys.readouterr()
    tune_decoder(mixture(open_run("a")))
    assert "anew" not in capsys.readouterr().err
    assert "made on other data" in refusal(open_run, "a", DATA.replace("test=3", "test=2"))


@pytest.mark.parametrize("file", ["config.yaml", "folds.csv"])
@pytest.mark.parametrize("held", [b"{", b"\xff\xfe", b"", None])
def test_a_runs_own_files_are_to_be_restored(run, file, held):
    path = run.directory / file
    path.unlink()
    if held is not None:
        path.write_bytes(held)
    told = refusal(open_run, "a")
    assert str(path) in told
    assert told.endswith(": restore it, or train the run again under another name")


def test_unfinished_unlike_and_doubled_runs_are_refused(run):
    assert "--data names no folder" in refusal(open_run, "a", "")
    assert "named twice" in refusal(members_of, [run, run])
    for spelling in ("./a", "a/", "../runs/a"):
        assert "is no name for a run" in refusal(open_run, spelling)
    (run.part("resnet14t", 2) / FITTED).unlink()
    assert "resnet14t fold 2" in refusal(members_of, [run])
    other = start_run("b", CONFIG, DATA.replace("seed=5", "seed=6"))
    fill(other)
    fill(run)
    assert "different data" in refusal(members_of, [run, other])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:99]),
        lambda path: path.write_bytes(b"nonsense"),
        lambda path: np.save(path, np.load(path) * np.nan),
        lambda path: np.save(path, np.load(path) + 1),
        lambda path: np.save(path, np.load(path)[::-1]),
        lambda path: np.save(path, np.load(path).astype(object), allow_pickle=True),
    ],
)
def test_maps_that_were_changed_are_named(run, spoil):
    path = run.part("resnet10t", 0) / "oof" / "maps.npy"
    spoil(path)
    assert f"{path} was changed" in refusal(mixture, run)


@pytest.mark.parametrize(
    ("file", "key", "value", "expected"),
    [
        ("config.yaml", "seed", "many", "seed"),
        ("config.yaml", "encoders", 3, "encoders"),
        ("config.yaml", "folds", None, "folds"),
        ("run.json", "content", 3, "content"),
        ("run.json", "data", None, "data"),
        ("decoder.json", "params", {}, "changed"),
        ("decoder.json", "params", {"threshold": "half"}, "changed"),
        ("decoder.json", "params", [1], "params"),
        ("decoder.json", "tuned", "yes", "tuned"),
        ("decoder.json", "scores", dict.fromkeys(METRICS, 0.99), "changed"),
        ("decoder.json", "head", "affinity", "changed"),
        ("resnet10t/fold0/fit.json", "score", float("nan"), "NaN"),
        ("resnet10t/fold0/fit.json", "seconds", 9.0, "changed"),
        ("resnet10t/fold0/fit.json", "checkpoints", ["last.ckpt"], "checkpoints"),
        ("resnet10t/fold0/oof/maps.json", "images", 3, "images"),
        ("resnet10t/fold0/oof/maps.json", "made", {"views": []}, "made"),
    ],
)
def test_records_that_were_spoilt_are_refused(run, capsys, file, key, value, expected):
    tune_run(run)
    path = run.directory / file
    values = yaml.safe_load(path.read_text())
    path.write_text(json.dumps(values | {key: value}))
    assert compkit(["oof", "--run", "a", "--out", "oof.csv"]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert expected in said
    assert not Path("oof.csv").exists()


def test_out_of_fold_regions_that_are_there_are_as_good_as_written(run, capsys):
    tune_run(run)
    ask, out = ["oof", "--run", "a", "--out", "oof.csv"], Path("oof.csv")
    assert compkit(ask) == 0
    made = out.read_bytes()
    capsys.readouterr()
    assert compkit(ask) == 0
    assert "oof.csv is there already, just as it would be written" in capsys.readouterr().err
    out.write_bytes(made.replace(b",0", b",1", 1))
    assert compkit(ask) == 2
    assert "oof.csv is there and holds something else: give --over" in capsys.readouterr().err
    assert compkit([*ask, "--overwrite"]) == 0
    assert out.read_bytes() == made


def test_an_edited_configuration_is_not_blamed_on_the_decoder_alone(run, capsys):
    replace(tune_run(run), head="boundary").save(run.directory / "decoder.json")
    assert compkit(["oof", "--run", "a", "--out", "oof.csv"]) == 2
    assert "config.yaml tells of foreground: if that was edited, put it" in capsys.readouterr().err


def test_what_is_said_of_a_lost_checkpoint_trains_it_again(run, monkeypatch, capsys):
    tune_run(run)
    assert compkit(["submit", "--run", "a", "--out", "a.csv"]) == 2  # nothing here has checkpoints
    said = capsys.readouterr().err
    told = re.search(r"no checkpoint (\S+)/last\.ckpt: delete (\S+) and run compkit train on", said)
    assert Path(told[1]) == Path(told[2]) == run.part("resnet10t", 0)
    trained = []
    monkeypatch.setattr(fit, "_fit", lambda _, *part: trained.append(part[:2]))
    monkeypatch.setattr(fit, "finish", lambda part, _: (part / FITTED).touch())
    monkeypatch.setattr(fit, "write_maps_of", lambda *_: None)
    for wanted in ([], [("resnet10t", 0)]):
        for encoder, fold in run.parts():
            fit.fit_fold(run, encoder, fold)
        assert trained == wanted
        shutil.rmtree(told[2])


def test_a_decoder_of_other_maps_is_tuned_anew(run, capsys):
    path = run.directory / "decoder.json"
    assert tuned_decoder(mixture(run), path) == tuned_decoder(mixture(run), path)
    fill(run, level=0.6)
    assert tuned_decoder(mixture(run), path) == replace(tune_decoder(mixture(run)))
    assert "tuned on other out-of-fold maps" in capsys.readouterr().err


def test_a_decoder_of_other_groups_is_tuned_anew(run, capsys):
    path = run.directory / "decoder.json"
    tuned_decoder(mixture(run), path)
    alike = replace(run, folds=replace(run.folds, group=np.full(len(run.folds.group), "one")))
    assert set(tuned_decoder(mixture(alike), path).image_groups) == {"one"}
    assert "tuning anew" in capsys.readouterr().err


def test_how_a_run_predicts_may_change_but_not_what_it_is(run, capsys):
    views = replace(CONFIG, inference=replace(CONFIG.inference, views=("identity",), batch=1))
    assert start_run("a", views, DATA).config == views
    assert "inference.batch: 8 → 1" in capsys.readouterr().err
    assert open_run("a").config == views
    longer = replace(views, training=replace(CONFIG.training, steps=8000))
    assert "start a new run with --model.start runs/a/" in refusal(start_run, "a", longer, DATA)


@pytest.mark.parametrize("marker", ["pretrain.yaml", "ensemble.json", "best.yaml", "notes.txt"])
def test_a_directory_of_something_else_is_refused(run, marker):
    path = Path("runs/b")
    path.mkdir()
    (path / marker).write_text("mine")
    assert str(path) in refusal(start_run, "b", CONFIG, DATA)
    assert [each.name for each in path.iterdir()] == [marker]


def test_a_run_keeps_its_configuration_data_and_split(run):
    assert start_run("a", CONFIG, DATA).folds.fold.tolist() == run.folds.fold.tolist()
    assert "seed: 0 → 1" in refusal(start_run, "a", replace(CONFIG, seed=1), DATA)
    other = DATA.replace("seed=5", "seed=6")
    assert "other data" in refusal(start_run, "a", CONFIG, other)
    assert "other data" in refusal(open_run, "a", other)
    assert "did you mean 'a'" in refusal(open_run, "aa")
    assert "no name for a run" in refusal(start_run, "../a", CONFIG, DATA)


def test_a_folds_file_must_stay_the_runs_split(run, tmp_path):
    run.folds.write(tmp_path / "f.csv")
    config = replace(CONFIG, folds=FoldsConfig(file=str(tmp_path / "f.csv")))
    start_run("c", config, DATA)
    swapped = replace(run.folds, fold=np.where(run.folds.fold >= 0, (run.folds.fold + 1) % 3, -1))
    swapped.write(tmp_path / "f.csv")
    assert "not the split" in refusal(start_run, "c", config, DATA)


def test_a_gain_within_noise_keeps_the_default():
    """A threshold that helps half of the images as much as it harms the other half is not taken."""
    head = make_head(RunConfig(head="foreground"), 32)
    noise = np.tile([0.1, -0.09], 8)

    def score(gain: float):
        return lambda params: 0.5 + (params["threshold"] == 0.3) * (gain + noise)

    assert descend(head.space, score(0.0)) == head.defaults
    assert descend(head.space, score(0.1))["threshold"] == 0.3


def test_ties_are_broken_by_the_metrics_that_do_not_rank():
    rows = np.array([[0.7, 0.6, 0.9], [0.7, 0.1, 0.5], [0.72, 0.1, 0.5]])
    best = objective(rows, 0)
    assert best[0] > best[2] > best[1]  # 0.02 of the ranking metric is not worth half a partition
    assert objective(np.array([[0.75, 0.1, 0.5]]), 0) > best[0]


@pytest.mark.parametrize("ranking", METRICS)
def test_the_image_is_filled_where_background_does_not_count(ranking):
    """Only the cores of two regions are found: the rest is background, or goes to the nearest."""
    truth, cores = np.zeros((60, 60), np.uint8), np.zeros((1, 60, 60), np.float32)
    truth[2:18, 2:18], truth[2:18, 22:38] = 5, 9
    cores[0, 7:13, 7:13] = cores[0, 7:13, 27:33] = 1
    head = make_head(RunConfig(head="foreground"), 32)
    evaluate = evaluation(head, lambda index: cores, [truth] * 4, cores.size, ranking)
    decoder = tuned(head, evaluate, np.array([0, 0, 1, 1]), ranking)
    assert decoder.params["fill"] == (ranking != "adjusted_all")


def test_filling_is_tried_from_its_own_start():
    """Unfilled, a low threshold is best, from which filling is worse: one path misses it."""
    head = make_head(RunConfig(head="foreground"), 32)
    worth = {(False, 0.2): 0.8, (False, 0.5): 0.6, (True, 0.5): 0.7, (True, 0.8): 0.9}

    def score(params):
        return np.full(8, worth.get((params["fill"], params["threshold"]), 0.4))

    chosen = descend(head.space, score, STARTS)
    assert (chosen["fill"], chosen["threshold"]) == (True, 0.8)
    worth[True, 0.5] = worth[True, 0.8] = 0.1
    chosen = descend(head.space, score, STARTS)
    assert (chosen["fill"], chosen["threshold"]) == (False, 0.2)
