"""Volumes as a competition of 2D slices: all of ``compkit data import``."""

from __future__ import annotations

import csv
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import filter as matching
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd

from compkit.competition.described import OWN
from compkit.data.store import Store, open_store
from compkit.errors import CompkitError, nearest
from compkit.files import locked, read_json, replacing, replacing_directory, write_json
from compkit.folds.duplicates import THRESHOLD, details_of
from compkit.inputs import read_text
from compkit.parallel import each_image
from compkit.progress import say
from compkit.schema import read_record, write_record
from compkit.volumes.cases import Case, Volume, find_cases, read_case
from compkit.volumes.classes import class_map, naming
from compkit.volumes.finish import REGIONS, TOLD, Told, anew, finish
from compkit.volumes.organs import Shown, shown
from compkit.volumes.slices import Cut, Look, cuts
from compkit.volumes.target import imitate

#: What is asked for, beside the case folders; and images of a target as they are compared.
_SETTINGS, _TARGET = "import.json", "target.npy"
#: How likely a target's labels show an organ.
_ORGANS = "organs.csv"

#: How slices look where neither a setting nor a target says.
_PLAIN: dict[str, Any] = {
    "size": (512, 512),
    "spacing": 0.8,
    "window": (-160.0, 240.0),
    "planes": {"axial": 1.0},
    "turn": "identity",
}

#: Volumes that a target is compared with.
_VOLUMES = 12


@dataclass(frozen=True)
class Import:
    """What is cut from volumes.

    Parameters
    ----------
    slices : int
        Of a volume, at most.
    classes : Path, optional
        A YAML of organs' new names (`compkit.volumes.classes.class_map`).
    unsure : str
        In which cases what is of no organ in the body may be one: `missing`, those that lack an
        organ's file that others have; or `all`.
    like : str, optional
        A competition's data, whose looks are imitated.
    look : dict
        Attributes of `Look` that are given.
    organs : str
        Which organs become regions: `all`, or `shown`, those that the labels of `like` show.
    seed : int
    """

    slices: int
    classes: Path | None
    unsure: Literal["missing", "all"]
    like: str | None
    look: dict[str, Any]
    organs: Literal["all", "shown"] = "all"
    seed: int = 0


@dataclass(frozen=True)
class _Seen(Look):
    """What ``look.json`` holds: how slices look, what was told of it, and which organs are lost."""

    told: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def import_volumes(folder: Path, out: Path, how: Import) -> None:
    """Cut slices from all volumes in a folder, and make a competition of them.

    The competition is there when its ``competition.yaml`` is, which is written last. Killed and
    called again, it goes on: cases that are whole are not read again. A case that cannot be used
    is told of and left out.

    Raises
    ------
    CompkitError
        If there is no case, none can be used, or `out` is something else.
    """
    if not 1 <= how.slices <= 10_000:
        raise CompkitError(f"--slices {how.slices} is outside 1..10000: choose a number inside")
    cases = find_cases(folder)
    _require_named(cases, how)
    store = open_store(how.like) if how.like is not None else None
    if how.organs == "shown":
        if store is None:
            raise CompkitError("--organs shown needs --like: the data whose labels show them")
        store.require_labels()
    fresh = _claim(out, folder, how)
    with locked(out, f"importing into {out}"):
        if (out / OWN).exists():
            say(f"{out} already holds these slices: nothing to do")
            return
        try:
            look, dropped = _look(cases, out, how, store)
        except CompkitError:
            if fresh:  # what is refused leaves nothing
                shutil.rmtree(out)
            raise
        left = [case for case in cases if not (out / "cases" / case.name).exists()]
        if len(left) < len(cases):
            say(f"{len(cases) - len(left)} of {len(cases)} cases are there already")
        unsure = _unsure(cases, how, dropped)
        work = ((case, out, how, look, dropped, case.name in unsure) for case in left)
        # Reading a volume takes as long as many images.
        faults = [e for e in each_image(_import_case, work, "volumes", len(left), 10**8) if e]
        for fault in faults[:5]:
            say(f"left out: {fault}")
        if len(faults) > 5:
            say(f"and {len(faults) - 5} more, in {out}/cases/*/{TOLD}")
        finish([case.name for case in cases], out, how.like, bool(unsure))


def _require_named(cases: Sequence[Case], how: Import) -> None:
    """Refuse a map that names no organ, where files tell their names."""
    known = sorted({organ for case in cases for organ in case.organs})
    if how.classes is None or not known:
        return
    _, patterns = class_map(how.classes)
    strange = [pattern for pattern in patterns if not matching(known, pattern)]
    if len(strange) == len(patterns):
        hint = nearest(strange[0], known) or f"; there are {', '.join(known[:8])}, …"
        raise CompkitError(f"{how.classes} names no organ of the volumes ({strange[0]}){hint}")
    if strange:
        say(f"{how.classes}: no volume has {', '.join(strange)}")


def _claim(out: Path, folder: Path, how: Import) -> bool:
    """Make the folder, or prove that it is of this very import; return whether it is new."""
    wanted = {"volumes": str(folder.resolve()), **asdict(how)}
    wanted["classes"] = how.classes and read_text(how.classes, "map of organs")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        if not (out / _SETTINGS).is_file():
            raise CompkitError(f"{out} exists and is no import: choose one that does not exist")
        if read_json(out / _SETTINGS, anew(out)) != _plain(wanted):
            raise CompkitError(
                f"{out} was imported otherwise (see {out / _SETTINGS}): delete it, or choose "
                "another folder"
            )
        return False
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / _SETTINGS, _plain(wanted))
    return True


def _plain(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return [_plain(v) for v in values] if isinstance(values, list | tuple) else values


def _look(
    cases: Sequence[Case], out: Path, how: Import, store: Store | None
) -> tuple[Look, frozenset[str]]:
    """Return how slices look: as given, else as the target's do, else plainly; and lost organs."""
    if store is None:
        return Look(**(_PLAIN | how.look)), frozenset()
    kept = out / "look.json"
    if not kept.exists():
        np.save(out / _TARGET, details_of([*store.images, *store.test_images]))
        volumes = _some(cases, how)
        measured = imitate(store, volumes, how.look)
        told, dropped = list(measured.told), list[str]()
        if how.organs == "shown":
            organs = shown(store, volumes, measured.look, how.seed)
            dropped = [one.organ for one in organs if one.dropped]
            told += _told(organs, out)
        write_record(kept, {**asdict(measured.look), "told": told, "dropped": dropped})
    seen = read_record(_Seen, kept, anew(out))
    for line in seen.told:
        say(f"like {how.like}: {line}")
    return seen, frozenset(seen.dropped)


def _some(cases: Sequence[Case], how: Import) -> list[Volume]:
    """Read some volumes to compare with a target."""
    some = np.unique(np.linspace(0, len(cases) - 1, min(_VOLUMES, len(cases))).astype(int))
    volumes, faults = [], list[CompkitError]()
    for index in some.tolist():
        try:
            volumes.append(read_case(cases[index], naming(how.classes)))
        except CompkitError as error:
            faults.append(error)
    volumes = [volume for volume in volumes if volume.labels.any()]
    if not volumes:
        raise faults[0] if faults else CompkitError("no volume shows an organ: give masks")
    return volumes


def _told(organs: Sequence[Shown], out: Path) -> list[str]:
    """Write how likely the target shows each organ as a CSV, and return lines that say it."""
    with replacing(out / _ORGANS) as temporary:
        pd.DataFrame([asdict(one) | {"kept": not one.dropped} for one in organs]).to_csv(
            temporary, index=False, float_format="%.3f"
        )
    parts = {kept: [o for o in organs if o.dropped != kept] for kept in (True, False)}
    return [
        f"{len(part)} organs are {'kept' if kept else 'left out, as its labels do not show them'}: "
        + ", ".join(f"{one.organ} {one.chance:.3f}" for one in part)
        for kept, part in parts.items()
        if part
    ] + [f"numbers are the chance that its labels show an organ; see {out / _ORGANS}"]


def _unsure(cases: Sequence[Case], how: Import, dropped: frozenset[str]) -> set[str]:
    """Return the names of cases that may show organs which they have no mask of."""
    if how.unsure == "all":
        return {case.name for case in cases}
    named = naming(how.classes, dropped)
    held = {case.name: {named(organ) for organ in case.organs} - {None} for case in cases}
    every = set().union(*held.values())
    return {name for name, organs in held.items() if organs and organs < every}


def _import_case(
    case: Case, out: Path, how: Import, look: Look, dropped: frozenset[str], unsure: bool
) -> str | None:
    """Write the slices of a case; return why there are none."""
    place = out / "cases" / case.name
    rng = np.random.default_rng([how.seed, zlib.crc32(case.name.encode())])
    target = np.load(out / _TARGET, mmap_mode="r") if how.like is not None else None
    with replacing_directory(place, only_new=True) as folder:
        slices, near, fault = 0, 0, None
        rows = list[tuple[str, int, str]]()
        try:
            volume = read_case(case, naming(how.classes, dropped))
            for cut in cuts(volume, look, how.slices, rng, unsure):
                if target is not None and (target @ details_of([cut.image])[0]).max() >= THRESHOLD:
                    near += 1
                    continue
                slices += 1
                rows += _write(folder, f"{case.name}-{cut.plane}-{cut.place:04}", cut)
            if not slices and not near:
                fault = f"{case.name} shows no organ in any slice"
        except CompkitError as error:
            fault = str(error)
        with (folder / REGIONS).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        write_record(folder / TOLD, asdict(Told(slices, near, fault)))
    return fault


def _write(folder: Path, name: str, cut: Cut) -> list[tuple[str, int, str]]:
    for kind, pixels in (("images", cut.image), ("labels", cut.labels)):
        (folder / kind).mkdir(exist_ok=True)
        png = cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
        (folder / kind / f"{name}.png").write_bytes(png)
    return [(name, number, organ) for number, organ in enumerate(cut.organs, start=1)]
