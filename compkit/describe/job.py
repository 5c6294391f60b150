"""All of `compkit data describe`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from compkit.data.arrays import shapes_of, values_of
from compkit.data.store import Store, open_store
from compkit.describe.statistics import LARGE, SMALL, Regions, measure, summarise
from compkit.display import print_table
from compkit.errors import CompkitError
from compkit.files import read_json, require_writable, write_json
from compkit.folds.duplicates import find_duplicates
from compkit.parallel import each_image
from compkit.progress import say

#: Slices in the gallery, at most.
_GALLERY = 12

#: What is written.
_PICTURES, _NUMBERS = ("statistics.png", "gallery.png"), "describe.json"


def describe(data: str, out: Path | None = None) -> None:
    """Print what the data are like, and write numbers and pictures of it to the folder `out`.

    Raises
    ------
    CompkitError
        If no image is labelled, or `out` is no folder to write to, or holds files of these names
        that are not ours.
    """
    if out is not None:
        _claim(out)
    store = open_store(data)
    store.require_labels()
    count = len(store.labels)
    work = ((np.asarray(store.labels_of(i)),) for i in store.labelled.tolist())
    measured = list(each_image(measure, work, "measuring regions", count, store.labels.size))
    found = {"images": _images(store), **summarise(measured), "groups": _groups(store)}
    print_table(data, ["", "measured"], _rows(found))
    if out is not None:
        _write(store, found, measured, out)


def _claim(out: Path) -> None:
    """Make the folder, or say why nothing shall be written there, before work is spent on it."""
    if out.exists() and not out.is_dir():
        raise CompkitError(f"{out} is a file: give --out a folder, which is made if it is absent")
    found = None
    with suppress(CompkitError):
        found = read_json(out / _NUMBERS)
    ours = isinstance(found, dict) and found.keys() >= {"data", "images", "groups", "labelled"}
    there = [out / name for name in (*_PICTURES, _NUMBERS) if os.path.lexists(out / name)]
    if there and not ours:
        raise CompkitError(
            f"{there[0]} is there, and not from compkit data describe: give another --out"
        )
    require_writable(out)


def _images(store: Store) -> dict[str, Any]:
    arrays = [each for each in map(values_of, (store.images, store.test_images)) if each.size]
    sizes = np.concatenate([shapes_of(store.images), shapes_of(store.test_images)])
    total = sum(int(images.sum(dtype=np.int64)) for images in arrays)
    return {
        "train": len(store.train),
        "labelled": len(store.labelled),
        "unlabelled": len(store.unlabelled),
        "test": len(store.test),
        "side": store.size,
        "sizes": [sizes.min(axis=0).tolist(), sizes.max(axis=0).tolist()],
        "channels": store.pixels.channels,
        "bits": store.pixels.bits,
        "grey_min": min(int(images.min()) for images in arrays),
        "grey_mean": total / sum(images.size for images in arrays),
        "grey_max": max(int(images.max()) for images in arrays),
    }


def _groups(store: Store) -> dict[str, Any]:
    sizes = np.bincount(find_duplicates(store).group)
    return {"count": len(sizes), "largest": int(sizes.max()), "alone": int((sizes == 1).sum())}


def _rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    images, counts = found["images"], found["regions_per_image"]
    share = {name: _percent(value) for name, value in found["region_share"].items()}
    train = f"{images['train']} ({images['labelled']} labelled, {images['unlabelled']} not)"
    groups, coverage = found["groups"], found["coverage"]
    return [
        ["training images", train],
        ["test images", str(images["test"])],
        ["width × height, pixels", _sizes(*images["sizes"])],
        ["channels, bits", f"{images['channels']}, {images['bits']}"],
        ["grey levels", f"{images['grey_min']} to {images['grey_max']}, "
         f"mean {images['grey_mean']:.1f}"],
        ["regions in an image", f"{counts['mean']:.1f} ± {counts['sd']:.1f}"],
        ["  fewest, median, most", f"{counts['min']}, {counts['median']:g}, {counts['max']}"],
        ["pixels labelled", f"{100 * coverage['mean']:.1f} ± {100 * coverage['sd']:.1f} %"],
        ["area of a region, of the image", f"mean {share['mean']}, median {share['median']}"],
        ["  5 % and 95 % quantiles", f"{share['quantile_05']}, {share['quantile_95']}"],
        [f"regions under {_percent(SMALL)} of the image", share["under_small"]],
        [f"regions over {_percent(LARGE)} of the image", share["over_large"]],
        [f"images with a region over {_percent(LARGE)}", _percent(found["large"]["images"])],
        ["regions that touch another", _of(found["touching"], counts)],
        ["regions in several parts", _of(found["split"], counts)],
        ["groups of near-duplicates", f"{groups['count']} of all training images; "
         f"largest {groups['largest']}, {groups['alone']} images alone"],
    ]  # fmt: skip


def _sizes(least: list[int], most: list[int]) -> str:
    """Return the (H, W) of images, from the least to the most, as people write sizes."""
    spans = [str(a) if a == b else f"{a} to {b}" for a, b in zip(least, most, strict=True)]
    return " × ".join(reversed(spans))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _of(part: dict[str, Any], counts: dict[str, Any]) -> str:
    return f"{part['regions']} of {counts['total']} ({_percent(part['share'])})"


def _write(
    store: Store, found: dict[str, dict[str, Any]], measured: list[Regions], out: Path
) -> None:
    from compkit.describe.figures import draw_gallery, draw_statistics

    names = [store.train[row] for row in store.labelled]
    labelled = {
        name: {"coverage": each.coverage, "areas": each.areas.tolist()}
        for name, each in zip(names, measured, strict=True)
    }
    # First: it says that the pictures beside it are ours.
    write_json(out / _NUMBERS, {"data": store.content, **found, "labelled": labelled})
    draw_statistics(measured, out / _PICTURES[0])
    chosen = np.unique(np.linspace(0, len(measured) - 1, _GALLERY).round().astype(int))
    indices = store.labelled[chosen].tolist()
    shown = ((store.images[index], store.labels_of(index)) for index in indices)
    slices = [(names[i], *pair) for i, pair in zip(chosen, shown, strict=True)]
    draw_gallery(slices, out / _PICTURES[1])
    say(f"{out}: {', '.join([*_PICTURES, _NUMBERS])}")
