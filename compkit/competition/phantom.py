"""The embedded competition: seeded CT-like slices, drawn on demand or written to disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from compkit.competition.base import Competition, Source, Split, Table
from compkit.errors import CompkitError, brief, nearest
from compkit.failures import sentence_of
from compkit.files import read_json, replacing_directory, write_json
from compkit.progress import say, track

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
        known = [field.name for field in fields(cls)]
        given: dict[str, int] = {}
        where = brief(locator)
        for item in filter(None, locator.partition(":")[2].split(",")):
            key, _, value = (part.strip() for part in item.partition("="))
            if key not in known:
                hint = nearest(key, known) or f"; known are {', '.join(known)}"
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

        count = len(self.train if split == "train" else self.test)
        if not 0 <= index < count:
            raise IndexError(f"{split} image {index} of {count}")
        return draw_slice(self.settings.seed, split, index, self.settings.size).image

    def labels(self) -> Table:
        """Return the training labels, uint8; all zero for the unlabelled images at the end."""
        from compkit.phantom.batch import label_maps

        settings, count = self.settings, self.settings.labelled
        maps = label_maps(settings.seed, "train", count, settings.size)
        shown = track(maps, "labels of the phantom", count)
        return Table(self.train, _gather(shown, len(self.train), count, settings.size))


def write_phantom(settings: PhantomSettings, out: Path) -> None:
    """Write a phantom in the challenge's layout, and the test's truth as ``Y_test.csv``.

    The folder appears when it is whole. If `out` already holds this very phantom, nothing is done.

    Raises
    ------
    CompkitError
        If there is something else at `out`, or it cannot be written.
    """
    if _is_there(settings, out):
        say(f"{out} already holds this phantom: nothing to do")
        return
    try:
        with replacing_directory(out, only_new=True) as folder:
            _write_split(folder, settings, "train", settings.labelled + settings.unlabelled)
            _write_split(folder, settings, "test", settings.test)
            write_json(folder / SETTINGS_FILE, _identity(settings))
    except OSError as error:
        raise CompkitError(
            f"the phantom cannot be written: {sentence_of(error) or error}; or choose another "
            "folder"
        ) from None


def _is_there(settings: PhantomSettings, out: Path) -> bool:
    """Tell whether `out` is this phantom, whole; refuse what must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    marker = out / SETTINGS_FILE
    if not marker.is_file():
        raise CompkitError(f"{out} exists and is no phantom: choose a folder that does not exist")
    if read_json(marker) != _identity(settings):
        raise CompkitError(
            f"{out} holds a phantom made with other settings (see {marker}): "
            "delete it or choose another folder"
        )
    source = PhantomSource(settings)
    wanted = [out / "X_train" / name for name in source.train]
    wanted += [out / "X_test" / name for name in source.test]
    wanted += [out / "Y_train.csv", out / "Y_test.csv"]
    for path in wanted:
        if not path.is_file():
            raise CompkitError(f"{path} has gone from this phantom: delete {out} and make it anew")
    return True


def _write_split(folder: Path, settings: PhantomSettings, split: Split, count: int) -> None:
    from compkit.competition.table import write_table
    from compkit.phantom.batch import write_images

    images = folder / f"X_{split}"
    images.mkdir()
    labelled = settings.labelled if split == "train" else count
    maps = write_images(images, settings.seed, split, count, settings.size)
    shown = track(maps, f"phantom, {split}", count)
    labels = _gather(shown, count, labelled, settings.size)
    write_table(folder / f"Y_{split}.csv", _names(count), labels)


def _gather(maps: Iterable[np.ndarray], count: int, labelled: int, size: int) -> np.ndarray:
    """Collect the first `labelled` of the maps; the others of the `count` stay zero."""
    labels = np.zeros((count, size, size), np.uint8)
    for index, each in enumerate(maps):
        if index < labelled:
            labels[index] = each
    return labels


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"{index}.png" for index in range(count))


def _identity(settings: PhantomSettings) -> dict[str, int]:
    return {"generator": GENERATOR_VERSION, **asdict(settings)}
