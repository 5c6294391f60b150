"""Segment Anything's masks as a submission, with tiny networks of the real classes."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers
from tiny_sam import SIDE, tiny_sam, tiny_sam2, tiny_sam_hq

from compkit.cli import main
from compkit_research.sam.masks import Runs
from compkit_research.sam.network import GENERATION, SegmentAnything, _downloaded

DATA = "phantom:size=64,labelled=4,unlabelled=0,test=2"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_sam(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cached(cache, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(cache))


@pytest.fixture
def copied(weights, tmp_path) -> Path:
    """The checkpoint, to be spoilt."""
    return shutil.copytree(weights, tmp_path / "copied")


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """How many masks each generation gave, as they come."""
    generate, made = SegmentAnything._generate, []

    def counted(self, image):
        runs = generate(self, image)
        made.append(len(runs.counts))
        return runs

    monkeypatch.setattr(SegmentAnything, "_generate", counted)
    return made


def run(weights: Path | str, out: Path) -> int:
    return main(["sam", "--data", DATA, "--weights", str(weights), "--out", str(out)])


def test_the_baseline_is_a_sound_submission_and_its_masks_are_kept(
    weights, cache, tmp_path, calls, capsys
):
    first, again = tmp_path / "a.csv", tmp_path / "b.csv"
    assert run(weights, first) == 0
    assert main(["check", str(first), "--data", DATA]) == 0
    assert "a sound submission of 2 images of 64×64" in capsys.readouterr().out
    assert len(calls) == 2
    assert min(calls) > 1

    assert run(weights, again) == 0
    assert len(calls) == 2
    assert again.read_bytes() == first.read_bytes()

    kept = sorted(cache.glob("sam/*/*.npz"))
    assert len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    assert run(weights, again) == 0
    assert len(calls) == 3
    assert again.read_bytes() == first.read_bytes()
    assert f"{kept[0]} is damaged" in capsys.readouterr().err


def test_a_killed_run_goes_on_where_it_was(copied, tmp_path, calls, monkeypatch):
    (copied / "other.json").write_text("{}")  # so that the masks of other tests are not its own
    generate = SegmentAnything._generate

    def killed(self, image):
        if calls:
            raise KeyboardInterrupt
        return generate(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentAnything, "_generate", killed)
        assert run(copied, tmp_path / "x.csv") == 130
    assert not (tmp_path / "x.csv").exists()
    assert run(copied, tmp_path / "x.csv") == 0
    assert len(calls) == 2


def test_other_weights_settings_and_images_have_other_masks(weights, copied, calls, monkeypatch):
    image = np.full((SIDE, SIDE), 7, np.uint8)
    nothing = Runs((SIDE, SIDE), ())
    monkeypatch.setattr(SegmentAnything, "_generate", lambda *_: calls.append(0) or nothing)
    for _ in range(2):
        SegmentAnything(str(weights)).masks(image)
    assert len(calls) == 1
    SegmentAnything(str(weights)).masks(image + 1)
    assert len(calls) == 2
    config = json.loads((copied / "preprocessor_config.json").read_text())
    (copied / "preprocessor_config.json").write_text(json.dumps({**config, "resample": 3}))
    SegmentAnything(str(copied)).masks(image)
    assert len(calls) == 3
    monkeypatch.setitem(GENERATION, "pred_iou_thresh", 0.5)
    SegmentAnything(str(weights)).masks(image)
    assert len(calls) == 4


def test_runs_are_those_of_the_library(weights):
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)
    network = SegmentAnything(str(weights))
    wanted = network._generator(Image.fromarray(image).convert("RGB"), **GENERATION)["masks"]
    assert len(wanted) > 1
    np.testing.assert_array_equal(network.masks(image).masks(), np.array(wanted))


@pytest.mark.parametrize("save", [tiny_sam_hq, tiny_sam2])
def test_successors_give_masks_too(save, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATION, "pred_iou_thresh", -9.0)
    monkeypatch.setitem(GENERATION, "stability_score_thresh", -1.0)
    monkeypatch.setitem(GENERATION, "points_per_crop", 4)
    save(tmp_path / "weights")
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)
    masks = SegmentAnything(str(tmp_path / "weights")).masks(image).masks()
    assert len(masks)
    assert masks.shape[1:] == image.shape


def test_no_masks_and_too_many_are_said(weights, tmp_path, monkeypatch, capsys):
    pixels = [np.array([i, 1, SIDE**2 - i - 1], np.uint32) for i in range(300)]
    given = iter([Runs((SIDE, SIDE), ()), Runs((SIDE, SIDE), tuple(pixels))])
    monkeypatch.setattr(SegmentAnything, "masks", lambda *_: next(given))
    out = tmp_path / "x.csv"
    assert run(weights, out) == 0
    said = capsys.readouterr().err
    assert "1 images had more than 255 masks: their smallest became background" in said
    assert "1 of 2 images hold no region: they are all background" in said
    assert main(["check", str(out), "--data", DATA]) == 0


def refused(weights: Path | str, tmp_path: Path, capsys) -> str:
    """Return the one sentence with which a run is refused, having written nothing."""
    out = tmp_path / "refused.csv"
    assert run(weights, out) == 2
    assert not out.exists()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def test_weights_that_are_nowhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("facebook/sam-vit-base", "./absent", "not/a/name"):
        said = refused(name, tmp_path, capsys)
        assert f"there is no folder {name}, and no model of that name comes from the hub" in said


def test_from_the_hub_come_no_pickles(weights, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(weights)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert run("someone/sam", tmp_path / "x.csv") == 0
    assert asked == [("someone/sam", ["*.json", "*.safetensors"])]


def test_a_full_disk_is_not_an_absent_model(monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(OSError, match="No space left"):
        _downloaded("someone/sam")


def test_a_file_is_no_folder(weights, tmp_path, capsys):
    said = refused(weights / "model.safetensors", tmp_path, capsys)
    assert "is a file: give the folder that holds it" in said


def test_pickled_weights_are_refused(copied, tmp_path, capsys):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    said = refused(copied, tmp_path, capsys)
    assert "no weights as safetensors, only pytorch_model.bin: pickled weights are never" in said


def test_a_checkpoint_of_another_class(copied, tmp_path, capsys):
    transformers.BertConfig().save_pretrained(copied)
    assert "is a checkpoint of bert, not of Segment Anything" in refused(copied, tmp_path, capsys)


@pytest.mark.parametrize("how", ["absent", "of another shape"])
def test_a_checkpoint_that_lacks_tensors(copied, tmp_path, capsys, how):
    from safetensors.torch import load_file, save_file

    path = copied / "model.safetensors"
    state = load_file(path)
    token = state.pop("mask_decoder.iou_token.weight")
    if how == "of another shape":
        state["mask_decoder.iou_token.weight"] = token[:, :4].clone()
    save_file(state, path, {"format": "pt"})
    said = refused(copied, tmp_path, capsys)
    assert f"1 tensors of the network are absent from the safetensors of {copied}, or" in said
    assert "mask_decoder.iou_token.weight" in said


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def other_input(folder: Path) -> None:
    smaller = {"height": 32, "width": 32}
    processor = transformers.SamImageProcessor(size={"longest_edge": 32}, pad_size=smaller)
    processor.save_pretrained(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text('{"model_type": "unheard-of"}'),
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        only_pickled,
        other_input,
    ],
    ids=["weights", "no config", "config", "type", "no processor", "pickled", "input"],
)
def test_a_checkpoint_that_is_not_whole(copied, tmp_path, capsys, spoil):
    spoil(copied)
    assert f"transformers cannot use the checkpoint {copied}" in refused(copied, tmp_path, capsys)
