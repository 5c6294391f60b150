"""What a submission is: a table of pixels or run lengths, label images, or a stack of membranes."""

from __future__ import annotations

import io
import lzma
import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tifffile
from PIL import Image

from compkit.competition import competition_of
from compkit.competition.base import (
    NUMBERED,
    SUFFIXES,
    Competition,
    SubmissionAs,
    require_images,
)
from compkit.competition.table import BEGINNING, fill_table, read_table
from compkit.errors import CompkitError, brief
from compkit.images import UNREADABLE, page_count, read_ids
from compkit.inputs import require_file
from compkit.labels.paint import parted
from compkit.labels.run_lengths import RunLengths, Shapes, read_runs, write_runs
from compkit.progress import track
from compkit.regions import inside

#: Names of images, and their label maps, integers (H, W).
Names: TypeAlias = Sequence[str]
Maps: TypeAlias = Sequence[np.ndarray]


#: Of a PNG beside its pixels, which have 8 bytes each at most.
_MOST_BYTES = 1 << 20


class Form(ABC):
    """One form of a submission.

    Attributes
    ----------
    suffix : str
        How its files end.
    unit : str
        What an image is in it.
    tells_names : bool
        Whether it tells which images it holds.
    """

    suffix: str
    unit = "image"
    tells_names = True

    @property
    @abstractmethod
    def beginning(self) -> str:
        """What every such file begins with."""

    @abstractmethod
    def fill(self, file: Path, images: Names, labels: Maps, limit: int, called: Path) -> None:
        """Write label maps to a file that is there for it, `called` otherwise in errors."""

    @abstractmethod
    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read label maps by image; `CompkitError` names what is wrong, and where.

        Parameters
        ----------
        shapes : mapping of str to (int, int)
            Of the images that may be in it, in their order; of a form that does not tell names,
            of those that must be, or of none, and they are called by number.
        limit : int
            The highest id.
        """

    def require(self, shapes: Shapes) -> None:
        """Raise `CompkitError` if there is no image, or one has no place in this form."""
        if not shapes:
            raise CompkitError("there is no test image to be submitted: give --data that has some")

    def check(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read a submission, having proven that it holds all images and that it would be taken."""
        labels = self.read(path, shapes, limit)
        require_images(list(labels), list(shapes), str(path), self.unit)
        return labels


class PixelTable(Form):
    """A CSV with a row a pixel and a column an image; see `compkit.competition.table`."""

    suffix, beginning, unit = SUFFIXES["pixels"], BEGINNING, "column"

    def require(self, shapes: Shapes) -> None:
        """Refuse images of several sizes, or not square, or not called by number."""
        super().require(shapes)
        names = [name for name in shapes if not NUMBERED.fullmatch(name)]
        sizes = set(shapes.values())
        if names or len(sizes) > 1 or any(height != width for height, width in sizes):
            wrong = f"{brief(names[0])} is no such name" if names else "these are of other sizes"
            raise CompkitError(
                "a submission of this competition is a table of pixels, of square images of one "
                f"size called 0.png, 1.png, …, but {wrong}: give competition.yaml another "
                "submission.form (run_lengths, images, membranes)"
            )

    def fill(self, file: Path, images: Names, labels: Maps, limit: int, called: Path) -> None:
        """Write label maps, which are of one size."""
        fill_table(file, images, np.asarray(labels), max_label=limit, called=called)

    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read label maps, which are square."""
        sides = {side for shape in shapes.values() for side in shape}
        side = sides.pop() if len(sides) == 1 else None
        return read_table(path, max_label=limit, side=side).by_name


class UntoldForm(PixelTable):
    """What files are taken for where no competition's data tell their form."""

    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read label maps, or say what is needed to read files of other forms."""
        try:
            return super().read(path, shapes, limit)
        except CompkitError as error:
            if not path.is_file() or _begins(path):
                raise
            raise CompkitError(
                f"{error}; if it is no table of pixels, give --data, which tells what it is"
            ) from None


def _begins(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING.encode()


@dataclass(frozen=True)
class RunLengthTable(Form):
    """A CSV with a row a region; see `compkit.labels.run_lengths`."""

    how: RunLengths
    suffix = SUFFIXES["run_lengths"]

    @property
    def beginning(self) -> str:
        """The header."""
        return f"{self.how.image},{self.how.runs}"

    def fill(self, file: Path, images: Names, labels: Maps, limit: int, called: Path) -> None:
        """Write label maps."""
        write_runs(file, images, track(labels, f"writing {called.name}", len(images)), self.how)

    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read label maps, no pixel of which is in two regions."""
        found = read_runs(path, self.how, shapes)
        for name, painted in found.items():
            if painted.overlapping:
                raise CompkitError(
                    f"{path}: {painted.overlapping} pixels of {brief(name)} are in several "
                    "regions, but a pixel may be in one: correct them"
                )
        return {name: painted.labels for name, painted in found.items()}


class LabelImages(Form):
    """A zip with a PNG an image, ``<name>.png``, of 16 bits where ids are over 255."""

    suffix, beginning = SUFFIXES["images"], "PK"

    def fill(self, file: Path, images: Names, labels: Maps, limit: int, called: Path) -> None:
        """Write label maps; equal ones become equal bytes."""
        dtype = (
            np.uint8 if max((int(each.max()) for each in labels), default=0) < 256 else np.uint16
        )
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
            for name, each in zip(images, track(labels, "writing", len(images)), strict=True):
                png = io.BytesIO()
                Image.fromarray(each.astype(dtype)).save(png, format="PNG")
                opened.writestr(zipfile.ZipInfo(_png(name)), png.getvalue())

    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read label maps of whole numbers."""
        require_file(path, "submission")
        names = {_png(name): name for name in shapes}
        found: dict[str, np.ndarray] = {}
        try:
            with zipfile.ZipFile(path) as opened:
                for info in opened.infolist():
                    entry = info.filename
                    if (name := names.get(entry)) is None or name in found:
                        fault = "twice" if name else "which is of no image"
                        raise CompkitError(f"{path} holds {brief(entry)}, {fault}: leave it out")
                    if info.file_size > _MOST_BYTES + 16 * math.prod(shapes[name]):
                        raise CompkitError(
                            f"{path}: {entry} has {info.file_size} bytes, more than a PNG of its "
                            "image can have: write it anew"
                        )
                    found[name] = _read_png(path, entry, opened.read(entry))
                    _require_map(path, entry, found[name], shapes[name], limit)
        except (
            zipfile.BadZipFile, RuntimeError, OSError, EOFError, zlib.error, lzma.LZMAError,
        ) as error:  # fmt: skip
            raise CompkitError(
                f"{path} is no zip that can be read ({error}): make it anew"
            ) from None
        return {name: found[name] for name in shapes if name in found}


def _png(name: str) -> str:
    return name if name.endswith(".png") else f"{name}.png"


def _read_png(path: Path, entry: str, data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image)
    except UNREADABLE:
        raise CompkitError(f"{path}: {entry} is no PNG that can be read: write it anew") from None


def _require_map(
    path: Path, entry: str, labels: np.ndarray, shape: tuple[int, int], limit: int
) -> None:
    if labels.shape != shape or labels.dtype.kind not in "ui":
        raise CompkitError(
            f"{path}: {entry} holds {labels.dtype} of shape {labels.shape}, where ids of shape "
            f"{shape} are wanted"
        )
    if (high := int(labels.max())) > limit:
        raise CompkitError(f"{path}: {entry} holds the id {high}, but at most {limit} may be")


@dataclass(frozen=True)
class Membranes(Form):
    """A TIFF with a page an image: white within regions, black outside and between them.

    Each connected part that is white is a region. `compkit.regions.inside` says what becomes black
    between regions that touch.
    """

    bits: int
    suffix, beginning, unit = SUFFIXES["membranes"], "II*\0", "page"
    tells_names = False

    def fill(self, file: Path, images: Names, labels: Maps, limit: int, called: Path) -> None:
        """Write where regions are; equal label maps become equal bytes."""
        white = np.uint8(255) if self.bits == 8 else np.float32(1)
        with tifffile.TiffWriter(file, byteorder="<") as opened:
            for each in track(labels, f"writing {called.name}", len(images)):
                opened.write(inside(each) * white, photometric="minisblack", metadata=None)

    def read(self, path: Path, shapes: Shapes, limit: int) -> dict[str, np.ndarray]:
        """Read pages of whichever bits that hold 0 and one other value; ids have no limit."""
        require_file(path, "submission")
        names = list(shapes) or [str(page) for page in range(page_count(path))]
        if (count := page_count(path)) != len(names):
            raise CompkitError(
                f"{path} has {count} pages, but of {len(names)} images each needs its own"
            )
        found, white = dict[str, np.ndarray](), set[int]()
        for page, name in enumerate(names):
            pixels = read_ids(path, page)
            if pixels.shape != (shape := shapes.get(name, pixels.shape)):
                raise CompkitError(
                    f"{path}, page {page} is {pixels.shape[1]}×{pixels.shape[0]}, but the image "
                    f"{name} {shape[1]}×{shape[0]}"
                )
            white |= set(np.unique(pixels).tolist()) - {0}
            if len(white) > 1:
                raise CompkitError(
                    f"{path}, page {page}: pixels are 0, or one other value within regions, but "
                    f"here are {min(white)} and {max(white)}: make what is inside white"
                )
            found[name] = parted(pixels)
        return found


def form_of(competition: Competition) -> Form:
    """Return the form of a competition's submissions."""
    told: SubmissionAs = competition.submission
    forms: Mapping[str, Form] = {
        "pixels": PixelTable(),
        "run_lengths": RunLengthTable(told.run_lengths),
        "images": LabelImages(),
        "membranes": Membranes(told.bits),
    }
    return forms[told.form]


def form_at(data: str | None) -> Form:
    """Return the form of submissions for the data at a locator, which are not read, or for none."""
    return UntoldForm() if data is None else form_of(competition_of(data))
