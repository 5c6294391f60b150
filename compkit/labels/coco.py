"""Regions in COCO's JSON: polygons and run lengths, of whatever category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from compkit.errors import CompkitError, brief
from compkit.inputs import parse_json, read_text
from compkit.labels.paint import Painted, paint
from compkit.labels.run_lengths import Shapes
from compkit.progress import say
from compkit.schema import checked

#: Coordinates beyond are of no image; at larger ones pycocotools ends the process.
_FAR = 1_000_000


@dataclass(frozen=True)
class _Image:
    id: int
    file_name: str
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class _Annotation:
    image_id: int
    segmentation: list[list[float]] | dict[str, Any] = field(default_factory=list)
    iscrowd: int | bool | None = 0


@dataclass(frozen=True)
class _Coco:
    images: list[_Image]
    annotations: list[_Annotation]


def read_coco(path: Path, shapes: Shapes) -> dict[str, Painted]:
    """Read the label maps of all images of a COCO file.

    Parameters
    ----------
    path : Path
    shapes : mapping of str to tuple of int
        (H, W) of the images by name. An image is known by its file's name as a whole, without its
        folders, or without its ending.

    Returns
    -------
    dict of str to Painted
        Of the images that the file lists and `shapes` has; one without annotations has no region.

    Raises
    ------
    CompkitError
        Naming the file and the annotation that is wrong.
    """
    remedy = "correct it"
    try:
        values = parse_json(read_text(path, "COCO file"))
    except ValueError as error:
        raise CompkitError(f"{path} is no JSON ({error}): {remedy}") from None
    if not isinstance(values, dict) or "annotations" not in values:
        raise CompkitError(f"{path} is no COCO file: it has no list of annotations")
    found = checked(_Coco, values, str(path), remedy, "is no COCO file")
    names = _named(path, found.images, shapes)
    regions: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    known = {one.id for one in found.images}
    if strange := len(known) - len(names):
        say(f"{path}: {strange} of its {len(known)} images are not there, and are left out")
    if crowds := sum(bool(one.iscrowd) for one in found.annotations):
        say(f"{path}: {crowds} annotation(s) are of crowds (iscrowd): each is taken for one region")
    for number, one in enumerate(found.annotations):
        where = f"{path}, annotation {number}"
        if one.image_id not in known:
            raise CompkitError(f"{where}: there is no image {one.image_id} in the file: {remedy}")
        if (name := names.get(one.image_id)) is not None:
            regions[name].append(_pixels(one.segmentation, shapes[name], where))
    return {name: paint(shapes[name], each) for name, each in regions.items()}


def _named(path: Path, images: Sequence[_Image], shapes: Shapes) -> dict[int, str]:
    """Return the names of the images that `shapes` has, by their ids, each of which is of one."""
    names: dict[int, str] = {}
    ids, taken = set[int](), set[str]()
    for one in images:
        if one.id in ids:
            raise CompkitError(f"{path} has two images {one.id}: give each an id of its own")
        ids.add(one.id)
        place = PurePosixPath(one.file_name.replace("\\", "/"))
        ways = (one.file_name, place.name, place.stem)
        name = next((way for way in ways if way in shapes), None)
        if name is None:
            continue
        told = one.height, one.width
        if None not in told and told != shapes[name]:
            height, width = shapes[name]
            raise CompkitError(
                f"{path} says that {brief(one.file_name)} is {told[1]}×{told[0]}, but it is "
                f"{width}×{height}: correct the file, or the image"
            )
        if name in taken:
            raise CompkitError(f"{path} lists the image {brief(name)} twice: list it once")
        taken.add(name)
        names[one.id] = name
    return names


def _pixels(segmentation: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return the pixels of a region, int64 (N,), row by row."""
    try:
        fault = _fault(segmentation, shape)
        found = np.zeros(shape, np.uint8) if fault else _decoded(segmentation, shape)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        fault = str(error)
    if fault:
        raise CompkitError(
            f"{where} has no segmentation of its image ({fault}): correct or remove it"
        )
    if not len(pixels := np.flatnonzero(found)):
        raise CompkitError(f"{where} has a segmentation without any pixel: remove it")
    return pixels


def _fault(segmentation: Any, shape: tuple[int, int]) -> str:
    """Return what is wrong with a segmentation that pycocotools would take."""
    if not isinstance(segmentation, Mapping):
        whole = segmentation and all(len(one) >= 6 and not len(one) % 2 for one in segmentation)
        if not whole:
            return "a polygon is three points or more, x and y of each"
        far = max(map(abs, chain(*segmentation)))
        return f"{far:g} lies outside of any image" if far > _FAR else ""
    if list(segmentation["size"]) != list(shape):
        return f"its size is {segmentation['size']}, not {list(shape)}"
    counts = segmentation["counts"]
    whole = not isinstance(counts, list) or (
        sum(counts) == shape[0] * shape[1]
        and all(type(count) is int and count >= 0 for count in counts)
    )
    return "" if whole else f"its counts are of {sum(counts)} pixels"


def _decoded(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a segmentation, uint8 (H, W)."""
    runs = segmentation
    if not isinstance(runs, Mapping):
        runs = coco_mask.merge(coco_mask.frPyObjects(runs, *shape))
    elif isinstance(runs["counts"], list):
        runs = coco_mask.frPyObjects(dict(runs), *shape)
    found: np.ndarray = coco_mask.decode(runs)
    if found.sum() != coco_mask.area(runs):  # where counts end too early, the rest is left unset
        raise ValueError("its counts are of fewer pixels")
    return found
