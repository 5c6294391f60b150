"""A first ``competition.yaml`` for a folder, from what lies in it: all of ``compkit data init``."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from compkit.competition import competition_of
from compkit.competition.described import OWN, Described
from compkit.competition.layout import ANNOTATOR, matching, read_layout
from compkit.errors import CompkitError
from compkit.files import read_json, replacing
from compkit.images import SUFFIXES, page_count, read_ids
from compkit.inputs import require_utf8
from compkit.progress import say

#: What folders and files of labels, and of a test, are called.
_LABELS = re.compile(r"label|mask|annot|truth|\bgt\b|_gt|seg", re.IGNORECASE)
_TEST = re.compile(r"test", re.IGNORECASE)

#: What folders of many images are called, unlike such as are of one.
_KINDS = re.compile(r"image|img|train|test|val|raw|stage|" + _LABELS.pattern, re.IGNORECASE)

#: Rows of a CSV that are looked at.
_ROWS = 1000

#: Folders below the data's that are looked into, and endings of names that tell files apart.
_DEPTH, _ENDINGS = 4, 3


@dataclass(frozen=True)
class Group:
    """Images whose paths are alike but for a name.

    Attributes
    ----------
    pattern : str
        As in `compkit.competition.layout`.
    names : frozenset of str
    files : int
        How many there are; more than names where a name has several.
    """

    pattern: str
    names: frozenset[str]
    files: int


def init(data: Path, out: Path | None = None) -> None:
    """Look at a folder, and write what describes it, saying what was taken for what.

    Parameters
    ----------
    out : Path, optional
        The YAML to write, of a folder that cannot be written to; ``competition.yaml`` in it if none
        is given.

    Raises
    ------
    CompkitError
        If it is there already, or the folder has no image.
    """
    target = out or data / OWN
    if target.suffix not in (".yaml", ".yml"):
        raise CompkitError(f"--out {target} is no YAML: end its name in .yaml")
    if os.path.lexists(target):
        raise CompkitError(f"{target} is there already: correct it, or move it away")
    if not data.is_dir():
        raise CompkitError(f"there is no folder {data}: give --data one with images")
    values, told = _guessed(data)
    if out is not None:
        values["folder"] = str(data.resolve())
    comments = ("Written by compkit data init:", *told)
    text = "".join(f"# {' '.join(line.splitlines())}\n" for line in comments)
    text += yaml.safe_dump(values, sort_keys=False, width=95)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, overwrite=False) as temporary:
        temporary.write_text(text, encoding="utf-8")
        read_layout(temporary)
    for line in told:
        say(line)
    describe = f"compkit data describe --data {out or data}"
    say(f"{target}: correct it where that is wrong; then {describe}")


def _guessed(data: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a layout as plain values, and sentences on what was taken for what."""
    known = _shipped(data)
    if known is not None:
        path = Path(__file__).parent / "shipped" / f"{known.name}.yaml"
        line = f"compkit knows this layout: {known.name}, {known.locator}"
        shipped: dict[str, Any] = yaml.safe_load(path.read_text())
        if not (data / shipped["submission"].get("sample", "")).exists():
            del shipped["submission"]["sample"]
        return shipped, [line]
    groups = sorted(_groups(data), key=lambda group: (-group.files, group.pattern))
    if not groups:
        raise CompkitError(f"{data} holds no image ({', '.join(SUFFIXES)}): give --data another")
    require_utf8((group.pattern for group in groups), "a competition")
    labels, images = _parted(groups)
    tests = [group for group in images if _TEST.search(group.pattern)]
    train = next((group for group in images if group not in tests), None)
    name = re.sub(r"[^\w.-]+", "-", data.resolve().name) or "mine"
    values: dict[str, Any] = {"name": name, "images": {}}
    told = []
    for split, group in (("train", train), ("test", next(iter(tests), None))):
        if group is not None:
            values["images"][split] = group.pattern
            told.append(f"{split} images: {len(group.names)}, {group.pattern}")
    found = _labels_of(data, train, labels)
    if found is None:
        told.append("no labels were found: add them, or images are only predicted")
    else:
        values["labels"], line = found
        told.append(line)
    membranes = "labels" in values and "parts" in values["labels"]
    values["ranking"] = "v_rand" if membranes else "average_precision"
    values["submission"] = {"form": "membranes" if membranes else "images"}
    if sample := _run_lengths_of(data, next(iter(tests), None)):
        values["submission"] = {"form": "run_lengths", "sample": sample.pop("file")}
        values["submission"]["run_lengths"] = sample
        told.append(f"submission: run lengths, as in {values['submission']['sample']}")
    told.append("ranking and submission are a guess: see docs/data.md for others")
    return values, told


def _shipped(data: Path) -> Described | None:
    try:
        found = competition_of(str(data))
    except CompkitError:
        return None
    return found if isinstance(found, Described) else None


def _groups(data: Path) -> Iterator[Group]:
    """Yield the images of a folder by their pattern."""
    paths = [p.relative_to(data) for p in _files(data) if p.suffix.lower() in SUFFIXES]
    owners = _image_folders(paths)
    found: dict[str, list[str]] = defaultdict(list)
    flat: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        owner = next((folder for folder in path.parents if folder in owners), None)
        if page_count(data / path) > 1:
            yield Group(path.as_posix(), frozenset({"0"}), 1)
        elif owner is None:
            flat[path.parent].append(path)
        else:
            found[_below(path, owner, owners[owner])].append(owner.name)
    for folder, files in flat.items():
        ends = {_ending(path.stem) for path in files}
        # As of plant1_rgb.png and plant1_label.png; names that only look so have an ending each.
        strip = "" not in ends and len(ends) <= _ENDINGS and len(ends) < len(files)
        for path in files:
            end = _ending(path.stem) if strip else ""
            kinds = {p.suffix for p in files if not strip or _ending(p.stem) == end}
            kind = path.suffix if len(kinds) == 1 else ".*"
            found[(folder / f"{{name}}{end}{kind}").as_posix()].append(path.stem.removesuffix(end))
    for pattern, names in found.items():
        yield Group(pattern, frozenset(names), len(names))


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and depth < _DEPTH:
            yield from _files(entry, depth + 1)
        elif entry.is_file():
            yield entry


def _image_folders(paths: Sequence[Path]) -> dict[Path, frozenset[str]]:
    """Return the folders that are of one image each, with the file names that all beside have."""
    below: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        for folder in list(path.parents)[:-1]:
            below[folder].append(path)
    beside: dict[Path, list[Path]] = defaultdict(list)
    for folder in below:
        beside[folder.parent].append(folder)
    found: dict[Path, frozenset[str]] = {}
    for folders in beside.values():
        if len(folders) < 2 or any(_KINDS.search(folder.name) for folder in folders):
            continue
        own = all(any(p.stem == folder.name for p in below[folder]) for folder in folders)
        common = frozenset.intersection(
            *(frozenset(path.name for path in below[folder]) for folder in folders)
        )
        if own or common:
            found |= dict.fromkeys(folders, common)
    return found


def _below(path: Path, owner: Path, common: frozenset[str]) -> str:
    """Return the pattern of a file below the folder of its image."""
    inside = path.relative_to(owner)
    if path.stem == owner.name:
        file = f"{{name}}{path.suffix}"
    else:  # below a folder of labels, all files are labels, as of several annotators
        told = path.name in common and not _LABELS.search(owner.parent.as_posix())
        file = path.name if told else f"*{path.suffix}"
    return (owner.parent / "{name}" / inside.parent / file).as_posix()


def _ending(stem: str) -> str:
    found = re.search(r"[_-][A-Za-z]\w*$", stem)
    return found[0] if found else ""


def _parted(groups: Iterable[Group]) -> tuple[list[Group], list[Group]]:
    """Return the groups that are labels by what they are called, and the others."""
    labels = [group for group in groups if _LABELS.search(group.pattern)]
    return labels, [group for group in groups if group not in labels]


def _has_two_values(path: Path) -> bool:
    """Whether labels, on all pages, are 0 or one other value."""
    pages = (read_ids(path, page) for page in range(page_count(path)))
    return len({0}.union(*(np.unique(page).tolist() for page in pages))) <= 2


def _labels_of(
    data: Path, train: Group | None, labels: list[Group]
) -> tuple[dict[str, Any], str] | None:
    """Return where labels are, and a sentence on it; None if there are none to be seen."""
    for path in sorted(data.glob("*.json")):
        try:
            values = read_json(path)
        except CompkitError:
            continue
        if isinstance(values, dict) and {"images", "annotations"} <= values.keys():
            return {"coco": path.name}, f"labels: {path.name}, a COCO file"
    fitting = [group for group in labels if train is not None and group.names & train.names]
    stack = [group for group in labels if "{name}" not in group.pattern]
    for group in sorted([*fitting, *stack], key=lambda one: bool(_TEST.search(one.pattern))):
        several = group.files > len(group.names)
        form = "masks" if several else "images"
        two = _has_two_values(_first(data, group.pattern))
        if several and not two:
            pattern = group.pattern.replace("*", ANNOTATOR)
            return {"images": pattern}, f"labels: label images of several annotators, {pattern}"
        if group in stack and two:
            where = {"images": group.pattern, "parts": "split", "blank_is_unlabelled": True}
            return where, (
                f"labels: {group.pattern}, in which each white part is a region; a page without "
                "any has no labels"
            )
        kind = "masks, one a region" if several else "label images, in which each value is a region"
        return {form: group.pattern}, f"labels: {len(group.names)} images' {kind}, {group.pattern}"
    if table := _run_lengths_of(data, train):
        return {"run_lengths": table}, (
            f"labels: {table['file']}, run lengths down columns from 1 (if regions look striped, "
            "say down: false)"
        )
    for path, header, _ in _tables(data):
        if header[0] == "" and len(header) > 1:
            return {"pixels": path.name}, f"labels: {path.name}, a column an image"
    return None


def _first(data: Path, pattern: str) -> Path:
    """Return the first image of a pattern that has some."""
    found = sorted(path for path in matching(data, pattern) if not path.name.startswith("."))
    return next(path for path in found if path.suffix.lower() in SUFFIXES)


def _run_lengths_of(data: Path, images: Group | None) -> dict[str, str] | None:
    """Return the CSV of run lengths of some images, and its columns; None if there is none."""
    for path, header, rows in _tables(data):
        runs = next((column for column in header if re.search("pixel|rle|run", column, re.I)), None)
        image = next((column for column in header if column != runs), None)
        if runs and image and images is not None:
            place = header.index(image)
            told = {row[place] for row in rows if len(row) > place}
            if images.names & (told | {Path(name).stem for name in told}):
                return {"file": path.name, "image": image, "runs": runs}
    return None


def _tables(data: Path) -> Iterator[tuple[Path, list[str], list[list[str]]]]:
    """Yield the CSVs of a folder, their header and their first rows."""
    for path in sorted(filter(Path.is_file, data.glob("*.csv"))):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            try:
                rows = list(islice(csv.reader(file), _ROWS))
            except csv.Error:
                continue
        if rows and rows[0]:
            yield path, rows[0], rows[1:]
