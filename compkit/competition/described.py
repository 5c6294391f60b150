"""Competitions that a YAML describes: those that are shipped, and a user's own."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compkit.competition.base import Competition, GroupTable, LabelMaps, Source, Split
from compkit.competition.labels_at import Labels
from compkit.competition.layout import (
    LabelsAt,
    Layout,
    Place,
    files_by_name,
    matching,
    paths_of,
    places_of,
    read_layout,
)
from compkit.errors import CompkitError, brief
from compkit.images import has_colours, read_image
from compkit.inputs import require_file
from compkit.labels.run_lengths import read_columns
from compkit.pixels import grey

#: What describes a competition in its own folder.
OWN = "competition.yaml"

_SHIPPED = Path(__file__).parent / "shipped"


class Described(Competition):
    """A competition whose YAML is shipped with compkit.

    Its data are a folder in which there are training images, or test images, and labels, where the
    YAML says.

    Attributes
    ----------
    test_alone : bool
        Whether a folder that holds a test and nothing else is known by it.
    """

    test_alone = False

    def __init__(self) -> None:
        self.layout = read_layout(_SHIPPED / f"{self.name}.yaml")
        self.rules, self.submission = self.layout.rules, self.layout.submission

    def owns(self, data: str) -> bool:
        """Tell whether `data` is a folder with images and labels where they should be."""
        folder, images = Path(data), self.layout.images
        if images.train is not None and _anything(folder, images.train):
            return all(_anything(folder, pattern) for pattern in self.layout.label_files)
        return self.test_alone and images.test is not None and _anything(folder, images.test)

    def source(self, data: str) -> Source:
        """Return the folder `data`, as the YAML describes it."""
        return DescribedSource(Path(data), self.layout)


class Dsb2018(Described):
    """Kaggle's Data Science Bowl of 2018: nuclei, a mask each."""

    name = "dsb2018"
    test_alone = True
    locator = "a folder with stage1_train and stage1_test"


class Isbi2012(Described):
    """The ISBI challenge of 2012: neurons in electron microscopy, TIFF stacks."""

    name = "isbi2012"
    test_alone = True
    locator = "a folder with train-volume.tif and train-labels.tif"


class Folder(Described):
    """Images and label images of the same names, as Cellpose, StarDist and CVPPP users have."""

    name = "folder"
    locator = "a folder with images/ and labels/, and test/ if there is one"


class Coco(Described):
    """Images with a COCO file."""

    name = "coco"
    locator = "a folder with images/ and annotations.json, and test/ if there is one"


class Own(Competition):
    """A competition of a user's own, which a YAML describes: in the data's folder, or elsewhere."""

    name = "own"
    locator = f"a folder with a {OWN}, which `compkit data init` writes, or such a YAML elsewhere"

    def owns(self, data: str) -> bool:
        """Tell whether there is a YAML, whose rules are taken then."""
        path = _yaml_of(data)
        if not path.exists():
            return False
        layout = read_layout(path)
        self.rules, self.submission = layout.rules, layout.submission
        return True

    def source(self, data: str) -> Source:
        """Return the folder that the YAML describes.

        Raises
        ------
        CompkitError
            Also if a YAML in its folder says that the data are another's.
        """
        path = _yaml_of(data)
        layout = read_layout(path)
        if layout.folder is not None and Path(data).is_dir():
            raise CompkitError(
                f"{path}: folder is of a file that lies elsewhere; remove it, or give --data {path}"
            )
        folder = path.parent / (layout.folder or "")
        if not folder.is_dir():
            raise CompkitError(f"{path}: there is no folder {folder}: correct folder")
        if (sample := layout.submission.sample) is not None:
            remedy = f"put it there, or remove submission.sample from {path}"
            require_file(folder / sample, "sample submission", remedy)
        return DescribedSource(folder, layout)


def _yaml_of(data: str) -> Path:
    path = Path(data)
    return path if path.suffix in (".yaml", ".yml") and path.is_file() else path / OWN


class DescribedSource(Source):
    """A folder whose images and labels lie where a layout says.

    Parameters
    ----------
    folder : Path
    layout : Layout

    Raises
    ------
    CompkitError
        If there is no image, a name has two files, or labels are of no image.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder, self.layout = folder, layout
        self._places: dict[Split, dict[str, Place]] = {"train": {}, "test": {}}
        for split, places in self._places.items():
            pattern = getattr(layout.images, split)
            if pattern is not None and _anything(folder, pattern):
                places |= places_of(folder, pattern, f"images.{split}")
        if not any(self._places.values()):
            given = " or ".join(filter(None, (layout.images.train, layout.images.test)))
            raise CompkitError(f"{folder} has no image {given}: correct the patterns")
        self.train, self.test = self._ordered("train"), self._ordered("test")
        if (at := layout.groups) is not None:
            self.groups = GroupTable(folder / at.file, at.image, at.group)

    def fingerprint(self) -> str:
        """Return a digest of the layout, and of all files' names, sizes and times of change."""
        digest = hashlib.sha256(repr(asdict(self.layout)).encode())
        for path in self._files():
            where = path.relative_to(self.folder).as_posix()
            key = next((key for key, given in paths_of(self.layout) if given == where), None)
            remedy = f"put it there, or correct {key} in its YAML" if key else "fetch it again"
            require_file(path, "file of the competition", remedy)
            state = path.stat()
            told = (
                path.relative_to(self.folder),
                state.st_size,
                state.st_mtime_ns,
                state.st_ctime_ns,
            )
            digest.update(repr(told).encode())
        return digest.hexdigest()

    def image(self, split: Split, index: int) -> np.ndarray:
        """Return one image, grey or in colours as all others."""
        path, page = self._places[split][(self.train if split == "train" else self.test)[index]]
        pixels = read_image(path, page)
        if self._in_colours and pixels.ndim == 2:
            return np.repeat(pixels[..., None], 3, axis=2)
        if self._in_colours or pixels.ndim == 2:
            return pixels
        return grey(pixels, str(path))

    def labels(self) -> LabelMaps:
        """Return the label maps, read as they are asked for."""
        at = self.layout.labels
        if at is None or not self.train:
            return LabelMaps(self.train, iter([None] * len(self.train)))
        return LabelMaps(self.train, Labels(self.folder, at, self.train, self._shape).read())

    def _shape(self, index: int) -> tuple[int, int]:
        height, width = self.image("train", index).shape[:2]
        return height, width

    @cached_property
    def _in_colours(self) -> bool:
        colour = self.layout.images.colour
        if colour != "auto":
            return colour == "rgb"
        paths = {path for places in self._places.values() for path, _ in places.values()}
        return any(has_colours(path) for path in sorted(paths))

    def _ordered(self, split: Split) -> tuple[str, ...]:
        """Return names as a sample submission has them, or in their own order."""
        names = list(self._places[split])
        sample = self.layout.submission.sample
        if split == "train" or sample is None or not (self.folder / sample).exists():
            return tuple(names)
        known, column = set(names), self.layout.submission.run_lengths.image
        listed = read_columns(self.folder / sample, "sample submission", column)[column]
        order = [name for name in dict.fromkeys(listed) if name in known]
        if missing := known - set(order):
            raise CompkitError(
                f"{self.folder / sample} lacks the image {brief(min(missing))}, of which there is "
                "a file: remove it, or the sample from the layout"
            )
        return tuple(order)

    def _files(self) -> list[Path]:
        layout, folder = self.layout, self.folder
        if not self.train:  # a test alone
            layout = replace(layout, labels=None, groups=None)
        labels = layout.labels or LabelsAt()
        named = [labels.coco, labels.pixels, labels.unlabelled]
        named += [at.file for at in (labels.run_lengths, layout.groups) if at is not None]
        found = {path for places in self._places.values() for path, _ in places.values()}
        sample = self.layout.submission.sample
        named += [sample] if sample is not None and (folder / sample).exists() else []
        found |= {folder / name for name in named if name is not None}
        for pattern in filter(None, (labels.images, labels.masks)):
            if "{name}" in pattern:
                found |= {p for paths in files_by_name(folder, pattern).values() for p in paths}
            else:
                found.add(folder / pattern)
        return sorted(found)


def _anything(folder: Path, pattern: str) -> bool:
    return any(True for _ in matching(folder, pattern))
