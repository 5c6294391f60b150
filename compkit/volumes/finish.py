"""What is of all cases of an import, once each is there."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from compkit.competition.described import OWN
from compkit.errors import CompkitError
from compkit.files import replacing
from compkit.progress import say
from compkit.schema import read_record
from compkit.volumes.slices import IGNORED

#: Of each case: what its regions are, and what was left out.
REGIONS, TOLD = "regions.csv", "case.json"


@dataclass(frozen=True)
class Told:
    """What ``case.json`` holds: slices kept, and left out as near-duplicates; or why none is."""

    slices: int
    near_duplicates: int
    fault: str | None


def anew(out: Path) -> str:
    """Return what to do about a damaged import."""
    return f"delete {out} and import again"


def _rows(out: Path, name: str) -> list[tuple[str, str, str]]:
    """Return the image, number and organ of each region of a case."""
    place = out / "cases" / name
    try:
        with (place / REGIONS).open(newline="", encoding="utf-8") as file:
            rows = [(image, number, organ) for image, number, organ in csv.reader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise CompkitError(f"{place / REGIONS} is damaged ({error}): {anew(out)}") from None
    return rows


def finish(names: Sequence[str], out: Path, like: str | None, unsure: bool) -> None:
    """Write what is of all cases; the competition's own file is the last.

    Parameters
    ----------
    names : sequence of str
        Of the cases, each of which lies in ``cases/``.
    like : str, optional
        Whose near-duplicates were left out, for people.
    unsure : bool
        Whether labels have pixels that are `IGNORED`.

    Raises
    ------
    CompkitError
        If no slice can be used, or what lies there is damaged.
    """
    told = {name: read_record(Told, out / "cases" / name / TOLD, anew(out)) for name in names}
    slices = sum(one.slices for one in told.values())
    hits = sum(one.near_duplicates for one in told.values())
    if hits:
        say(f"{hits} slices are left out, as they are near-duplicates of images of {like}")
    if not slices:
        first = next(filter(None, (one.fault for one in told.values())), "all are left out")
        raise CompkitError(f"no slice can be used of {len(names)} cases ({first}): see {out}/cases")
    groups, regions = [("image", "patient")], [("image", "region", "organ")]
    for name, one in told.items():
        rows = _rows(out, name)
        images = dict.fromkeys(image for image, _, _ in rows)
        if one.slices != len(images):
            raise CompkitError(f"{out}/cases/{name} lacks regions of its slices: {anew(out)}")
        regions += rows
        groups += [(image, name) for image in images]
    for file_name, rows_ in (("groups.csv", groups), (REGIONS, regions)):
        with (
            replacing(out / file_name) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows(rows_)
    values = {
        "name": "volumes",
        "images": {"train": "cases/*/images/{name}.png"},
        "labels": {"images": "cases/*/labels/{name}.png", "ignored": IGNORED if unsure else 0},
        "groups": "groups.csv",
        "submission": {"form": "images"},
    }
    with replacing(out / OWN) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False))
    used = sum(one.slices > 0 for one in told.values())
    say(f"{out}: {slices} slices of {used} of {len(names)} cases, {len(regions) - 1} regions")
