"""A competition as data: a YAML that says where images and labels are, and what is wanted of them.

    name: nuclei
    images: {train: "stage1_train/{name}/images/*.png", test: "stage1_test/{name}/images/*.png"}
    labels: {masks: "stage1_train/{name}/masks/*.png"}
    ranking: average_precision
    submission: {run_lengths: {image: ImageId, runs: EncodedPixels}}

docs/data.md tells of every key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict, NonNegativeInt

from compkit.competition.base import HIGHEST, NAME, Rules, SubmissionAs
from compkit.errors import CompkitError, brief
from compkit.images import SUFFIXES, page_count
from compkit.inputs import load_yaml
from compkit.labels.run_lengths import RunLengths
from compkit.metrics.rand import METRICS
from compkit.schema import checked

#: A file by name, and which image in it, of a file that may hold several.
Place = tuple[Path, int | None]

#: Stands in a pattern for what tells the labels of several annotators apart.
ANNOTATOR = "{annotator}"

#: Unknown keys are refused.
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class ImagesAt:
    """Where images are, by patterns in which {name} stands for an image's name, * for anything.

    A file that holds several images, as a TIFF may, has a pattern without {name}; these are called
    0, 1, ….

    Parameters
    ----------
    train, test
        Of either; null if there are none.
    colour
        Grey or rgb turns all images into these; auto takes rgb if any image has colours.
    """

    __pydantic_config__ = _STRICT
    train: str | None = None
    test: str | None = None
    colour: Literal["auto", "grey", "rgb"] = "auto"


@dataclass(frozen=True)
class RunsAt(RunLengths):
    """Run lengths in a file.

    Parameters
    ----------
    file
        The CSV.
    """

    __pydantic_config__ = _STRICT
    file: str = ""


@dataclass(frozen=True)
class LabelsAt:
    """Where labels are, in one of five forms.

    Parameters
    ----------
    images
        Pattern of label images: whole numbers are ids, or each colour is one; 0 and black are
        background. In it, {annotator} stands for what tells those of several annotators apart.
    masks
        Pattern of the masks of an image's regions, a file each.
    run_lengths
        A CSV with a row a region.
    coco
        A COCO file.
    pixels
        A CSV with a row a pixel and a column an image.
    parts
        Split makes each connected part of a region a region of its own; keep does not.
    unlabelled
        Path of a text file with the names of images, a line each, whose labels do not count.
    ignored
        The id of pixels that nobody looked at (loss.ignored); 0 if there are none.
    blank_is_unlabelled
        Whether an image without any region counts as one without labels.
    """

    __pydantic_config__ = _STRICT
    images: str | None = None
    masks: str | None = None
    run_lengths: RunsAt | None = None
    coco: str | None = None
    pixels: str | None = None
    parts: Literal["keep", "split"] = "keep"
    unlabelled: str | None = None
    ignored: NonNegativeInt = 0
    blank_is_unlabelled: bool = False

    @property
    def form(self) -> str:
        """Which of the five forms it is."""
        forms = ("images", "masks", "run_lengths", "coco", "pixels")
        return ", ".join(form for form in forms if getattr(self, form) is not None)


@dataclass(frozen=True)
class GroupsAt:
    """Which training images stay in one fold.

    Parameters
    ----------
    file
        A CSV; images may have several rows, as in a file of labels.
    image, group
        Its columns of names and of groups.
    """

    __pydantic_config__ = _STRICT
    file: str
    image: str = "image"
    group: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a competition's YAML holds.

    Parameters
    ----------
    name
        Of the competition.
    images, labels, submission
        As described there.
    groups
        As described there; a path alone is a CSV with the columns image and group (or patient).
    folder
        Where the data are, from where the YAML lies; only of one that lies elsewhere.
    ranking
        The metric that ranks.
    metrics
        Those that are told beside it.
    max_label
        The highest id of a region in a submission.
    """

    __pydantic_config__ = _STRICT
    name: str
    images: ImagesAt
    labels: LabelsAt | None = None
    groups: GroupsAt | None = None
    folder: str | None = None
    ranking: str = "adjusted_all"
    metrics: tuple[str, ...] = METRICS
    max_label: int = HIGHEST
    submission: SubmissionAs = field(default_factory=SubmissionAs)

    @property
    def label_files(self) -> list[str]:
        """The paths and patterns of labels."""
        return [value for key, value in paths_of(self) if key.startswith("labels.")]

    @property
    def rules(self) -> Rules:
        """What the competition ranks by and accepts."""
        blank = self.labels is not None and self.labels.blank_is_unlabelled
        ignored = self.labels.ignored if self.labels is not None else 0
        return Rules(self.ranking, self.max_label, blank, ignored, self.metrics)


def read_layout(path: Path) -> Layout:
    """Read a competition's YAML.

    Raises
    ------
    CompkitError
        Naming the file and the key that is unknown or wrong.
    """
    values = load_yaml(path, "competition file")
    if isinstance(values, dict) and isinstance(values.get("groups"), str):
        values["groups"] = {"file": values["groups"]}
    layout = checked(Layout, values, str(path), "correct it", "is no competition file")
    if not NAME.fullmatch(layout.name):
        raise CompkitError(
            f"{path}: name is {brief(layout.name)}, which can be part of no file's name"
        )
    for key, value in paths_of(layout):
        if not inside(value):
            raise CompkitError(
                f"{path}: {key} is {brief(value)}, which leaves the folder of the data: give a "
                "path in it"
            )
    several = [key for key, value in paths_of(layout) if ANNOTATOR in value]
    if several and (several != ["labels.images"] or "{name}" not in str(layout.label_files[0])):
        raise CompkitError(
            f"{path}: {ANNOTATOR} stands in {several[0]}, but only labels.images may have it, "
            "beside {name}: leave it out"
        )
    if layout.images.train is not None and layout.images.train in layout.label_files:
        raise CompkitError(
            f"{path}: labels and images.train are both {brief(layout.images.train)}, but labels "
            "are files of their own: correct one of them"
        )
    if layout.labels is not None and layout.labels.ignored and layout.labels.parts == "split":
        raise CompkitError(
            f"{path}: labels.ignored is an id, but labels.parts: split numbers anew: leave one out"
        )
    if layout.labels is not None and not layout.labels.form.isidentifier():
        given = layout.labels.form or "none"
        raise CompkitError(
            f"{path}: labels have one form, of images, masks, run_lengths, coco and pixels, but "
            f"{given} given: give one"
        )
    return layout


def paths_of(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield every path and pattern that a layout names, by its key."""
    labels = layout.labels or LabelsAt()
    runs = labels.run_lengths
    named = {
        "images.train": layout.images.train,
        "images.test": layout.images.test,
        **{
            f"labels.{form}": getattr(labels, form)
            for form in ("images", "masks", "coco", "pixels")
        },
        "labels.run_lengths.file": runs.file if runs else None,
        "labels.unlabelled": labels.unlabelled,
        "groups": layout.groups.file if layout.groups else None,
        "submission.sample": layout.submission.sample,
    }
    yield from ((key, value) for key, value in named.items() if value is not None)


def inside(path: str) -> bool:
    """Whether a path or pattern stays in the folder that it is of."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield what is called by a pattern, in which all but {name}, {annotator}, * is literal."""
    literal = re.sub(r"[\[?]", r"[\g<0>]", pattern)
    yield from folder.glob(re.sub(r"(\{name\}|\{annotator\}|\*)+", "*", literal))


def files_by_name(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Return the files of a pattern by the name that they have in it, each name's sorted."""
    pattern = pattern.replace(ANNOTATOR, "*")
    expression, named = "", False
    for piece in re.split(r"(\{name\}|\*)", pattern):
        if piece == "{name}":
            expression += "(?P=name)" if named else "(?P<name>[^/]+)"
            named = True
        else:
            expression += "[^/]*" if piece == "*" else re.escape(piece)
    matches = re.compile(expression).fullmatch
    found: dict[str, list[Path]] = {}
    for path in sorted(matching(folder, pattern)):
        match = matches(path.relative_to(folder).as_posix())
        if match and path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            found.setdefault(match["name"], []).append(path)
    return found


def places_of(folder: Path, pattern: str, key: str) -> dict[str, Place]:
    """Return where the image of each name lies, by number if all names are numbers, else sorted.

    Raises
    ------
    CompkitError
        If there is none, or a name has two files.
    """
    if "{name}" not in pattern:
        path = folder / pattern
        return {str(page): (path, page) for page in range(page_count(path))}
    found = files_by_name(folder, pattern)
    if not found:
        raise CompkitError(f"{folder} has no image {pattern} ({key}): correct the pattern")
    for name, paths in found.items():
        if len(paths) > 1:
            raise CompkitError(
                f"{paths[0]} and {paths[1]} are both the image {brief(name)} ({key}): remove one, "
                "or make the pattern narrower"
            )
    return {name: (found[name][0], None) for name in in_order(found)}


def in_order(names: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return names by the numbers that they are, 2 before 10, or sorted if some are none."""
    stems = {name: name.rpartition(".")[0] or name for name in names}
    if all(re.fullmatch(r"\d{1,18}", stem) for stem in stems.values()):
        return sorted(names, key=lambda name: (int(stems[name]), name))
    return sorted(names)
