"""The built-in competition: seeded CT-like slices, drawn on demand or written to disk."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compkit.competition.base import SPLITS, Competition, Source, Split, Table
from compkit.errors import CompkitError, brief, nearest
from compkit.failures import sentence_of
from compkit.files import read_json, replacing_directory, write_json
from compkit.progress import say

# The generator and the table are imported where they are used: listing the competitions is quick.

#: To be raised whenever the generator draws anything else than before.
GENERATOR_VERSION = 1

#: The file beside the images that says which phantom they are.
SETTINGS_FILE = "phantom.json"

_BOUNDS = {
    "size": (32, 2048),
    "labelled": (1, 100_000),
    "unlabelled": (0, 100_000),
    "test": (1, 100_000),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class PhantomSettings:
    """Which phantom.

    Attributes
    ----------
    size : int
        Side of the images in pixels. The same slices at another size show the same anatomy.
    labelled, unlabelled : int
        Number of training images with and without labels; the labelled come first.
    test : int
        Number of test images.
    seed : int
    """

    size: int = 128
    labelled: int = 60
    unlabelled: int = 40
    test: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = _BOUNDS[name]
            if not low <= value <= high:
                raise CompkitError(
                    f"phantom: {name}={value} is outside {low}..{high}: choose a {name} inside"
                )

    @classmethod
    def parse(cls, locator: str) -> PhantomSettings:
        """Read ``phantom`` or ``phantom:size=128,labelled=40,…``; what is not named is the default.

        Raises
        ------
        CompkitError
            For an unknown or repeated key, and a value that is not a whole number in its range.
        """
        given: dict[str, int] = {}
        where = brief(locator)
        for item in filter(None, locator.partition(":")[2].split(",")):
            key, _, value = (part.strip() for part in item.partition("="))
            if key not in _BOUNDS:
                hint = nearest(key, _BOUNDS) or f"; known are {', '.join(_BOUNDS)}"
                raise CompkitError(f"{where}: there is no setting {brief(key)}{hint}")
            if key in given:
                raise CompkitError(f"{where} sets {key} twice: give it once")
            if not re.fullmatch(r"-?[0-9]{1,18}", value):
                raise CompkitError(
                    f"{where}: {key} must be a whole number, not {brief(value)}: "
                    f"write {key}={getattr(cls, key)}, for example"
                )
            given[key] = int(value)
        return cls(**given)


class Phantom(Competition):
    """A challenge like the real one that needs no data, with the test's truth at hand."""

    name = "phantom"
    locator = "phantom:size=128,labelled=40"

    def owns(self, data: str) -> bool:
        """Tell whether `data` is ``phantom`` or begins with ``phantom:``."""
        return data.partition(":")[0] == self.name

    def source(self, data: str) -> PhantomSource:
        """Return the phantom that the locator `data` describes (see `PhantomSettings.parse`)."""
        return PhantomSource(PhantomSettings.parse(data))


class PhantomSource(Source):
    """Images and labels of a phantom, drawn when asked for.

    Attributes
    ----------
    settings : PhantomSettings
    """

    def __init__(self, settings: PhantomSettings) -> None:
        self.settings = settings
        self.train = _names(settings.labelled + settings.unlabelled)
        self.test = _names(settings.test)

    def fingerprint(self) -> str:
        """Return a digest of the settings and the generator's version."""
        return hashlib.sha256(json.dumps(_identity(self.settings)).encode()).hexdigest()

    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one grey image, uint8, shape (size, size)."""
        from compkit.phantom.slices import draw_slice

        count = len(getattr(self, split))
        if not 0 <= index < count:
            raise IndexError(f"{split} image {index} of {count}")
        return draw_slice(self.settings.seed, split, index, self.settings.size).image

    def labels(self) -> Table:
        """Return the training labels, uint8; all zero for the unlabelled images at the end."""
        return Table(self.train, self.draw("train"))

    def draw(self, split: Split, folder: Path | None = None) -> np.ndarray:
        """Return the labels of a split, uint8 (N, size, size); write its images to a folder."""
        from compkit.parallel import each_image

        settings, count = self.settings, len(getattr(self, split))
        labelled = settings.labelled if split == "train" else count
        drawn = labelled if folder is None else count
        labels = np.zeros((count, settings.size, settings.size), np.uint8)
        work = ((folder, settings, split, index) for index in range(drawn))
        # Drawing takes about as long at any size.
        found = each_image(_drawn, work, f"phantom, {split}", drawn, drawn * 512**2)
        for index, each in enumerate(found):
            if index < labelled:
                labels[index] = each
        return labels


def _drawn(folder: Path | None, settings: PhantomSettings, split: Split, index: int) -> np.ndarray:
    """Return the labels of one image, and write it to a folder if there is one."""
    import cv2

    from compkit.phantom.slices import draw_slice

    drawn = draw_slice(settings.seed, split, index, settings.size)
    if folder is not None:
        png = cv2.imencode(".png", drawn.image)[1].tobytes()
        (folder / f"{index}.png").write_bytes(png)
    return drawn.labels


def write_phantom(settings: PhantomSettings, out: Path, layout: str = "raidium") -> None:
    """Write a phantom in the layout of a competition, and the test's truth beside it.

    The folder appears when it is whole. If `out` already holds this very phantom, nothing is done.

    Parameters
    ----------
    layout : str
        The challenge's, whose truth is ``Y_test.csv``, or one of `compkit.phantom.layouts.LAYOUTS`.

    Raises
    ------
    CompkitError
        If there is something else at `out`, or it cannot be written.
    """
    source, identity = PhantomSource(settings), _identity(settings)
    if layout != "raidium":
        identity["layout"] = layout
    if _is_there(source, out, identity):
        say(f"{out} already holds this phantom: nothing to do")
        return
    try:
        with replacing_directory(out, only_new=True) as folder:
            for split in SPLITS:
                _write_split(folder, source, split, layout)
            write_json(folder / SETTINGS_FILE, identity)
    except OSError as error:
        raise CompkitError(
            f"the phantom cannot be written: {sentence_of(error) or error}; or choose another "
            "folder"
        ) from None
    say(
        f"{out}: {len(source.train)} training images, {settings.labelled} of them labelled, and "
        f"{len(source.test)} test images, as {layout} has them"
    )


def _is_there(source: PhantomSource, out: Path, identity: dict[str, Any]) -> bool:
    """Tell whether `out` is this phantom, whole; refuse what must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    marker = out / SETTINGS_FILE
    if not marker.is_file():
        raise CompkitError(f"{out} exists and is no phantom: choose a folder that does not exist")
    if read_json(marker) != identity:
        raise CompkitError(
            f"{out} holds a phantom made with other settings (see {marker}): "
            "delete it or choose another folder"
        )
    if "layout" in identity:
        return True
    wanted = [f"X_train/{name}" for name in source.train] + ["Y_train.csv"]
    wanted += [f"X_test/{name}" for name in source.test] + ["Y_test.csv"]
    for path in (out / name for name in wanted):
        if not path.is_file():
            raise CompkitError(f"{path} has gone from this phantom: delete {out} and make it anew")
    return True


def _write_split(folder: Path, source: PhantomSource, split: Split, layout: str) -> None:
    if layout != "raidium":
        from compkit.phantom.layouts import LAYOUTS

        drawn = [source.image(split, index) for index in range(len(getattr(source, split)))]
        LAYOUTS[layout](folder, split, drawn, list(source.draw(split)))
        return
    from compkit.competition.table import write_table

    images = folder / f"X_{split}"
    images.mkdir()
    write_table(folder / f"Y_{split}.csv", getattr(source, split), source.draw(split, images))


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"{index}.png" for index in range(count))


def _identity(settings: PhantomSettings) -> dict[str, Any]:
    return {"generator": GENERATOR_VERSION, **asdict(settings)}


def write_volumes(out: Path, count: int, size: int, seed: int) -> None:
    """Write phantom patients as CT volumes with organ masks; none of them is in a competition.

    Raises
    ------
    CompkitError
        If there is something else at `out`, or it cannot be written.
    """
    from compkit.parallel import each_image
    from compkit.phantom.volumes import SLICES, write_volume

    PhantomSettings(size=size, seed=seed)  # proves these two
    if not 1 <= count <= 100_000:
        raise CompkitError(f"--volumes {count} is outside 1..100000: choose a number inside")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CompkitError(f"{out} exists: choose a folder that does not exist")
    with replacing_directory(out, only_new=True) as folder:
        work = ((folder, seed, number, size) for number in range(count))
        for _ in each_image(write_volume, work, "volumes", count, count * SLICES * 512**2):
            pass
    say(f"{out}: {count} volumes with organ masks, for compkit data import")
