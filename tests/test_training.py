"""The main job on tiny phantoms: killed and resumed, refused, submitted, checked, scored."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from compkit.begin import start_run
from compkit.cli import main as compkit
from compkit.competition.table import read_table
from compkit.config import FoldsConfig, RunConfig
from compkit.data.store import open_store
from compkit.ensemble.mixture import members_of
from compkit.entry import guarded
from compkit.errors import CompkitError
from compkit.files import locked
from compkit.leak import seen_by
from compkit.metrics.named import image_scores
from compkit.run import open_run
from compkit.training import job
from compkit.training.command import parse, run_command

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "--folds.k": "2",
    "--input.batch": "4",
    "--training.steps": "18",
    "--training.steps_per_epoch": "3",
    "--training.warmup": "1",
    "--augment.elastic": "1",
    "--augment.blur": "1",
}


def command(run: str = "whole", **changed: str) -> list[str]:
    settings = {"--data": "data", "--run": run, "--encoders": "[resnet10t]", **SETTINGS}
    settings |= {f"--{name.replace('__', '.')}": value for name, value in changed.items()}
    return [sys.executable, str(ROOT / "train.py"), *(w for s in settings.items() for w in s)]


def train(workplace: Path, argv: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(argv, cwd=workplace, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a phantom competition and the finished run `whole`."""
    path = tmp_path_factory.mktemp("work")
    os.environ["COMPKIT_CACHE"] = str(path / "cache")
    data = path / "data"
    sizes = {"size": 64, "labelled": 8, "unlabelled": 2, "test": 3, "seed": 1}
    assert compkit(["phantom", "--out", str(data), *(f"--{k}={v}" for k, v in sizes.items())]) == 0
    done = train(path, command())
    assert done.returncode == 0, done.stderr
    yield path
    del os.environ["COMPKIT_CACHE"]


def weights(part: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(part / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"] | checkpoint["compkit"]["head"]


def stop_after_epoch(
    workplace: Path, argv: list[str], part: Path, epoch: int, delay: float, sign: signal.Signals
) -> subprocess.Popen:
    """Start training and signal it `delay` seconds after `epoch` rows of history are there."""
    process = subprocess.Popen(
        argv, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    history = part / "metrics.csv"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if history.exists() and len(pd.read_csv(history)) >= epoch:
            break
        time.sleep(0.01)
    time.sleep(delay)
    assert process.poll() is None, "it ended before it could be stopped"
    process.send_signal(sign)
    process.wait(60)
    return process


@pytest.mark.slow(minutes=2)
def test_killed_and_resumed_equals_uninterrupted(workplace):
    argv = command("killed", fold="0")
    part = workplace / "runs/killed/resnet10t/fold0"
    # In the writing of the first checkpoints, in the middle of an epoch, and by Ctrl-C.
    stop_after_epoch(workplace, argv, part, 1, 0.0, signal.SIGKILL)
    stop_after_epoch(workplace, argv, part, 2, 0.2, signal.SIGKILL)
    interrupted = stop_after_epoch(workplace, argv, part, 3, 0.1, signal.SIGINT)
    assert interrupted.returncode == 130
    assert interrupted.stderr.read().endswith("goes on from what was saved\n")
    assert not (part / "fit.json").exists()
    resumed = train(workplace, [*argv, "--machine.workers", "2"])  # which must not matter
    assert resumed.returncode == 0, resumed.stderr
    whole = workplace / "runs/whole/resnet10t/fold0"
    expected, got = weights(whole), weights(part)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (part / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert np.array_equal(np.load(part / "oof/maps.npy"), np.load(whole / "oof/maps.npy"))
    assert not list(part.glob(".*.tmp"))
    # What only resuming needs is kept no longer.
    assert set(torch.load(part / "last.ckpt", weights_only=True)) == {"state_dict", "compkit"}


@pytest.mark.slow
def test_a_finished_run_is_skipped_at_once(workplace):
    before = (workplace / "runs/whole/resnet10t/fold1/last.ckpt").stat().st_mtime_ns
    again = train(workplace, command())
    assert again.returncode == 0
    assert "fold 1: done" in again.stderr
    assert "out-of-fold scores" in again.stdout
    assert (workplace / "runs/whole/resnet10t/fold1/last.ckpt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_reports_recipe_trains_and_stops_early(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    argv = ["--config", str(ROOT / "configs/seed-report-cpu.yaml"), "--data", "data"]
    argv += ["--run", "early", "--fold", "0", "--encoders", "[resnet10t]", "--input.size", "40"]
    # Without any learning no epoch beats the first, so the second is the last.
    argv += ["--training.steps", "8", "--training.steps_per_epoch", "2", "--training.patience", "1"]
    argv += ["--training.lr", "1e-12", "--machine.precision", "32"]
    assert guarded(lambda: run_command(argv)) == 0
    part = Path("runs/early/resnet10t/fold0")
    assert 2 <= len(pd.read_csv(part / "metrics.csv")) < 4
    assert "still to train: resnet10t fold 1" in capsys.readouterr().err
    assert np.load(part / "oof/maps.npy").shape[1:] == (1, 40, 40)
    kappa = torch.load(part / "last.ckpt", weights_only=True)["compkit"]["head"]["kappa"]
    assert kappa.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"training__lr": "0.5"}, "another configuration (training.lr: 0.001 → 0.5)"),
        ({"encoders": "[resnet10tt]", "run": "new"}, "did you mean 'resnet10t'"),
        ({"data": "absent"}, "absent"),
        ({"fold": "7"}, "no fold 7"),
        ({"encoder": "resnet18"}, "no encoder 'resnet18'"),
        ({"encoders": "[plain_unet16]", "model__decoder": "fpn", "run": "new"}, "does not fit"),
        ({"head": "forground", "run": "new"}, "did you mean 'foreground'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    workplace, monkeypatch, capsys, changed, expected
):
    monkeypatch.chdir(workplace)
    assert guarded(lambda: run_command(command(**changed)[2:])) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (workplace / "runs/new").exists()


@pytest.mark.slow
def test_another_process_in_the_same_directory_is_refused(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    (workplace / "runs/whole/resnet10t/fold0/fit.json").rename(workplace / "fit.json")
    try:
        with locked(workplace / "runs/whole/resnet10t/fold0", "training"):
            assert guarded(lambda: run_command(command()[2:])) == 2
    finally:
        (workplace / "fit.json").rename(workplace / "runs/whole/resnet10t/fold0/fit.json")
    assert f"pid {os.getpid()}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named_and_nothing_is_half_there(workplace):
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    full = subprocess.run(
        command("full", fold="0"), cwd=workplace, capture_output=True, text=True, timeout=300,
        preexec_fn=no_large_files,
    )  # fmt: skip
    assert full.returncode == 2, full.stderr
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in full.stderr
    assert not list((workplace / "runs/full").rglob("*.ckpt*"))


@pytest.mark.slow
def test_submit_check_and_score(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    out = Path("submissions/x.csv")
    assert compkit(["submit", "--run", "whole", "--out", str(out)]) == 0
    assert compkit(["check", str(out), "--data", "data"]) == 0
    capsys.readouterr()
    assert compkit(["score", str(out), "--truth", "data/Y_test.csv", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["per_image"]) == {"0.png", "1.png", "2.png"}
    mean = np.mean([image["adjusted_all"] for image in report["per_image"].values()])
    assert report["means"]["adjusted_all"] == pytest.approx(mean)
    manifest = json.loads(out.with_suffix(".json").read_text())
    (member,) = manifest["members"]
    assert member == {
        "member": "whole/resnet10t", "folds": [0, 1],
        "all_images": False,
    }  # fmt: skip
    assert {"threshold", "fill"} <= manifest["decoder"]["params"].keys()
    assert compkit(["submit", "--run", "whole", "--out", str(out)]) == 0  # again, the same bytes
    oof = Path("oof.csv")
    assert compkit(["oof", "--run", "whole", "--out", str(oof)]) == 0
    run = open_run("whole")
    found, truths = read_table(oof), [run.store.labels_of(int(i)) for i in run.store.labelled]
    scores = [image_scores(t, r)["adjusted_all"] for t, r in zip(truths, found.labels, strict=True)]
    assert scores == pytest.approx(manifest["out_of_fold"]["image_scores"]["adjusted_all"])
    ledger = pd.read_csv("submissions/ledger.csv")
    assert ledger.submission.tolist() == ["x.csv"]
    assert ledger.sha256[0] == manifest["sha256"]
    assert manifest["test_images"] == 3
    kept = manifest["out_of_fold"]
    assert len(kept["image_names"]) == 8
    mean = np.mean(kept["image_scores"]["adjusted_all"])
    assert ledger.adjusted_all[0] == pytest.approx(mean, abs=1e-6)
    assert compkit(["ledger", "set", "x.csv", "--public", "0.5"]) == 0
    assert compkit(["ledger"]) == 0
    assert "0.5000" in capsys.readouterr().out


@pytest.mark.slow
def test_another_test_is_predicted_without_training(workplace, monkeypatch, capsys):
    """As Kaggle's code competitions swap it; what was trained on must stay the same."""
    monkeypatch.chdir(workplace)
    run = Path("runs/whole")

    def changed() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in run.rglob("*")}

    before = changed()
    shutil.copytree("data", "swapped")
    for number, name in enumerate(sorted(Path("data/X_train").iterdir())[:5]):
        shutil.copy(name, f"swapped/X_test/{number}.png")
    ask = ["submit", "--run", "whole", "--out"]
    assert compkit([*ask, "own.csv"]) == 0
    capsys.readouterr()
    assert compkit([*ask, "new.csv", "--data", "swapped"]) == 0
    said = capsys.readouterr().err
    assert "anew" not in said
    assert [line for line in said.splitlines() if "another" in line] == [
        "another test than when training began: its 5 images are predicted, and new.csv is for them"
    ]
    assert compkit(["check", "new.csv", "--data", "swapped"]) == 0
    own, new = (json.loads(Path(f"{name}.json").read_text()) for name in ("own", "new"))
    assert own["data"] == new["data"]
    assert own["test"] != new["test"] == open_store("swapped").test_content
    bytes_of_new = Path("new.csv").read_bytes()
    assert compkit([*ask, "back.csv"]) == 0
    assert Path("back.csv").read_bytes() == Path("own.csv").read_bytes() != bytes_of_new
    assert changed() == before  # a run is only read
    shutil.copytree("swapped/X_test", "alone/X_test")
    assert compkit([*ask, "alone.csv", "--data", "alone"]) == 0
    assert Path("alone.csv").read_bytes() == bytes_of_new
    assert compkit(["check", "alone.csv", "--data", "alone"]) == 0
    capsys.readouterr()
    assert compkit(["folds", "--data", "alone", "--out", "no-folds.csv"]) == 2
    assert "no training images, but a test alone" in capsys.readouterr().err
    Path("data").rename("moved")
    try:
        assert compkit([*ask, "no.csv", "--data", "alone"]) == 2
    finally:
        Path("moved").rename("data")
    assert "put it, or a link to it, beside that test" in capsys.readouterr().err
    shutil.copy("data/X_train/1.png", "swapped/X_train/0.png")
    assert compkit([*ask, "no.csv", "--data", "swapped"]) == 2
    assert "was made on other data than" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("remove", "expected"),
    [
        ("decoder.json", "no tuned decoding"),
        ("resnet10t/fold1/fit.json", "resnet10t fold 1"),
        ("resnet10t/fold0/oof/maps.json", "resnet10t fold 0"),
    ],
)
def test_submitting_what_is_not_whole_names_it(workplace, monkeypatch, capsys, remove, expected):
    monkeypatch.chdir(workplace)
    lost = Path("runs/whole") / remove
    kept = lost.read_bytes()
    lost.unlink()
    try:
        assert compkit(["submit", "--run", "whole", "--out", "submissions/no.csv"]) == 2
    finally:
        lost.write_bytes(kept)
    assert expected in capsys.readouterr().err
    assert not Path("submissions/no.csv").exists()


@pytest.mark.parametrize("wrong", [("--fold", "7"), ("--encoder", "resnet34")])
def test_a_part_that_no_run_has_leaves_no_run(workplace, monkeypatch, wrong):
    monkeypatch.chdir(workplace)
    with pytest.raises(CompkitError, match=f"has no {wrong[0].strip('-')}"):
        run_command([*command(run="odd")[2:], *wrong])
    assert not Path("runs/odd").exists()


@pytest.mark.slow
def test_no_epoch_trains_on_what_another_did(workplace, monkeypatch):
    """Where nothing is learnt, only what is drawn can change the loss."""
    monkeypatch.chdir(workplace)
    settings = {"training__lr": "1e-30", "training__ema": "0", "training__steps": "4"}
    settings |= {"training__steps_per_epoch": "1", "loss__terms": "{cross_entropy: 1}"}
    assert guarded(lambda: run_command(command("still", fold="0", **settings)[2:])) == 0
    history = pd.read_csv("runs/still/resnet10t/fold0/metrics.csv")
    assert history.loss.nunique() == len(history) == 4


@pytest.mark.slow
def test_a_start_from_weights_that_saw_what_validates_is_refused(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    own = "runs/whole/{encoder}/fold{fold}/last.ckpt"
    _, config = parse(command("warm", model__start=own)[2:])
    start_run("warm", config, "data")
    copy = Path("elsewhere.ckpt")
    shutil.copy("runs/whole/resnet10t/fold0/best.ckpt", copy)
    for setting in ("model__start", "model__weights"):
        assert (
            guarded(lambda name=setting: run_command(command("leak", **{name: str(copy)})[2:])) == 2
        )
        assert "elsewhere.ckpt was trained on 4 of the images that validate fold 1" in (
            capsys.readouterr().err
        )
    checkpoint = torch.load(copy, weights_only=True)
    torch.save({"best": checkpoint}, "nested.pth")
    assert guarded(lambda: run_command(command("leak", model__weights="nested.pth")[2:])) == 2
    assert "nested.pth was trained on 4 of the images" in capsys.readouterr().err
    del checkpoint["compkit"]["seen"]
    torch.save(checkpoint, copy)
    assert guarded(lambda: run_command(command("leak", model__start=str(copy))[2:])) == 2
    assert "does not say which images it was trained on" in capsys.readouterr().err
    assert not Path("runs/leak").exists()


@pytest.mark.slow
def test_another_folds_checkpoint_is_not_predicted_with(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    path = Path("runs/whole/resnet10t/fold1/last.ckpt")
    kept = path.read_bytes()
    shutil.copy("runs/whole/resnet10t/fold0/last.ckpt", path)
    try:
        assert compkit(["submit", "--run", "whole", "--out", "submissions/no.csv"]) == 2
        assert "is not the checkpoint that was trained there" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)
    assert not Path("submissions/no.csv").exists()


@pytest.mark.slow
def test_the_whole_folder_of_another_network_is_not_taken(workplace, monkeypatch, capsys):
    """Its digests and maps fit together, so only the checkpoint can tell."""
    monkeypatch.chdir(workplace)
    shutil.copytree("runs/whole", "runs/mixed")
    assert guarded(lambda: run_command(command("other", fold="0", seed="7")[2:])) == 0
    own = Path("runs/mixed/resnet10t/fold0")
    for other, reason in (
        ("runs/whole/resnet10t/fold1", "was trained on images that validate fold 0"),
        ("runs/other/resnet10t/fold0", "(seed: 7 → 0): put back whichever"),
    ):
        shutil.rmtree(own)
        shutil.copytree(other, own)
        assert compkit(["oof", "--run", "mixed", "--out", "no.csv"]) == 2
        assert reason in capsys.readouterr().err
    assert not Path("no.csv").exists()


@pytest.mark.slow
def test_a_split_by_hand_may_part_copies(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    shutil.copytree("data", "copies")
    store = open_run("whole").store
    names = [store.train[int(index)] for index in store.labelled]
    shutil.copy(f"copies/X_train/{names[0]}", f"copies/X_train/{names[1]}")
    rows = [f"{name},{number % 2}" for number, name in enumerate(names)]
    Path("hand.csv").write_text("\n".join(["image,fold", *rows]) + "\n")
    settings = {"data": "copies", "fold": "0", "folds__file": "hand.csv", "training__steps": "3"}
    assert guarded(lambda: run_command(command("hand", **settings)[2:])) == 0
    assert "exact copies of 1 image lie in several folds" in capsys.readouterr().err
    assert Path("runs/hand/resnet10t/fold0/oof/maps.json").is_file()


@pytest.mark.slow
def test_a_checkpoint_passes_on_what_its_start_had_seen(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    own = "runs/whole/{encoder}/fold{fold}/last.ckpt"
    settings = {"model__start": own, "training__steps": "3", "folds__seed": "0"}
    assert guarded(lambda: run_command(command("heir", fold="0", **settings)[2:])) == 0
    old, new = (seen_by(Path(f"runs/{run}/resnet10t/fold0/last.ckpt")) for run in ("whole", "heir"))
    assert set(old) == set(new)
    store = open_run("whole").store
    assert set(old) == set(store.digests(open_run("whole").folds.train_indices(0)))


def test_an_encoder_learns_at_its_own_rate(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    settings = {"model__start": "runs/whole/{encoder}/fold{fold}/last.ckpt", "folds__seed": "0"}
    settings |= {"training__steps": "3", "training__encoder_lr": "1e-12", "training__ema": "0"}
    assert guarded(lambda: run_command(command("slow", fold="0", **settings)[2:])) == 0
    old, new = (weights(Path(f"runs/{run}/resnet10t/fold0")) for run in ("whole", "slow"))
    learnt = [
        k for k in new if k.endswith(("weight", "bias")) and not torch.allclose(old[k], new[k])
    ]
    assert learnt and not [name for name in learnt if ".encoder." in name]


@pytest.mark.slow
def test_a_network_on_all_images_joins_submissions_and_is_never_out_of_fold(
    workplace, monkeypatch, capsys
):
    monkeypatch.chdir(workplace)
    whole = Path("runs/whole/resnet10t/all")
    try:
        assert guarded(lambda: run_command(command(fold="all")[2:])) == 0
        assert (whole / "fit.json").is_file()
        assert not (whole / "oof").exists()
        assert compkit(["submit", "--run", "whole", "--out", "all/x.csv"]) == 0
        assert "3 images from 3 networks" in capsys.readouterr().err
        (member,) = json.loads(Path("all/x.json").read_text())["members"]
        assert (member["folds"], member["all_images"]) == ([0, 1], True)
        (one,) = members_of([open_run("whole")])
        assert len(one.out_of_fold) == 8
        capsys.readouterr()
        start = "runs/whole/{encoder}/all/last.ckpt"
        assert guarded(lambda: run_command(command("leak", model__start=start)[2:])) == 2
        assert "of the images that validate fold 0" in capsys.readouterr().err
    finally:
        shutil.rmtree(whole, ignore_errors=True)


@pytest.mark.slow
def test_an_unreadable_checkpoint_is_named(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    path = Path("runs/whole/resnet10t/fold1/last.ckpt")
    kept = path.read_bytes()
    path.write_bytes(kept[:1000])
    try:
        assert compkit(["submit", "--run", "whole", "--out", "submissions/no.csv"]) == 2
    finally:
        path.write_bytes(kept)
    assert "fold1/last.ckpt is not a readable checkpoint" in capsys.readouterr().err


def test_help_answers_at_once():
    start = time.monotonic()
    shown = subprocess.run([sys.executable, "-m", "compkit.cli", "--help"], capture_output=True)
    assert shown.returncode == 0
    assert b"submit" in shown.stdout
    assert time.monotonic() - start < 1
    code = "import sys, compkit.cli as c; c._parser(None)"
    heavy = f"{code}; print({{'torch', 'pandas'}} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "set()\n"


def test_a_cluster_begins_with_what_takes_longest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    begun = []
    monkeypatch.setattr(job, "is_on_ray", lambda: True)
    monkeypatch.setattr(job, "room", lambda machine: 2)
    monkeypatch.setattr(job, "spread", lambda function, todo, *_: begun.extend(todo))
    config = RunConfig(encoders=("plain_unet16", "plain_unet32"), folds=FoldsConfig(k=2))
    job.train(config, "phantom:size=32,labelled=8,unlabelled=0,test=1", "dear")
    assert [part[2:] for part in begun] == [
        ("plain_unet32", 0), ("plain_unet32", 1), ("plain_unet16", 0), ("plain_unet16", 1)
    ]  # fmt: skip
