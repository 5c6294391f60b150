"""Ensembles without any training: maps written by hand, coverage proven, decoders tuned."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from compkit.config import FoldsConfig, RunConfig
from compkit.ensemble.calibrate import _Evaluation, _tune, calibrate, descend, objective
from compkit.ensemble.decoder import out_of_fold_regions, read_decoder
from compkit.ensemble.mean import mean_maps, out_of_fold, prove_alike
from compkit.errors import CompkitError
from compkit.files import read_json, write_json
from compkit.heads import make_head
from compkit.inference.maps import read_maps, write_maps
from compkit.metrics.rand import METRICS, rand_scores
from compkit.run import FITTED, open_run, start_run

DATA = "phantom:size=32,labelled=6,unlabelled=2,test=3,seed=5"
CONFIG = RunConfig(encoders=("resnet10t", "resnet14t"), head="foreground", folds=FoldsConfig(k=3))
NAMES = [f"{number}.png" for number in range(6)]


def fill(run, level: float = 0.4) -> None:
    """Write out-of-fold maps: `level` inside the true foreground, a quarter of it outside."""
    for encoder, fold in run.parts():
        part = run.part(encoder, fold)
        chosen = run.folds.valid_indices(fold)
        maps = [np.where(run.store.labels_of(i) > 0, level, level / 4)[None] for i in chosen]
        write_maps(part / "oof", [run.store.train[i] for i in chosen], ("foreground",), maps, {})
        write_json(part / FITTED, {"score": 0.5})


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    made = start_run("a", CONFIG, DATA)
    fill(made)
    return made


def test_every_labelled_image_has_each_encoder_once(run):
    covered = out_of_fold([run])
    assert set(covered) == {run.store.train[i] for i in run.store.labelled}
    assert all(len(members) == 2 for members in covered.values())
    assert all(len(members) == 1 for members in out_of_fold([run], "resnet14t").values())


def test_the_mean_is_over_members(run):
    encoder, fold = "resnet14t", 0
    part = run.part(encoder, fold)
    maps = read_maps(part / "oof")
    write_maps(part / "oof", maps.images, maps.channels, (m * 0.5 for m in maps.values), {})
    image = maps.images[0]
    members = out_of_fold([run])[image]
    expected = np.mean([m.of(image) for m in members], axis=0)
    assert np.allclose(mean_maps(members, image), expected)
    assert np.allclose(expected, 0.75 * maps.of(image), atol=1e-3)


def test_tuning_finds_the_threshold_that_the_default_misses(run):
    decoder = calibrate([run])
    assert decoder.default_scores["adjusted_all"] == pytest.approx(0, abs=1e-9)
    assert decoder.tuned
    assert 0.1 < decoder.params["threshold"] <= 0.4
    assert decoder.scores["adjusted_all"] > 0.9
    assert decoder.interval[0] <= decoder.scores["adjusted_all"] <= decoder.interval[1]
    path = run.directory / "decoder.json"
    decoder.save(path)
    assert read_decoder(path).params == decoder.params


def test_the_scores_of_every_image_are_kept(run):
    decoder = calibrate([run])
    path = run.directory / "decoder.json"
    decoder.save(path)
    kept = read_decoder(path)
    assert kept.image_names == [run.store.train[i] for i in run.store.labelled]
    pairs = out_of_fold_regions(run, decoder)
    assert kept.image_scores["adjusted_all"] == [rand_scores(*p)["adjusted_all"] for p in pairs]
    assert {m: np.mean(kept.image_scores[m]) for m in METRICS} == pytest.approx(kept.scores)
    old = read_json(path)
    del old["image_scores"]
    write_json(path, old)
    assert "is damaged" in refusal(read_decoder, path)


def test_several_processes_tune_as_one_does(run, monkeypatch):
    alone = calibrate([run])
    monkeypatch.setattr("compkit.ensemble.calibrate._PARALLEL", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert calibrate([run]) == alone


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
    decoder = _tune(head, _Evaluation(head, maps, [truth, truth]), folds, "adjusted_all", NAMES[:2])
    assert decoder.tuned_scores["adjusted_all"] <= decoder.default_scores["adjusted_all"]
    assert not decoder.tuned
    assert decoder.params == head.defaults
    assert decoder.scores == decoder.default_scores


def test_no_image_is_scored_with_parameters_tuned_on_it():
    """A fold whose own optimum differs from all others' must not get it."""
    rng = np.random.default_rng(0)
    truth = (rng.random((24, 24)) > 0.5).astype(np.uint8)
    ordinary, odd = np.where(truth, 0.45, 0.1), np.where(truth, 0.25, 0.1)
    maps = np.stack([ordinary] * 4 + [odd] * 2)[:, None].astype(np.float32)
    head = make_head(RunConfig(head="foreground"), 32)
    folds = np.array([0, 0, 1, 1, 2, 2])
    evaluate = _Evaluation(head, maps, [truth] * 6)
    decoder = _tune(head, evaluate, folds, "adjusted_all", NAMES)
    assert decoder.params["threshold"] in (0.2, 0.25)  # tuned on all, it serves the odd fold too
    # ... but the odd fold's own score came from the ordinary ones, which settle for 0.2 first.
    honest = evaluate(head.defaults | {"threshold": 0.2})[:, 0].mean()
    assert decoder.tuned_scores["adjusted_all"] == pytest.approx(honest)


def test_several_runs_make_one_ensemble(run):
    other = start_run("b", replace(CONFIG, seed=1, encoders=("resnet10t",)), DATA)
    fill(other, level=0.8)
    covered = out_of_fold([run, other])
    assert all(len(members) == 3 for members in covered.values())
    assert calibrate([run, other]).images == 6


def refusal(function, *arguments) -> str:
    with pytest.raises(CompkitError) as caught:
        function(*arguments)
    return str(caught.value)


def test_missing_and_doubled_images_are_named(run):
    part = run.part("resnet10t", 1) / "oof"
    lost = read_maps(part)
    shutil.rmtree(part)
    write_maps(part, lost.images[:-1], lost.channels, lost.values[:-1], {})
    assert lost.images[-1] in refusal(out_of_fold, [run])
    shutil.rmtree(part)
    shutil.copytree(run.part("resnet10t", 0) / "oof", part)
    assert "out of fold twice" in refusal(out_of_fold, [run])


def test_unfinished_unlike_and_doubled_runs_are_refused(run):
    assert "named twice" in refusal(prove_alike, [run, run])
    (run.part("resnet14t", 2) / FITTED).unlink()
    assert "resnet14t fold 2" in refusal(prove_alike, [run])
    other = start_run("b", CONFIG, DATA.replace("seed=5", "seed=6"))
    fill(other)
    fill(run)
    assert "different data" in refusal(prove_alike, [run, other])


def test_damaged_maps_are_named(run):
    path = run.part("resnet10t", 0) / "oof" / "maps.npy"
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    assert "maps.npy" in refusal(out_of_fold, [run])
    path.write_bytes(b"nonsense")
    assert "corrupt" in refusal(out_of_fold, [run])


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

    assert descend(head, score(0.0)) == head.defaults
    assert descend(head, score(0.1))["threshold"] == 0.3


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
    evaluate = _Evaluation(head, np.stack([cores] * 4), [truth] * 4)
    decoder = _tune(head, evaluate, np.array([0, 0, 1, 1]), ranking, NAMES[:4])
    assert decoder.params["fill"] == (ranking != "adjusted_all")
