"""What the manifests beside a ledger keep of out-of-fold scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from compkit.errors import CompkitError
from compkit.files import read_json
from compkit.schema import checked

_Score = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold scores of one submission, as a `compkit.ensemble.decoder.Decoder` has them."""

    ranking: str
    image_names: Annotated[tuple[str, ...], Field(min_length=2)]
    image_scores: dict[str, tuple[_Score | None, ...]]
    image_groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        columns = [*self.image_scores.values(), self.image_groups or self.image_names]
        if {len(column) for column in columns} != {len(self.image_names)}:
            raise ValueError("scores or groups are not of its images")


@dataclass(frozen=True)
class _Bare:
    """What is read of any manifest: of which file it is."""

    sha256: str


@dataclass(frozen=True)
class Manifest(_Bare):
    """What is read of one with scores, beside these: of which training data and test it is."""

    data: str
    test_images: Annotated[int, Field(ge=2, lt=1 << 31)]
    out_of_fold: OutOfFold
    test: str = ""  # in older ones, `data` is of the test, too

    @property
    def compares(self) -> tuple[str, ...]:
        """What is alike in submissions whose scores compare: data, test and labelled images."""
        return self.data, self.test, *self.out_of_fold.image_names


def comparable(
    table: pd.DataFrame, folder: Path
) -> tuple[dict[int, Manifest], dict[str, list[int]]]:
    """Return the submissions with scores of the same images, and the others.

    Parameters
    ----------
    table : DataFrame
        From `compkit.leaderboard.ledger.read_ledger`.
    folder : Path
        Where the manifests lie.

    Returns
    -------
    kept : dict of int to Manifest
        By number, those whose images most submissions have; among equals, the latest's. All have
        scores by what ranks the latest.
    left_out : dict of str to list of int
        By reason, the numbers of all others.
    """
    read: dict[int, Manifest] = {}
    left_out: dict[str, list[int]] = {}
    for number, name, sha256 in zip(table.index, table.submission, table.sha256, strict=True):
        found = _read(folder / f"{Path(name).stem}.json", sha256)
        if isinstance(found, str):
            left_out.setdefault(found, []).append(int(number))
        else:
            read[int(number)] = found
    counts = Counter(one.compares for one in reversed(read.values()))
    most = max(counts, key=counts.__getitem__, default=())
    alike = {number: one for number, one in read.items() if one.compares == most}
    metric = alike[max(alike)].out_of_fold.ranking if alike else ""
    kept = {n: one for n, one in alike.items() if metric in one.out_of_fold.image_scores}
    for reason, others in (
        ("other images", read.keys() - alike.keys()),
        (f"no scores by {metric}", alike.keys() - kept.keys()),
    ):
        if others:
            left_out[reason] = sorted(others)
    return kept, left_out


def _read(path: Path, sha256: str) -> Manifest | str:
    """Return what a manifest says of the file `sha256`, or why it says nothing."""
    if not path.is_file():
        return "no manifest"
    try:
        values = read_json(path)
        scored = not isinstance(values, dict) or "out_of_fold" in values
        manifest = checked(Manifest if scored else _Bare, values, str(path), "submit again")
    except CompkitError:
        return "manifest damaged, or without per-image scores"
    if manifest.sha256 != sha256:
        return "manifest of another file of that name"
    return manifest if isinstance(manifest, Manifest) else "no out-of-fold scores, as of a blend"
