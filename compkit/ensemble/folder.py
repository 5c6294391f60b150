"""Label maps of a folder of images: all of ``compkit predict``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from compkit.competition.base import HIGHEST
from compkit.data.arrays import GREY, Pixels
from compkit.data.store import image_digest
from compkit.describe.colours import outlined
from compkit.ensemble.model import open_model
from compkit.errors import CompkitError
from compkit.files import digest_of, replacing, require_writable
from compkit.images import UNREADABLE, check_header, read_grey, read_image
from compkit.inputs import parse_json, require_file
from compkit.pixels import as_shown, fitted
from compkit.progress import say
from compkit.regions import keep_largest
from compkit.schema import checked

#: Files that are taken for images; others are passed over.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: Where a PNG of ours says what it is.
_KEY = "compkit"


@dataclass(frozen=True)
class _Made:
    """What a PNG of ours says: digests of what made it, of the image's file, of its own pixels."""

    by: str
    of: str
    pixels: str


def predict_folder(
    run: str, images: Path, out: Path, overlay: bool = False, overwrite: bool = False
) -> None:
    """Write a label map of every image in a folder, as a PNG named like the image.

    It has 16 bits where ids need them. What the same networks made of an image before stays, so
    the same command goes on after a kill. Memory holds one batch of images.

    Parameters
    ----------
    run : str
        A run, an ensemble or a checkpoint, as for `compkit.ensemble.model.open_model`.
    images : Path
        PNGs, JPEGs and TIFFs of any sizes; hidden files and others are passed over.
    overlay : bool
        Write the images with their regions' outlines, too, to ``overlay/`` in `out`.
    overwrite : bool
        Replace files there that compkit did not write, or that were edited.

    Raises
    ------
    CompkitError
        If an image is none; if a file there must not be replaced; or as `open_model`.
    """
    paths = _images_in(images)
    model = open_model(run)
    folders = [out, out / "overlay"] if overlay else [out]
    for folder in folders:
        if folder.resolve() == images.resolve():
            raise CompkitError(f"{folder} holds the images themselves: give another --out")
        require_writable(folder)
    todo, given = [], {path.resolve() for path in paths}
    for path in paths:
        for folder in folders:
            _refuse_place(_place(folder, path), given)
        if model.pixels == GREY:
            check_header(path)
        wanted = (model.made, digest_of(path))
        standing = [_standing(_place(folder, path), overwrite) for folder in folders]
        if any(made is None or (made.by, made.of) != wanted for made in standing):
            todo.append(path)
    read = partial(_read, model.pixels)
    found = model.regions(map(read, todo), len(todo))
    for path, (image, labels) in zip(todo, found, strict=True):
        if labels.max() > HIGHEST:  # of 16 bits
            labels, dropped = keep_largest(labels, HIGHEST)
            if dropped:
                say(f"{path} has over {HIGHEST} regions: the {dropped} smallest become background")
        pictures = [labels.astype(np.uint8 if labels.max() < 256 else np.uint16)]
        if overlay:
            pictures.append((outlined(labels, as_shown(image)) * 255).round().astype(np.uint8))
        for folder, picture in zip(folders, pictures, strict=True):
            _write(_place(folder, path), picture, model.made, digest_of(path))
    done = len(paths) - len(todo)
    kept = f"; {done} were there already" if done else ""
    networks = f"{model.networks} network{'s' * (model.networks > 1)}"
    say(f"{out}: label maps of {len(paths)} images, by {networks}{kept}")


def _read(pixels: Pixels, path: Path) -> np.ndarray:
    """Return an image as networks see it."""
    if pixels == GREY:
        return read_grey(path)
    return fitted(read_image(path), pixels.channels, pixels.bits, str(path))


def _images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, no two of which are called alike."""
    if not folder.is_dir():
        raise CompkitError(f"there is no folder {folder}: --images takes one with images")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )
    for path in paths:
        require_file(path, "image", "move it away, or correct the link")
    if not paths:
        raise CompkitError(
            f"there is no image ({', '.join(_SUFFIXES)}) in {folder}: give --images a folder that "
            "holds some itself, not in folders"
        )
    stem, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        raise CompkitError(
            f"{count} images in {folder} are called {stem}, and so would be their label maps: "
            "rename them"
        )
    return paths


def _place(folder: Path, image: Path) -> Path:
    return folder / f"{image.stem}.png"


def _refuse_place(path: Path, given: set[Path]) -> None:
    """Refuse to write where an image lies, or what is no file, whatever is to be overwritten."""
    if path.resolve() in given:
        raise CompkitError(f"{path} is one of the images themselves: take another --out")
    if path.is_symlink() and not path.exists():
        raise CompkitError(f"{path} is a link that leads nowhere: remove it, or take another --out")
    if path.exists() and not path.is_file():
        raise CompkitError(f"{path} is there and is no file: move it away, or take another --out")


def _standing(path: Path, overwrite: bool) -> _Made | None:
    """Return what a file says of itself; None if there is none, or one that may be replaced."""
    if not path.exists():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as image:
            made = checked(_Made, parse_json(image.info[_KEY]), str(path), "")
            if made.pixels == _digest(np.asarray(image)):
                return made
    except (CompkitError, LookupError, TypeError, *UNREADABLE):
        pass  # not of ours, or not any more
    if not overwrite:
        raise CompkitError(
            f"{path} is there and is not as compkit wrote it: take another --out, or give "
            "--overwrite to lose what is there"
        )
    return None


def _write(path: Path, pixels: np.ndarray, by: str, of: str) -> None:
    about = PngInfo()
    about.add_text(_KEY, json.dumps(asdict(_Made(by, of, _digest(pixels)))))
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=about)


def _digest(pixels: np.ndarray) -> str:
    return image_digest(pixels.astype(np.uint16))  # whatever type it is read back as
