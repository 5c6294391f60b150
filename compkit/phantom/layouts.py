"""A competition's images and labels, written in the layouts that compkit knows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from pycocotools import mask as coco_mask
from skimage.segmentation import find_boundaries

from compkit.competition.base import Split
from compkit.labels.run_lengths import RunLengths, write_runs

#: What the test's truth is called.
TRUTH = {
    "dsb2018": "solution.csv",
    "coco": "solution.csv",
    "folder": "solution.zip",
    "isbi2012": "test-labels.tif",
}

Images = Sequence[np.ndarray]


def write_dsb2018(folder: Path, split: Split, images: Images, labels: Images) -> None:
    """Write a folder an image, with a mask a region."""
    for number, (image, regions) in enumerate(zip(images, labels, strict=True)):
        place = folder / f"stage1_{split}" / str(number)
        _png(place / "images" / f"{number}.png", image)
        if split == "train":
            for region in np.unique(regions[regions > 0]):
                _png(place / "masks" / f"{region}.png", (regions == region) * np.uint8(255))
    if split == "test":
        write_runs(folder / TRUTH["dsb2018"], _names(images), labels, RunLengths())


def write_coco(folder: Path, split: Split, images: Images, labels: Images) -> None:
    """Write images, and the regions of the labelled ones as annotations."""
    _pngs(folder / ("images" if split == "train" else "test"), images)
    if split == "test":
        write_runs(folder / TRUTH["coco"], _names(images), labels, RunLengths())
        return
    listed, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, regions in enumerate(labels):
        if regions.any():
            height, width = regions.shape
            name = f"{number}.png"
            listed.append({"id": number, "file_name": name, "height": height, "width": width})
        for region in np.unique(regions[regions > 0]):
            runs = coco_mask.encode(np.asfortranarray(regions == region).astype(np.uint8))
            segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0,
                 "area": int((regions == region).sum()), "segmentation": segmentation}
            )  # fmt: skip
    found = {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "region"}],
    }
    (folder / "annotations.json").write_text(json.dumps(found))


def write_folder(folder: Path, split: Split, images: Images, labels: Images) -> None:
    """Write images and label images of the same names."""
    _pngs(folder / ("images" if split == "train" else "test"), images)
    if split == "train":
        for number, regions in enumerate(labels):
            if regions.any():
                _png(folder / "labels" / f"{number}.png", regions)
        return
    with zipfile.ZipFile(folder / TRUTH["folder"], "w") as opened:
        for number, regions in enumerate(labels):
            opened.writestr(f"{number}.png", cv2.imencode(".png", regions)[1].tobytes())


def write_isbi2012(folder: Path, split: Split, images: Images, labels: Images) -> None:
    """Write stacks: of labels, 255 within regions, and 0 outside and between them."""
    tifffile.imwrite(folder / f"{split}-volume.tif", np.stack(images), photometric="minisblack")
    inside = [(each > 0) & ~find_boundaries(each, mode="inner") for each in labels]
    stack = np.stack(inside) * np.uint8(255)
    name = "train-labels.tif" if split == "train" else TRUTH["isbi2012"]
    tifffile.imwrite(folder / name, stack, photometric="minisblack")


#: What writes a split in each layout.
LAYOUTS: dict[str, Callable[[Path, Split, Images, Images], None]] = {
    "dsb2018": write_dsb2018,
    "isbi2012": write_isbi2012,
    "folder": write_folder,
    "coco": write_coco,
}


def _names(images: Images) -> list[str]:
    return [str(number) for number in range(len(images))]


def _pngs(folder: Path, images: Images) -> None:
    for number, image in enumerate(images):
        _png(folder / f"{number}.png", image)


def _png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
