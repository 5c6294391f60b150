"""The same competition in every layout: the same images, regions, folds, and truth of the test."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

import compkit
from compkit.baselines import submission as baselines
from compkit.baselines.watershed import WatershedParams, watershed
from compkit.blend import job
from compkit.cli import main
from compkit.competition.layout import files_by_name, read_layout
from compkit.competition.phantom import PhantomSettings, PhantomSource, write_phantom
from compkit.data.arrays import Ragged
from compkit.data.store import open_store
from compkit.errors import CompkitError
from compkit.folds.make import make_folds
from compkit.labels.paint import parted
from compkit.metrics.named import image_score
from compkit.metrics.rand import METRICS
from compkit.phantom.layouts import LAYOUTS, TRUTH
from compkit.pixels import as_grey
from compkit.regions import inside, numbered
from compkit.submission.forms import LabelImages, Membranes, form_of

SMALL = PhantomSettings(size=48, labelled=7, unlabelled=2, test=3)
SOURCE = PhantomSource(SMALL)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    for layout in ("raidium", *LAYOUTS):
        write_phantom(SMALL, folder / layout, layout)
    return {layout: folder / layout for layout in ("raidium", *LAYOUTS)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_store_and_folds(written, layout):
    found, wanted = (open_store(str(written[name])) for name in (layout, "raidium"))
    assert found.competition.name == layout
    assert found.train == tuple(name.removesuffix(".png") for name in wanted.train)
    np.testing.assert_array_equal(found.images, wanted.images)
    np.testing.assert_array_equal(found.test_images, wanted.test_images)
    assert found.labelled.tolist() == wanted.labelled.tolist()
    for index in found.labelled.tolist():
        one, other = numbered(found.labels_of(index)), numbered(wanted.labels_of(index))
        if layout == "isbi2012":  # whose regions lose their border, and fall apart where it is all
            assert ((one > 0) <= (other > 0)).all()
            assert one.any()
        else:
            np.testing.assert_array_equal(one, other)
    if layout == "isbi2012":  # so that other images are alike in coverage
        return
    np.testing.assert_array_equal(make_folds(found, 3).fold, make_folds(wanted, 3).fold)


@pytest.mark.parametrize("layout", TRUTH)
def test_the_truth_is_a_sound_submission_that_scores_1(written, layout, capsys, tmp_path):
    truth, data = str(written[layout] / TRUTH[layout]), str(written[layout])
    assert main(["check", truth, "--data", data]) == 0
    assert "a sound submission of 3 images of 48×48" in capsys.readouterr().out
    assert main(["score", truth, "--truth", truth, "--data", data]) == 0
    store = open_store(data)
    assert store.competition.rules.ranking in (shown := capsys.readouterr().out)
    assert "1.0000" in shown
    if layout == "isbi2012":
        return  # whose pages tell no names
    if truth.endswith(".csv"):  # in whatever order
        header, *rows = Path(truth).read_text().splitlines()
        (tmp_path / "x.csv").write_text("\n".join([header, *rows[::-1]]))
        assert main(["score", str(tmp_path / "x.csv"), "--truth", truth, "--data", data]) == 0
        assert "1.0000" in capsys.readouterr().out
        assert main(["check", str(tmp_path / "x.csv"), "--data", data]) == 2
        assert "image 1 is 2 where 0 is wanted" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["raidium", *TRUTH])
def test_submissions_are_read_as_they_were_written(written, layout, tmp_path):
    store = open_store(str(written[layout]))
    form, shapes = form_of(store.competition), dict(store.shapes("test"))
    labels = [numbered(each) for each in SOURCE.draw("test")]
    labels[1][:] = 0
    if layout == "isbi2012":  # in whose form no two regions touch
        labels = [numbered(parted(inside(each).astype(np.uint8))) for each in labels]
    path = tmp_path / f"x{form.suffix}"
    form.fill(path, list(shapes), labels, 255, path)
    found = form.check(path, shapes, 255)
    assert list(found) == list(shapes)
    for one, other in zip(found.values(), labels, strict=True):
        np.testing.assert_array_equal(numbered(one), other)
    first = path.read_bytes()
    form.fill(path, list(shapes), labels, 255, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["0.png", "0.png", "1.png", "2.png"], "holds '0.png', twice"),
        (["0.png", "../1.png"], r"holds '\.\./1\.png', which is of no image"),
        (["0.png", "1.png"], "has no image 2, but every image needs its own"),
        (["0.png", "broken"], r"1\.png is no PNG that can be read"),
        ([], "is no zip that can be read"),
        (["0.png", "bomb"], r"1\.png has 33554432 bytes, more than a PNG of its image"),
        (["0.png", "deflated"], "is no zip that can be read"),
        (["0.png", "lzma"], "is no zip that can be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_wrong_with_a_zip_is_told(written, tmp_path, entries, sentence):
    store = open_store(str(written["folder"]))
    path = tmp_path / "x.zip"
    if entries:
        png = cv2.imencode(".png", np.ones((48, 48), np.uint8))[1].tobytes()
        spoilt = {"broken": png[:40], "bomb": bytes(1 << 25), "deflated": png, "lzma": png}
        how = zipfile.ZIP_LZMA if "lzma" in entries else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", how) as opened:
            for entry in entries:
                opened.writestr("1.png" if entry in spoilt else entry, spoilt.get(entry, png))
        if entries[-1] in ("deflated", "lzma"):
            held = bytearray(path.read_bytes())
            held[45:75] = bytes(255 - byte for byte in held[45:75])
            path.write_bytes(held)
    else:
        path.write_bytes(b"PK\x03\x04")
    with pytest.raises(CompkitError, match=rf"x\.zip.*{sentence}"):
        form_of(store.competition).check(path, dict(store.shapes("test")), 255)


def mixed(folder: Path) -> Path:
    """Write images of several sizes, in grey of 16 bits and colours, with labels."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(20, 30), (33, 17), (20, 30), (64, 64)]):
        labels = np.zeros((height, width), np.uint16)
        labels[3:9, 4:11], labels[10:15, 2:12] = 70_000 % 65_536, 300
        for place, pixels in (
            ("images", rng.integers(0, 256, (height, width, 3), np.uint8)),
            ("labels", labels),
        ):
            (folder / place).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / place / f"cell_{number}.png"), pixels)
    (folder / "test").mkdir()
    tifffile.imwrite(folder / "test" / "x.tif", rng.integers(0, 256, (9, 8), np.uint8))
    return folder


def test_images_of_several_sizes_and_in_colours(tmp_path):
    store = open_store(str(mixed(tmp_path / "data")))
    assert isinstance(store.images, Ragged)
    assert store.pixels.channels == 3
    assert [image.shape for image in store.images] == [
        (20, 30, 3), (33, 17, 3), (20, 30, 3), (64, 64, 3)]  # fmt: skip
    assert store.test_images.shape == (1, 9, 8, 3)
    assert [int(labels.max()) for labels in store.labels] == [4464] * 4
    read = cv2.imread(str(tmp_path / "data/images/cell_1.png"))[..., ::-1]
    np.testing.assert_array_equal(store.images[1], read)
    again = open_store(str(tmp_path / "data"))
    assert (again.content, again.test_content) == (store.content, store.test_content)
    assert store.size == 31
    (tmp_path / "data/labels/cell_0.png").unlink()
    assert open_store(str(tmp_path / "data")).labelled.tolist() == [1, 2, 3]


WRONG = {
    "no such labels": (lambda d: (d / "labels/other.png").write_bytes(b""), "of 'other', of which"),
    "two of a name": (
        lambda d: tifffile.imwrite(d / "images/cell_1.tif", np.zeros((3, 3), np.uint8)),
        r"cell_1\.png and .*cell_1\.tif are both the image 'cell_1'",
    ),
    "another size": (
        lambda d: cv2.imwrite(str(d / "labels/cell_1.png"), np.ones((4, 5), np.uint8)),
        r"cell_1\.png is 5×4, but its image 17×33",
    ),
    "16 bits among 8": (
        lambda d: cv2.imwrite(str(d / "images/cell_2.png"), np.ones((20, 30, 3), np.uint16)),
        r"train image cell_2 uint16 .*where uint8 \(H, W, 3\), as other images are.* in .*/data$",
    ),
    "several in one": (
        lambda d: (d / "labels/cell_1.png").rename(d / "x") and np.save(
            d / "labels/cell_1.npy", np.ones((2, 33, 17), int)),
        r"cell_1\.npy holds 2 images: save each as a file of its own",
    ),
    "no text": (
        lambda d: (d / "images/cell_1.png").rename(d / "images/\udcff.png"),
        r"names of train images '\\udcff', where names that all systems take",
    ),
    "damaged": (
        lambda d: (d / "images/cell_2.png").write_bytes(b"\x89PNG\r\n\x1a\n1234"),
        r"cell_2\.png cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_folder_is_told(tmp_path, case):
    folder, (spoil, sentence) = mixed(tmp_path / "data"), WRONG[case]
    spoil(folder)
    with pytest.raises(CompkitError, match=sentence):
        open_store(str(folder))
    assert not list(tmp_path.rglob("store.json"))


@pytest.mark.slow
def test_from_images_of_several_sizes_to_a_submission(tmp_path, monkeypatch, capsys):
    """Sixteen bits and colours likewise: the networks' pixels are those of the store."""
    monkeypatch.chdir(tmp_path)
    data = str(mixed(tmp_path / "data"))
    settings = (
        "--encoders=[plain_unet16] --head=boundary --folds.k=2 --input.batch=2 "
        "--training.steps=2 --training.steps_per_epoch=1 --training.warmup=0 --machine.device=cpu"
    )
    train = ["train", "--data", data, "--run", "a", *settings.split()]
    assert main(train) == 2
    assert "give input.crop, for instance 17, the smallest side" in capsys.readouterr().err
    assert not Path("runs/a").exists()  # a run has its settings for good
    one = "phantom:size=32,labelled=4,unlabelled=1,test=1"
    assert main([*train[:1], "--data", one, *train[3:], "--input.crop", "40"]) == 2
    assert "input.crop is 40, but the images are 32 pixels wide" in capsys.readouterr().err
    assert not Path("runs/a").exists()
    assert main([*train, "--input.crop", "16"]) == 0
    assert "average_precision" in capsys.readouterr().out
    assert main(["submit", "--run", "a", "--out", "x.csv"]) == 2
    assert "give it a name ending in .zip" in capsys.readouterr().err
    assert main(["submit", "--run", "a", "--out", "x.zip"]) == 0
    assert main(["check", "x.zip", "--data", data]) == 0
    assert main(["oof", "--run", "a", "--out", "oof.zip"]) == 0
    capsys.readouterr()
    assert main(["score", "oof.zip", "--truth", "oof.zip", "--data", data]) == 0
    assert main(["predict", "--run", "a", "--images", "data/images", "--out", "labels"]) == 0
    assert cv2.imread("labels/cell_1.png", cv2.IMREAD_UNCHANGED).shape == (33, 17)
    model = compkit.load("a")
    store = open_store(data)
    image = store.test_images[0]
    with zipfile.ZipFile("x.zip") as opened:
        told = cv2.imdecode(np.frombuffer(opened.read("x.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(numbered(model.predict(image)), numbered(told))
    alone = tmp_path / "alone"
    shutil.copytree(f"{data}/test", alone / "test")
    (alone / "competition.yaml").write_text("name: t\nimages: {test: 'test/{name}.*'}\n")
    submit = ["submit", "--run", "a", "--data", str(alone), "--out"]
    assert main([*submit, "alone.zip"]) == 0  # in the form of what was trained on
    assert Path("alone.zip").read_bytes() == Path("x.zip").read_bytes()
    tifffile.imwrite(alone / "test/x.tif", np.zeros((9, 8), np.uint16))
    capsys.readouterr()
    assert main([*submit, "deep.zip"]) == 2
    assert "the test image x holds uint16, but networks have learnt" in capsys.readouterr().err


OWN = """
name: mine
images: {{train: "a/*/{{name}}.png", test: "t/{{name}}.png"}}
labels: {{{labels}}}
ranking: panoptic_quality
groups: who.csv
submission: {{form: run_lengths, run_lengths: {{image: id, runs: rle, down: false, first: 0}}}}
"""


def test_the_competition_of_the_docs_is_one(tmp_path):
    text = (Path(__file__).parents[1] / "docs/data.md").read_text()
    (tmp_path / "c.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    layout = read_layout(tmp_path / "c.yaml")
    assert (layout.ranking, layout.labels.form, layout.submission.form) == (
        "panoptic_quality", "masks", "run_lengths")  # fmt: skip


LAYOUT = {
    "key": ("images: {trian: x}", r"images\.trian: there is no such key .did you mean 'train'"),
    "deep": (
        "images: {train: x}\nsubmission: {run_lengths: {zzz: 1}}",
        r"submission\.run_lengths\.zzz: there is no such key; there are image, runs, down",
    ),
    "top": ("images: {train: x}\nrankin: v_rand", "rankin: .*did you mean 'ranking'"),
    "outside": ("images: {train: ../x}", r"images\.train is '\.\./x', which leaves the folder"),
    "absolute": ("images: {train: /x}", r"images\.train is '/x', which leaves"),
    "two forms": ("images: {train: x}\nlabels: {coco: a, pixels: b}", "but coco, pixels given"),
    "no form": ("images: {train: x}\nlabels: {}", "but none given"),
    "a word": ("images: {train: x}\nmax_label: many", "max_label"),
    "images": ("images: {train: x}\nlabels: {images: x}", "labels and images.train are both 'x'"),
    "below 0": ("images: {train: x}\nlabels: {coco: a, ignored: -1}", "ignored: .* than or equal"),
    "no YAML": ("images: {", "is not valid YAML"),
    "no images": ("ranking: v_rand", "images"),
    "annotators of masks": (
        "images: {train: x}\nlabels: {masks: 'a/{name}/{annotator}/*.png'}",
        r"\{annotator\} stands in labels\.masks, but only labels\.images may have it",
    ),
    "annotators alone": (
        "images: {train: x}\nlabels: {images: '{annotator}.png'}",
        r"may have it, beside \{name\}",
    ),
}


@pytest.mark.parametrize("case", LAYOUT)
def test_what_is_wrong_with_a_competition_file_is_told(tmp_path, case):
    text, sentence = LAYOUT[case]
    (tmp_path / "c.yaml").write_text(f"name: x\n{text}\n")
    with pytest.raises(CompkitError, match=rf"c\.yaml.*{sentence}"):
        read_layout(tmp_path / "c.yaml")


def test_stars_are_of_one_folder_however_many(tmp_path):
    place(tmp_path, "x/bb.png", "bb.png", "x/y/bb.png")
    found = files_by_name(tmp_path, "**/{name}{name}.png")
    assert found == {"b": [tmp_path / "x/bb.png"]}


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((8, 8), np.uint8)
        pixels[2:5, 2:6] = 7
        cv2.imwrite(str(folder / name), pixels)


GUESSES = {
    "two folders": (
        [*(f"raw/s{i}.png" for i in range(3)), *(f"gt_masks/s{i}.png" for i in range(3))],
        ("raw/{name}.png", None, "images", "gt_masks/{name}.png"),
    ),
    "endings": (
        [f"all/plant{i}_{kind}.png" for i in range(3) for kind in ("rgb", "label")],
        ("all/{name}_rgb.png", None, "images", "all/{name}_label.png"),
    ),
    "a folder an image": (
        [f"{split}/p{i}/{file}" for split in ("train", "test") for i in range(3)
         for file in ("image.png", *(f"masks/{i}{j}.png" for j in range(2) if split == "train"))],
        ("train/{name}/image.png", "test/{name}/image.png", "masks", "train/{name}/masks/*.png"),
    ),
    "no labels": (["x/a.png", "x/b.jpg"], ("x/{name}.*", None, None, None)),
    "brackets": (["x [1]?/a.png", "x [1]?/b.png"], ("x [1]?/{name}.png", None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("case", GUESSES)
def test_a_first_competition_file_is_written(tmp_path, case, capsys):
    names, (train, test, form, pattern) = GUESSES[case]
    folder = tmp_path / "data"
    place(folder, *names)
    assert main(["data", "init", "--data", str(folder)]) == 0
    assert "correct it where that is wrong" in capsys.readouterr().err
    layout = read_layout(folder / "competition.yaml")
    assert (layout.images.train, layout.images.test) == (train, test)
    store = open_store(str(folder))
    if form is None:
        assert layout.labels is None
        assert len(store.train) == len(names)
        return
    assert (layout.labels.form, getattr(layout.labels, form)) == (form, pattern)
    assert len(store.labelled) == 3
    assert store.competition.name == "own"
    assert main(["data", "init", "--data", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_run_lengths_are_labels_or_a_sample_by_the_images_that_they_are_of(tmp_path):
    folder = tmp_path / "data"
    place(folder, *(f"train_imgs/a{i}.png" for i in range(2)), "test_imgs/t0.png")
    (folder / "train.csv").write_text("ImageId,EncodedPixels\na0,1 2\na1,\n")
    (folder / "sample_submission.csv").write_text("ImageId,EncodedPixels\nt0,1 1\n")
    (folder / "a_big_field.csv").write_text(f"ImageId,EncodedPixels\nb,{'9' * 200_000}\n")
    assert main(["data", "init", "--data", str(folder)]) == 0
    layout = read_layout(folder / "competition.yaml")
    assert layout.labels.run_lengths.file == "train.csv"
    assert (layout.submission.form, layout.submission.sample) == (
        "run_lengths", "sample_submission.csv")  # fmt: skip
    store = open_store(str(folder))
    assert (store.labelled.tolist(), store.test) == ([0, 1], ("t0",))


def test_a_competition_file_of_stacks_is_written(written, tmp_path):
    for name in ("train-volume", "train-labels", "test-volume", "test-labels"):
        copy = tmp_path / f"{name.replace('volume', 'em')}.tif"
        shutil.copy(written["isbi2012"] / f"{name}.tif", copy)
    assert main(["data", "init", "--data", str(tmp_path)]) == 0
    found, wanted = open_store(str(tmp_path)), open_store(str(written["isbi2012"]))
    assert found.content == wanted.content
    assert found.test_content == wanted.test_content
    assert found.competition.rules == wanted.competition.rules
    assert found.competition.submission.form == "membranes"


def annotated(folder: Path, seed: int) -> list[np.ndarray]:
    """Write images of two sizes, and labels of one to three annotators; return these, in order."""
    rng = np.random.default_rng(seed)
    truths = []
    for number, count in enumerate((1, 2, 3, 3)):
        shape = (16, 12) if number == 3 else (12, 16)
        maps = rng.integers(1, 4, (count, *shape), np.uint8)
        if count == 3:  # the second agrees with both others, and these not with one another
            maps[1] = np.where(np.arange(shape[1]) < 6, maps[0], maps[2])
        truths.append(maps)
        for annotator, labels in enumerate(maps):
            path = folder / f"gt/s{number}/{'abc'[annotator]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), labels)
        for place in ("raw", "test"):
            (folder / place).mkdir(exist_ok=True)
            grey = rng.integers(0, 256, shape, np.uint8)
            cv2.imwrite(str(folder / place / f"s{number}.png"), grey)
    return truths


def test_of_several_annotators_one_is_learned_from_and_all_score(tmp_path, capsys):
    data = tmp_path / "data"
    truths = annotated(data, 0)
    assert main(["data", "init", "--data", str(data)]) == 0
    assert "gt/{name}/{annotator}.png" in (data / "competition.yaml").read_text()
    store = open_store(str(data))
    assert "3 images have several annotators: training learns" in capsys.readouterr().err
    for index, maps in enumerate(truths):
        best = {1: 0, 2: 0, 3: 1}[len(maps)]
        np.testing.assert_array_equal(store.labels_of(index), maps[best])
        kept = pickle.loads(pickle.dumps(store)).truth_of(index)
        np.testing.assert_array_equal(kept, [maps[best], *maps[:best], *maps[best + 1 :]])
    # Another annotation that nothing is learned from changes what the data are.
    last = data / "gt/s3/a.png"
    cv2.imwrite(str(last), 4 - cv2.imread(str(last), cv2.IMREAD_UNCHANGED))
    changed = open_store(str(data))
    assert changed.content != store.content
    (changed.directory / "annotations.npy").write_bytes(b"x")
    with pytest.raises(CompkitError, match=r"annotations\.npy is damaged .*: delete"):
        open_store(str(data))
    own = data / "competition.yaml"
    own.write_text(own.read_text().replace("gt/{name}/{ann", "gt/{name}/x{ann"))
    with pytest.raises(CompkitError, match=r"has no image gt/.* .labels\.images.: correct the pat"):
        open_store(str(data))
    own.write_text(own.read_text().replace("x{ann", "{ann"))
    place = tmp_path / "sole"
    shutil.copytree(data, place)
    for path in [*place.glob("gt/*/[bc]*.png")]:
        path.unlink()
    assert open_store(str(place)).annotations is None


def test_a_watershed_is_tuned_for_all_annotators(tmp_path, capsys):
    truths = annotated(tmp_path / "data", 1)
    assert main(["data", "init", "--data", str(tmp_path / "data")]) == 0
    out = tmp_path / "w.zip"
    words = ["baseline", "watershed", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main([*words, "--tune"]) == 0
    kept = json.loads(out.with_suffix(".json").read_text())
    store = open_store(str(tmp_path / "data"))
    defaults = [watershed(as_grey(image), WatershedParams()) for image in store.images]
    wanted = np.mean([
        np.mean([image_score(one, found, "average_precision") for one in maps])
        for maps, found in zip(truths, defaults, strict=True)])  # fmt: skip
    assert kept["out_of_fold"]["default_scores"]["average_precision"] == pytest.approx(wanted)
    # Files of several annotators, each of the images that it holds.
    form = LabelImages()
    names = [name for name, _ in store.shapes("train")]
    form.fill(tmp_path / "p.zip", names, defaults, 65535, tmp_path / "p.zip")
    given = []
    for number in range(3):
        held = [i for i, maps in enumerate(truths) if number < len(maps)]
        path = tmp_path / f"t{number}.zip"
        form.fill(path, [names[i] for i in held], [truths[i][number] for i in held], 65535, path)
        given += ["--truth", str(path)]
    capsys.readouterr()
    score = ["score", str(tmp_path / "p.zip"), *given, "--data", str(tmp_path / "data"), "--json"]
    assert main(score) == 0
    means = json.loads(capsys.readouterr().out)["means"]
    assert means["average_precision"] == pytest.approx(wanted)


def test_a_competition_says_which_metrics_are_told(tmp_path, capsys):
    annotated(tmp_path, 2)
    assert main(["data", "init", "--data", str(tmp_path)]) == 0
    own, out = tmp_path / "competition.yaml", tmp_path / "w.zip"
    text = own.read_text()
    words = ["baseline", "watershed", "--data", str(tmp_path), "--out", str(out), "--tune"]
    own.write_text(text + "metrics: [v_info, v_rnad]\n")
    assert main(words) == 2
    assert "there is no metric 'v_rnad' (did you mean 'v_rand'?" in capsys.readouterr().err
    shown, kept = [], []
    for metrics in ("", "metrics: [v_info, average_precision]\n"):
        own.write_text(text + metrics)
        assert main(words) == 0
        kept.append(json.loads(out.with_suffix(".json").read_text())["out_of_fold"])
        shown.append(capsys.readouterr().out)
        assert main(["score", str(out), "--truth", str(out), "--data", str(tmp_path)]) == 0
        shown.append(capsys.readouterr().out)
    told = [(one.count("v_info"), one.count("adjusted_all")) for one in shown]
    assert told == [(0, 1), (0, 1), (1, 0), (1, 0)]
    assert all("average_precision" in one for one in shown)
    # What is told changes neither what is tuned nor what the ledger keeps.
    assert kept[1]["scores"].pop("v_info") >= 0
    assert kept[1]["scores"] == kept[0]["scores"]
    assert kept[1]["fold_params"] == kept[0]["fold_params"]
    own.write_text(text + "metrics: []\n")
    assert main(["score", str(out), "--truth", str(out), "--data", str(tmp_path), "--json"]) == 0
    assert {"average_precision", *METRICS} <= json.loads(capsys.readouterr().out)["means"].keys()


def test_what_lies_beside_images_is_passed_over_and_names_that_are_no_text_told(tmp_path, capsys):
    folder = tmp_path / "data"
    place(folder, "a\nb/0.png", "a\nb/1.png")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "x.csv").write_text("rle,rle\n1,2\n")
    for name in ("y.csv", "y.json"):
        (folder / name).mkdir()
    assert main(["data", "init", "--data", str(folder)]) == 0
    assert read_layout(folder / "competition.yaml").images.train == "a\nb/{name}.png"
    (folder / "competition.yaml").unlink()
    (folder / "a\nb").rename(folder / "\udcff")
    assert main(["data", "init", "--data", str(folder)]) == 2
    assert "is no text in UTF-8" in capsys.readouterr().err
    assert not (folder / "competition.yaml").exists()


def test_a_competition_file_may_lie_elsewhere(tmp_path, capsys):
    folder, own = tmp_path / "data", tmp_path / "mine" / "my.yaml"
    place(folder, *(f"{kind}/s{i}.png" for i in range(4) for kind in ("raw", "gt_masks")))
    init = ["data", "init", "--data", str(folder), "--out"]
    assert main([*init, str(tmp_path / "my.txt")]) == 2
    assert main([*init, str(own)]) == 0
    assert f"compkit data describe --data {own}" in capsys.readouterr().err
    assert main([*init, str(own)]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["gt_masks", "raw"]
    store = open_store(str(own))
    assert (store.competition.name, len(store.labelled)) == ("own", 4)
    assert main(["data", "describe", "--data", str(own)]) == 0
    shutil.copy(own, folder / "competition.yaml")
    with pytest.raises(CompkitError, match="folder is of a file that lies elsewhere"):
        open_store(str(folder))
    own.write_text(own.read_text().replace(str(folder), "nowhere"))
    with pytest.raises(CompkitError, match=r"there is no folder .*nowhere: correct folder"):
        open_store(str(own))
    own.write_text(own.read_text().replace("nowhere", "../data"))
    assert open_store(str(own)).content == store.content


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_test_may_lie_alone(written, layout, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(written[layout], folder)
    whole = open_store(str(folder))
    if layout in ("folder", "coco"):  # which nothing but the labels tells apart
        assert main(["data", "init", "--data", str(folder)]) == 0
    tests = {"raidium": "X_test", "dsb2018": "stage1_test", "isbi2012": "test-volume.tif"}
    kept = {tests.get(layout, "test"), "competition.yaml"}
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    alone = open_store(str(folder))
    assert (alone.train, alone.test_content) == ((), whole.test_content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_known_is_written_out(written, layout, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(written[layout], folder)
    store = open_store(str(folder))
    assert main(["data", "init", "--data", str(folder)]) == 0
    again = open_store(str(folder))
    assert again.competition.name == "own"
    assert (again.content, again.test_content) == (store.content, store.test_content)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no CSV"),
        ("Image,EncodedPixels\n0,\n", "has no column ImageId"),
        ('ImageId,EncodedPixels\n"0,\n', "is no CSV"),
        ("ImageId,EncodedPixels\n0,\n", "lacks the image '1'"),
    ],
)
def test_what_is_wrong_with_a_sample_is_told(written, tmp_path, text, sentence):
    folder = shutil.copytree(written["dsb2018"], tmp_path / "data")
    (folder / "stage1_sample_submission.csv").write_text(text)
    with pytest.raises(CompkitError, match=rf"stage1_sample_submission\.csv {sentence}"):
        open_store(str(folder))


def test_a_sample_that_a_yaml_of_ones_own_names_is_wanted(written, tmp_path):
    folder, own = written["dsb2018"], tmp_path / "own.yaml"
    assert main(["data", "init", "--data", str(folder), "--out", str(own)]) == 0
    layout = read_layout(own)
    assert layout.submission.sample is None  # the phantom writes none
    own.write_text(
        own.read_text().replace("form: run_lengths", "form: run_lengths\n  sample: x.csv")
    )
    with pytest.raises(
        CompkitError, match=r"no sample submission .*x\.csv: put it there, or remove"
    ):
        open_store(str(own))


def test_a_competition_of_ones_own(tmp_path, capsys):
    folder = tmp_path / "data"
    for place, count in (("a/x", 4), ("t", 2)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / place / f"s{number}.png"), np.eye(8, dtype=np.uint8) * number)
    (folder / "who.csv").write_text("image,patient\ns0,ann\ns1,ann\ns2,ben\ns3,cy\n")
    runs = "run_lengths: {file: y.csv, image: id, runs: rle, down: false, first: 0}"
    (folder / "competition.yaml").write_text(OWN.format(labels=runs))
    (folder / "y.csv").write_text("id,rle\ns0,0 3\ns0,2 4\ns1,\ns2,8 2\n")
    baseline = ["baseline", "watershed", "--data", str(folder), "--out", str(tmp_path / "w.csv")]
    layout = (folder / "competition.yaml").read_text()
    (folder / "competition.yaml").write_text(layout.replace("form: run_lengths", "form: pixels"))
    assert main(baseline) == 2
    assert "'s0' is no such name: give competition.yaml" in capsys.readouterr().err
    (folder / "competition.yaml").write_text(layout)
    assert main(baseline) == 0
    assert "1 images have pixels of several regions" in capsys.readouterr().err
    store = open_store(str(folder))
    assert (store.competition.name, store.competition.rules.ranking) == ("own", "panoptic_quality")
    assert store.labelled.tolist() == [0, 1, 2]
    assert store.labels_of(0)[0].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]
    folds = make_folds(store, 2)
    assert folds.fold[0] == folds.fold[1]
    with (folder / "y.csv").open() as file:
        assert len(list(csv.reader(file))) == 5
    shutil.rmtree(folder / "t")
    assert main(baseline) == 2
    assert "there is no test image to be submitted" in capsys.readouterr().err
    layout = layout.replace("who.csv", "{file: y.csv, image: ID, group: Body}")
    (folder / "competition.yaml").write_text(layout)
    (folder / "y.csv").write_text("id,rle,Body\ns0,0 3,1\ns0,2 4,1\ns1,,2\ns2,8 2,1\n")
    folds = make_folds(open_store(str(folder)), 2)
    assert folds.fold[0] == folds.fold[2] != folds.fold[1]
    (folder / "competition.yaml").write_text(layout.replace("Body", "patient"))
    with pytest.raises(CompkitError, match=r"must have one column 'patient' beside 'id'"):
        make_folds(open_store(str(folder)), 2)
    (folder / "competition.yaml").write_text(
        layout.replace("{file: y.csv, image: ID, group: Body}", "who.csv")
    )
    (folder / "who.csv").rename(folder / "whom.csv")
    with pytest.raises(
        CompkitError, match=r"who\.csv: put it there, or correct groups in its YAML"
    ):
        open_store(str(folder))


def read_back(labels: list[np.ndarray], path: Path, bits: int = 8) -> list[np.ndarray]:
    form, shapes = Membranes(bits), {str(i): each.shape for i, each in enumerate(labels)}
    form.fill(path, list(shapes), labels, 65535, path)
    return list(form.check(path, shapes, 65535).values())


@pytest.mark.parametrize("bits", [8, 32])
def test_membranes_give_regions_back_but_for_a_line_between_them(tmp_path, bits):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 4, (9, 13)).astype(np.uint16) for _ in range(20)]
    rows, columns = np.indices((40, 40))
    cells = []  # Voronoi's, of seeds in a grid: none of them is thin, and all touch
    for _ in range(5):
        y, x = (np.indices((4, 4)) * 10 + rng.integers(3, 8, (2, 4, 4))).reshape(2, 16, 1, 1)
        cells.append(((rows - y) ** 2 + (columns - x) ** 2).argmin(axis=0).astype(np.uint16) + 1)
    drawn = [numbered(each).astype(np.uint16) for each in SOURCE.draw("test")]
    for labels in [*noise, *cells, *drawn]:
        (found,) = read_back([labels], tmp_path / "x.tif", bits)
        # Each part lies in one region, and what is lost lies beside a region that is no larger.
        kept = found > 0
        assert all(len(np.unique(labels[found == part])) == 1 for part in np.unique(found[kept]))
        assert (labels[kept] > 0).all()
        areas = np.where(labels, np.bincount(labels.ravel())[labels], labels.size + 1)
        for row, column in np.argwhere((labels > 0) & ~kept):
            window = np.s_[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            others = areas[window][(labels[window] != labels[row, column])]
            assert others.min() <= areas[row, column]
        # So a second time nothing is lost.
        np.testing.assert_array_equal(read_back([found], tmp_path / "x.tif", bits)[0], found)
    for labels, found in zip(cells, read_back(cells, tmp_path / "x.tif", bits), strict=True):
        np.testing.assert_array_equal(numbered(np.where(found, labels, 0)), numbered(found))
        assert found.max() == labels.max() == 16
    pages = tifffile.imread(tmp_path / "x.tif", key=slice(None))
    assert set(np.unique(pages)) == {0, 255 if bits == 8 else 1}
    assert pages.dtype == (np.uint8 if bits == 8 else np.float32)


@pytest.mark.parametrize(
    ("pages", "sentence"),
    [
        ([np.zeros((48, 48))] * 2, "has 2 pages, but of 3 images each needs its own"),
        ([np.zeros((48, 47))] * 3, "page 0 is 47×48, but the image 0 48×48"),
        ([np.zeros((48, 48)), np.ones((48, 48)), np.full((48, 48), 2)], "page 2.* are 1 and 2"),
        ([np.full((48, 48), 0.5)] * 3, "holds fractions"),
        ([], "cannot be read as"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_stack_of_membranes_is_told(written, tmp_path, pages, sentence):
    path, store = tmp_path / "x.tif", open_store(str(written["isbi2012"]))
    path.write_bytes(b"II*\0")
    if pages:
        tifffile.imwrite(path, np.stack(pages).astype(np.float32), photometric="minisblack")
    with pytest.raises(CompkitError, match=rf"x\.tif.*{sentence}"):
        form_of(store.competition).check(path, dict(store.shapes("test")), 255)


def test_a_wrong_ending_is_refused_before_data_are_read(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(baselines, "open_store", None)
    monkeypatch.setattr(job, "test_shapes", None)
    out = ["--data", str(written["isbi2012"]), "--out", str(tmp_path / "w.csv")]
    for words in (["baseline", "watershed"], ["blend", "a.tif", "b.tif"]):
        assert main([*words, *out]) == 2
        assert (
            "w.csv becomes a submission: give it a name ending in .tif" in capsys.readouterr().err
        )


def test_stacks_of_membranes_are_submitted_checked_scored_and_blended(written, tmp_path):
    data, out = str(written["isbi2012"]), tmp_path / "w.tif"
    truth = str(written["isbi2012"] / TRUTH["isbi2012"])
    baseline = ["baseline", "watershed", "--data", data, "--out"]
    assert main([*baseline, str(out)]) == 0
    assert main(["check", str(out), "--data", data]) == 0
    assert main(["score", str(out), truth, "--truth", truth, "--data", data]) == 0
    blend = ["blend", str(out), truth, "--out", str(tmp_path / "b.tif"), "--data", data]
    assert main([*blend, "--weights", "1", "3"]) == 0
    form, shapes = Membranes(8), dict(open_store(data).shapes("test"))
    wanted, found = (form.read(p, shapes, 255) for p in (Path(truth), tmp_path / "b.tif"))
    for name in shapes:
        np.testing.assert_array_equal(found[name] > 0, wanted[name] > 0)
