"""``import compkit`` and ``compkit predict``: one tiny run, predicting images of any folder."""

from __future__ import annotations

import doctest
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import compkit
from compkit import api
from compkit.cli import main
from compkit.competition.table import read_table
from compkit.config import RunConfig, TrainingConfig
from compkit.data.store import open_store
from compkit.ensemble import folder
from compkit.ensemble.build import build
from compkit.ensemble.model import Model
from compkit.errors import CompkitError
from compkit.images import read_grey
from compkit.regions import keep_largest

DATA = "phantom:size=64,labelled=8,unlabelled=0,test=3,seed=1"
CONFIG = {
    "encoders": ["plain_unet16", "resnet10t"],
    "folds": {"k": 2},
    "input": {"size": 48, "batch": 4},
    "training": {"steps": 12, "steps_per_epoch": 6, "warmup": 1},
    "inference": {"batch": 2},
    "machine": {"precision": "32"},  # what so little training learns differs by processor else
}
PAGE = Path(__file__).parents[1] / "docs/python.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with the finished run `demo`, and an ensemble of it."""
    path = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("COMPKIT_CACHE", str(path / "cache"))
        compkit.train(CONFIG, DATA, run="demo")
        build("both", ["demo"])
        yield path


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """An empty directory, from where the runs are seen, but none of their data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPKIT_RUNS", str(trained / "runs"))
    return tmp_path


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.setattr("compkit.run.open_store", None)


def images(count: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Return grey images of different sizes, none of them square."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (40 + 3 * i, 64 - 5 * i), np.uint8) for i in range(count)]


def write(directory: Path, given: list[np.ndarray], suffix: str = ".png") -> Path:
    directory.mkdir(exist_ok=True)
    for number, image in enumerate(given):
        Image.fromarray(image).save(directory / f"{number}{suffix}")
    return directory


def predict(*words: str, run: str = "demo") -> int:
    return main(["predict", "--run", run, "--images", "in", "--out", "out", *words])


def labels_in(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether label maps are the same but for their numbers."""
    return np.array_equal(keep_largest(one, 255)[0], keep_largest(other, 255)[0])


def test_importing_compkit_is_quick_and_imports_nothing_else():
    code = "import sys, compkit; print({'numpy', 'torch', 'compkit.api'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
    assert compkit.load is api.load
    assert set(compkit.__all__) == set(api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        compkit.lode  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "both"])
def test_images_have_the_regions_of_their_submission(place, name):
    compkit.submit(name, out="x.csv")
    test = open_store(DATA).test_images
    found = compkit.load(name).predict(np.array(test))
    assert found.dtype == np.int32
    table = read_table(Path("x.csv"))
    assert all(alike(*pair) for pair in zip(found, table.labels, strict=True))
    assert any(labels.max() > 1 for labels in found)


@pytest.mark.slow
def test_one_image_or_many_of_any_size_in_grey_or_colour(place, no_data):
    run, given = compkit.load("demo"), images()
    many = run.predict(given)
    assert [one.shape for one in many] == [one.shape for one in given]
    for image, labels in zip(given, many, strict=True):
        assert np.array_equal(run.predict(image), labels)
        coloured = np.repeat(image[..., None], 3, axis=2)
        for same in (coloured, image[..., None], coloured[None], image[None]):
            assert np.array_equal(np.squeeze(run.predict(same)), labels)
    maps = run.predict_maps(given[0])
    assert all(one.dtype == np.float32 and one.shape == (30, 48) for one in maps.values())
    stacked = run.predict_maps(np.stack([given[0]] * 3))
    assert maps.keys() == stacked.keys()
    assert all(np.allclose(stacked[name][1], maps[name], atol=1.1 / 255) for name in maps)
    assert [one.keys() for one in run.predict_maps(given)] == [maps.keys()] * 3


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [np.uint16, np.float32, bool, (3, 4, 5), (0, 3), (2, 2, 2, 2, 1)])
def test_what_is_no_image_of_8_bits_is_refused(place, no_data, wrong):
    image = np.zeros(wrong, np.uint8) if isinstance(wrong, tuple) else np.zeros((8, 8), wrong)
    with pytest.raises(CompkitError, match=r"image 0 (holds|has the shape)"):
        compkit.load("demo").predict([image])


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["in/0.png", Path("in/0.png"), None, 3])
def test_what_is_no_array_is_refused(place, no_data, wrong):
    import torch

    run = compkit.load("demo")
    with pytest.raises(CompkitError, match="images are arrays, not"):
        run.predict(wrong)
    with pytest.raises(CompkitError, match=r"no image in an array of shape \(0, 8, 8\)"):
        run.predict(np.zeros((0, 8, 8), np.uint8))
    for lost in (torch.zeros(8, 8, device="meta"), np.array([np.zeros((3, 3)), None], object)):
        for given in (lost, [lost]):
            with pytest.raises(CompkitError, match="is no array"):
                run.predict(given)


@pytest.mark.slow
def test_a_model_is_opened_by_name_directory_or_checkpoint(place, no_data, monkeypatch, trained):
    (image,) = images(1)
    run = compkit.load("demo")
    assert run.networks == 4
    monkeypatch.delenv("COMPKIT_RUNS")
    for where in (trained / "runs/demo", trained / "runs/both"):
        assert np.array_equal(compkit.load(where).predict(image), run.predict(image))
    part = trained / "runs/demo/resnet10t/fold0"
    assert compkit.load(part / "last.ckpt").networks == 1
    for where, expected in (("demo", "no run or ensemble runs/demo"), (part, "no run or ensemble")):
        with pytest.raises(CompkitError, match=expected):
            compkit.load(where)


@pytest.mark.slow
def test_a_network_that_lacks_or_is_another_is_named(place, no_data, trained, monkeypatch, capsys):
    write(place / "in", images())
    shutil.copytree(trained / "runs", "runs")
    monkeypatch.setenv("COMPKIT_RUNS", "runs")
    decoder = Path("runs/demo/decoder.json")
    shutil.copy("runs/demo/resnet10t/decoder.json", decoder)
    assert predict() == 2
    assert f"{decoder} was tuned on maps of other networks" in capsys.readouterr().err
    shutil.copy("runs/both/decoder.json", decoder)  # of the same networks
    path = Path("runs/demo/resnet10t/fold1/last.ckpt")
    path.unlink()
    for run in ("demo", "both"):
        assert predict(run=run) == 2
        assert f"there is no checkpoint {path.parent}/last.ckpt" in capsys.readouterr().err
    shutil.copy("runs/demo/resnet10t/fold0/last.ckpt", path)
    assert predict() == 2
    assert "is not the checkpoint that was trained there" in capsys.readouterr().err
    shutil.rmtree(path.parent)
    assert predict() == 2
    assert f"{path}: " in capsys.readouterr().err
    assert not Path("out").exists()


def test_scores_are_of_one_image_or_the_mean_of_several():
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 4, (2, 3, 8, 9))
    alone = [compkit.score(*pair) for pair in zip(truth, labels, strict=True)]
    several = compkit.score(truth, list(labels))
    assert several == pytest.approx({n: np.mean([one[n] for one in alone]) for n in alone[0]})
    shapes = (labels[:2], labels[..., 1:], labels[0, 0], [[[1, 2], [3]]])
    for wrong in (*shapes, labels / 2, labels - 3, None, {}):
        with pytest.raises(CompkitError, match=r"of the same images|whole numbers|below 0"):
            compkit.score(truth, wrong)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: compkit.load(3), r"load: where is 3, but takes str \| Path: see help"),
        (lambda: compkit.score([[1]], [[1]], "mine"), "metrics is 'mine', but takes Sequence"),
        (lambda: compkit.submit(3, out="x.csv"), "run is 3, but takes str"),
        (lambda: compkit.submit([], out="x.csv"), "no run is named"),
        (lambda: compkit.submit("x"), "submit: missing a required argument: 'out'"),
        (lambda: compkit.submit("x", out="x.csv", overwrite=1), "overwrite is 1, but takes bool"),
        (lambda: compkit.train({}, DATA, run=None), "run is None, but takes str"),
        (lambda: compkit.train(3, DATA, run="x"), "config is 3, but takes RunConfig"),
        (lambda: compkit.train({}, None, run="x"), "data is None, but takes str"),
        (
            lambda: compkit.train({"training": {"lr": float("nan")}}, DATA, run="x"),
            r"training\.lr: nan is no finite number",
        ),
        (
            lambda: compkit.train({"encoders": [np.int64(3)]}, DATA, run="x"),
            r"encoders\.0: int64 is no kind of value here",
        ),
        (lambda: compkit.train({}, DATA, run="x", fold=-1), "fold is -1: give a number from 0 up"),
    ],
)
def test_arguments_of_other_types_are_one_sentence(call, sentence):
    with pytest.raises(CompkitError, match=sentence):
        call()


LONG = 5000 * "x"


@pytest.mark.parametrize(
    "call",
    [
        lambda: compkit.load(LONG),
        lambda: compkit.load(f"{LONG}.ckpt"),
        lambda: compkit.submit(LONG, out="x.csv"),
        lambda: compkit.submit("demo", out=f"{LONG}.csv"),
        lambda: compkit.train({}, DATA, run=LONG),
        lambda: compkit.train({}, LONG, run="x"),
        lambda: compkit.train(LONG, DATA, run="x"),
    ],
)
def test_what_is_too_long_for_a_name_is_one_sentence(call, place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(CompkitError, match="File name too long"):
        call()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--head", "bounday"], "no head 'bounday'"),
        (["--loss.terms", "{dyce: 1}"], "no loss 'dyce'"),
        (["--ranking", "adjusted"], "no metric 'adjusted'"),
        (["--data", "nowhere"], "no competition's data at nowhere"),
    ],
)
def test_unknown_names_are_told_before_torch_is_imported(tmp_path, words, sentence):
    code = "import sys; from compkit.cli import main; main(sys.argv[1:]); print(sys.modules.keys())"
    argv = ["train", "--data", DATA, "--run", "x", *words]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True
    )
    assert sentence in done.stderr
    assert "'numpy'" in done.stdout
    assert "'torch'" not in done.stdout


def test_a_configuration_is_a_mapping_a_dataclass_or_a_file(place):
    Path("x.yaml").write_text("encoders: [no_such]")
    older = {"encoders": ["no_such"], "weights": {"background": 1.0}, "input": {"contrast": "grey"}}
    same = RunConfig(encoders=("no_such",))
    for config in ({"encoders": ["no_such"]}, older, same, Path("x.yaml")):
        with pytest.raises(CompkitError, match="no timm encoder 'no_such'"):
            compkit.train(config, DATA, run="x")
    wrong = RunConfig(training=TrainingConfig(optimizer="zz"))  # type: ignore[arg-type]
    with pytest.raises(CompkitError, match=r"training\.optimizer"):
        compkit.train(wrong, DATA, run="x")
    with pytest.raises(CompkitError, match=r"config has an unknown key 'training\.step'"):
        compkit.train({"training": {"step": 3}}, DATA, run="x")
    for fold in (True, 1.0, "one"):
        with pytest.raises(CompkitError, match=rf"fold is {fold!r}, but takes int \| Literal"):
            compkit.train({}, DATA, run="x", fold=fold)


def test_the_namespace_lists_what_it_offers():
    assert dir(compkit) == sorted(["CompkitError", "load", "score", "submit", "train"])


@pytest.mark.slow
def test_the_examples_run(place, monkeypatch):
    """Those of the page, which trains its own run, then those of the functions."""
    shown = {"optionflags": doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE}
    monkeypatch.delenv("COMPKIT_RUNS")
    assert doctest.testfile(str(PAGE), module_relative=False, **shown).failed == 0
    test = np.array(open_store("phantom:size=32,labelled=8,unlabelled=0,test=3").test_images)
    names = {"compkit": compkit, "np": np, "Path": Path, "images": test}
    done = doctest.testmod(api, extraglobs=names, **shown)
    assert done.failed == 0
    assert done.attempted > 10


@pytest.mark.slow
def test_a_folder_of_images_is_predicted(place, no_data, capsys):
    given, run = images(4), compkit.load("demo")
    write(place / "in", given[:2])
    Image.fromarray(given[2]).save("in/a b.TIF")
    Image.fromarray(np.stack([given[3]] * 3, axis=2)).save("in/c.jpeg", quality=95)
    Path("in/.hidden.png").touch()
    Path("in/notes.txt").touch()
    assert predict("--overlay") == 0
    assert {p.name for p in Path("out").glob("*.png")} == {"0.png", "1.png", "a b.png", "c.png"}
    for stem, image in zip(("0", "1", "a b"), given, strict=False):
        found, overlay = (
            labels_in(Path("out") / where / f"{stem}.png") for where in ("", "overlay")
        )
        assert found.dtype == np.uint8
        assert np.array_equal(found, run.predict(image))
        assert overlay.shape == (*image.shape, 3)
        same = (overlay == image[..., None]).all(2)
        assert same[found == 0].all()
        assert not same.all() or not found.any()
    assert "label maps of 4 images, by 4 networks" in capsys.readouterr().err


@pytest.mark.slow
def test_more_than_255_regions_take_16_bits(place, no_data, monkeypatch):
    write(place / "in", images(1))
    many = np.arange(2560).reshape(40, 64)
    monkeypatch.setattr(
        Model, "regions", lambda self, images, count: ((image, many) for image in images)
    )
    assert predict() == 0
    found = labels_in(Path("out/0.png"))
    assert np.array_equal(found, np.arange(2560).reshape(40, 64))
    before = Path("out/0.png").stat().st_mtime_ns
    assert predict() == 0
    assert Path("out/0.png").stat().st_mtime_ns == before
    many *= 1000
    assert predict("--out", "far") == 0
    assert len(np.unique(labels_in(Path("far/0.png")))) == many.size


@pytest.mark.slow
def test_what_is_there_is_kept_and_what_lacks_is_predicted(place, no_data, monkeypatch, capsys):
    write(place / "in", images(5))
    write_one, written = folder._write, []

    def killed_at_the_third(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write_one(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "_write", killed_at_the_third)
        assert predict() == 130
    Image.fromarray(images(2)[1]).save("in/0.png")  # another image of that name
    before = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    assert before.keys() == {"0.png", "1.png"}
    capsys.readouterr()
    assert predict() == 0
    assert "5 images, by 4 networks; 1 were there already" in capsys.readouterr().err
    after = {p.name: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    assert len(after) == 5
    assert after["1.png"] == before["1.png"]
    assert after["0.png"] != before["0.png"]
    assert predict("--overlay") == 0  # nothing but the overlays lacked
    assert len(list(Path("out/overlay").iterdir())) == 5


@pytest.mark.slow
def test_no_image_is_replaced_through_a_link_nor_what_is_no_file(place, no_data, capsys):
    write(place / "in", images())
    Path("out").mkdir()
    there = Path("out/0.png")
    for make, sentence in (
        (lambda: there.symlink_to("../in/0.png"), "is one of the images themselves"),
        (lambda: there.symlink_to("nowhere"), "is a link that leads nowhere"),
        (there.mkdir, "is there and is no file"),
    ):
        make()
        assert predict("--overwrite") == 2
        assert sentence in capsys.readouterr().err
        there.rmdir() if there.is_dir() else there.unlink()
    assert np.array_equal(labels_in(Path("in/0.png")), images()[0])
    assert not Path("nowhere").exists()
    os.mkfifo("in/9.png")
    assert predict() == 2
    assert "in/9.png is a pipe or a device" in capsys.readouterr().err


def test_an_image_is_turned_as_viewers_show_it(tmp_path):
    upright, exif = images(1)[0], Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    for suffix in ("png", "tif", "jpeg"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(np.rot90(upright)).save(path, exif=exif, quality=100)
        assert read_grey(path).shape == upright.shape
        assert np.abs(read_grey(path).astype(int) - upright).max() <= 8 * (suffix == "jpeg")


@pytest.mark.slow
def test_names_may_be_as_long_as_the_file_system_takes(place, no_data):
    write(place / "in", images(2))
    names = {f"{'x' * 251}.png", f"{'ü' * 125}.png"}
    for number, name in enumerate(names):
        Path(f"in/{number}.png").rename(f"in/{name}")
    assert predict() == 0
    assert {path.name for path in Path("out").iterdir()} == names


def test_images_of_16_bits_are_not_cut_to_8(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((4, 4, 3), 40_000, np.uint16))
    with pytest.raises(CompkitError, match="has 16 bits a channel"):
        read_grey(tmp_path / "x.png")


@pytest.mark.slow
def test_nothing_of_the_users_is_replaced(place, no_data, capsys):
    write(place / "in", images())
    own = images(1, seed=1)[0]
    write(place / "out", [own])
    assert predict() == 2
    assert "out/0.png is there and is not as compkit wrote it" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["0.png"]
    assert predict("--overwrite") == 0
    with Image.open("out/1.png") as ours:  # edited, by a program that keeps what it does not know
        about, pixels = ours.text, np.array(ours)
    pixels[0, 0] += 1
    Image.fromarray(pixels).save("out/1.png", pnginfo=_info(about))
    assert predict() == 2
    assert "out/1.png is there" in capsys.readouterr().err
    assert main(["predict", "--run", "demo", "--images", "in", "--out", "in", "--overwrite"]) == 2
    assert np.array_equal(labels_in(Path("in/0.png")), images()[0])


def _info(texts: dict[str, str]) -> PngInfo:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


@pytest.mark.slow
def test_a_broken_image_is_named_and_no_work_is_lost(place, no_data, capsys):
    write(place / "in", images(6))
    whole = Path("in/4.png").read_bytes()
    for broken, kept in ((b"no image", 0), (whole[:-40], 3)):  # its batch is not begun
        Path("in/4.png").write_bytes(broken)
        assert predict() == 2
        assert "in/4.png cannot be read as a PNG" in capsys.readouterr().err
        assert len(list(Path("out").glob("*.png"))) == kept
    Path("in/4.png").write_bytes(whole)
    assert predict() == 0
    assert "3 were there already" in capsys.readouterr().err
    for wrong, said in (
        (np.zeros((8, 8), np.uint16), "in/4.png is a 16-bit grey PNG"),
        (None, "2 images in in are called 4"),
    ):
        if wrong is None:
            Path("in/4.png").write_bytes(whole)
            Image.fromarray(images(1)[0]).save("in/4.jpg")
        else:
            Image.fromarray(wrong).save("in/4.png")
        assert predict() == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 40])
def test_few_images_are_held_however_many_there_are(place, no_data, monkeypatch, count):
    write(place / "in", [np.zeros((16, 16), np.uint8)] * count)
    read, wrote, most = [], [], 0
    read_one, write_one = folder.read_grey, folder._write

    def reading(path):
        nonlocal most
        read.append(path)
        most = max(most, len(read) - len(wrote))
        return read_one(path)

    def writing(*given):
        wrote.append(given[0])
        write_one(*given)

    monkeypatch.setattr(folder, "read_grey", reading)
    monkeypatch.setattr(folder, "_write", writing)
    assert predict() == 0
    assert len(wrote) == count
    assert most <= 3  # a batch of two, and the next one, by which it is known to be complete
