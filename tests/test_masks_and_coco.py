"""Masks and COCO files: what they hold, and what is wrong with them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from compkit.errors import CompkitError
from compkit.labels.coco import read_coco
from compkit.labels.masks import read_masks

LABELS = np.zeros((8, 10), np.uint8)
LABELS[1:4, 2:7], LABELS[5:8, 4:9] = 1, 2


def test_masks_are_regions_in_the_order_of_their_names(tmp_path):
    for number, name in ((1, "a"), (2, "b")):
        cv2.imwrite(str(tmp_path / f"{name}.png"), (number == LABELS) * 255)
    paths = [tmp_path / "b.png", tmp_path / "a.png"]
    np.testing.assert_array_equal(read_masks(paths, LABELS.shape).labels, LABELS)
    with pytest.raises(CompkitError, match=r"a\.png is 10×8, but its image 8×10"):
        read_masks(paths, (10, 8))
    cv2.imwrite(str(tmp_path / "c.png"), LABELS * 0)
    with pytest.raises(CompkitError, match=r"c\.png is black all over"):
        read_masks([*paths, tmp_path / "c.png"], LABELS.shape)


def rle(number: int) -> dict:
    runs = coco_mask.encode(np.asfortranarray(number == LABELS).astype(np.uint8))
    return runs | {"counts": runs["counts"].decode()}


def counts(number: int) -> dict:
    flat = (number == LABELS).T.ravel()
    ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True)) + 1
    runs = np.diff(np.append(0, ends)).tolist()
    return {"size": [8, 10], "counts": runs if not flat[0] else [0, *runs]}


def square(number: int) -> list:
    rows, columns = np.nonzero(number == LABELS)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return [[float(v) for v in (left, top, right, top, right, bottom, left, bottom)]]


def written(folder: Path, segmentations: list, **changes) -> Path:
    image = {"id": 7, "file_name": "images/a.png", "height": 8, "width": 10}
    found = {
        "images": [image, {"id": 8, "file_name": "b.png"}, {"id": 9, "file_name": "other.png"}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": n, "segmentation": one}
            for n, one in enumerate(segmentations)
        ],
        "categories": [],
    }
    path = folder / "x.json"
    path.write_text(json.dumps(found | changes))
    return path


@pytest.mark.parametrize("kind", [rle, counts, square])
def test_every_kind_of_segmentation(tmp_path, kind, capsys):
    path = written(tmp_path, [kind(1), kind(2)])
    found = read_coco(path, {"a": LABELS.shape, "b.png": (3, 3), "unlisted": (2, 2)})
    assert list(found) == ["a", "b.png"]
    assert "1 of its 3 images are not there" in capsys.readouterr().err
    np.testing.assert_array_equal(found["a"].labels, LABELS)
    assert not found["b.png"].labels.any()


def test_crowds_are_taken_for_regions_and_told(tmp_path, capsys):
    path = written(tmp_path, [rle(1), rle(2)])
    found = json.loads(path.read_text())
    found["annotations"][0]["iscrowd"], found["annotations"][1]["iscrowd"] = None, True
    path.write_text(json.dumps(found))
    np.testing.assert_array_equal(read_coco(path, {"a": LABELS.shape})["a"].labels, LABELS)
    assert "1 annotation(s) are of crowds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        ([], "three points or more"),
        ([[1, 2, 3, 4]], "three points or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three points or more"),
        ({"size": [10, 8], "counts": [80]}, r"its size is \[10, 8\]"),
        ({"size": [8, 10], "counts": [79]}, "its counts are of 79 pixels"),
        ({"size": [8, 10], "counts": [100, -20]}, "its counts are of 80 pixels"),
        ({"size": [8, 10], "counts": [80]}, "without any pixel"),
        ({"counts": [80]}, "size"),
        ({"size": [8, 10], "counts": "000"}, "fewer pixels|without any pixel"),
        ({"size": [8, 10], "counts": "ÿÿÿÿ"}, "Invalid RLE"),
        ([[50.0, 50, 60, 50, 60, 60]], "without any pixel"),
        ([[0, 0, 1e12, 0, 1e12, 1e12]], r"1e\+12 lies outside of any image"),
        ({"size": [8, 10], "counts": [0.5, 79.5]}, "its counts are of 80"),
    ],
)
def test_a_wrong_segmentation_is_told(tmp_path, segmentation, sentence):
    path = written(tmp_path, [rle(1), segmentation])
    with pytest.raises(CompkitError, match=rf"x\.json, annotation 1 .*{sentence}"):
        read_coco(path, {"a": LABELS.shape})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotations": [{"image_id": 1}]}, "annotation 0: there is no image 1"),
        ({"annotations": {}}, r"is no COCO file \(annotations"),
        ({"images": [{"id": 7, "file_name": n} for n in "ab"]}, "has two images 7: give each"),
        (
            {"images": [{"id": n, "file_name": f"{n}/a.png"} for n in (7, 8)]},
            "lists the image 'a' twice",
        ),
        ({"images": [{"id": 7}]}, r"is no COCO file \(images\.0\.file_name"),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 10, "width": 8}]},
            "says that 'a.png' is 8×10, but it is 10×8",
        ),
    ],
)
def test_a_wrong_file_is_told(tmp_path, changes, sentence):
    path = written(tmp_path, [], **changes)
    with pytest.raises(CompkitError, match=sentence):
        read_coco(path, {"a": LABELS.shape})
    path.write_text('{"images": []}')
    with pytest.raises(CompkitError, match="it has no list of annotations"):
        read_coco(path, {"a": LABELS.shape})
    path.write_text('{"images": [')
    with pytest.raises(CompkitError, match="is no JSON"):
        read_coco(path, {"a": LABELS.shape})
