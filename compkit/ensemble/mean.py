"""The mean of members' maps, after proof that every member covers every image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from compkit.data.resample import resized
from compkit.errors import CompkitError
from compkit.heads.base import Head
from compkit.inference.maps import Maps, read_maps
from compkit.inference.members import write_member_maps
from compkit.run import Run


def out_of_fold(runs: Sequence[Run], encoder: str | None = None) -> dict[str, list[Maps]]:
    """Return, for every labelled image, the maps of the members that did not see it.

    Raises
    ------
    CompkitError
        If an image lacks a member, has two of one encoder, or runs differ in heads or data.
    """
    prove_alike(runs)
    store = runs[0].store
    names = [store.train[i] for i in store.labelled]
    covered: dict[str, list[Maps]] = {name: [] for name in names}
    for run in runs:
        encoders = {e for e, _ in run.parts(encoder)}
        for e in sorted(encoders):
            seen: dict[str, int] = {}
            for fold in range(run.folds.k):
                maps = read_maps(run.part(e, fold) / "oof")
                for image in maps.images:
                    if image in seen:
                        raise CompkitError(
                            f"{image} is out of fold twice in {run.directory / e} (folds "
                            f"{seen[image]} and {fold}): delete the run and train it again"
                        )
                    seen[image] = fold
                    covered[image].append(maps)
            if missing := [name for name in names if name not in seen]:
                raise CompkitError(
                    f"{run.directory / e} has no out-of-fold maps of {missing[0]} (and "
                    f"{len(missing) - 1} more): run train.py on this run again"
                )
    return covered


def test_members(runs: Sequence[Run], encoder: str | None = None) -> list[Maps]:
    """Return the test maps of every member of the runs, predicted where they are not there yet.

    Raises
    ------
    CompkitError
        If a member is not trained, or does not cover exactly the test images.
    """
    prove_alike(runs)
    wanted = runs[0].store.test
    members = []
    for run in runs:
        for e, fold in run.parts(encoder):
            maps = write_member_maps(run, e, fold, "test")
            if maps.images != wanted:
                raise CompkitError(
                    f"{run.part(e, fold) / 'test'} covers other images than the test set: "
                    "delete it and run the same command again"
                )
            members.append(maps)
    return members


def mean_maps(members: Sequence[Maps], image: str) -> np.ndarray:
    """Return the mean over members of one image's maps, float32 (M, h, w), on the finest grid."""
    side = max(maps.values.shape[-1] for maps in members)
    total = np.zeros((), np.float32)
    for maps in members:
        one = torch.from_numpy(maps.of(image))[None]
        total = total + resized(one, (side, side))[0].numpy()
    return total / len(members)


def common_head(runs: Sequence[Run]) -> Head:
    """Return the head that decodes the mean of the runs' maps: that of the finest grid."""
    return max(runs, key=lambda run: run.side).head()


def prove_alike(runs: Sequence[Run]) -> None:
    """Refuse runs whose maps cannot be averaged, or that are not finished.

    Raises
    ------
    CompkitError
        Naming the run and what to do.
    """
    first = runs[0]
    for run in runs:
        if unfinished := run.unfinished():
            raise CompkitError(
                f"the run {run.name} is not finished (missing: {', '.join(unfinished)}): "
                "run its train.py command again"
            )
        one, other = (r.config.head for r in (first, run))
        if one != other or run.config.partition != first.config.partition:
            raise CompkitError(
                f"the runs {first.name} and {run.name} have different heads "
                f"({one}, {other}) or partition settings: their maps have no mean"
            )
        if run.ranking != first.ranking:
            raise CompkitError(
                f"the runs {first.name} and {run.name} rank by {first.ranking} and {run.ranking}: "
                "submit them one by one"
            )
        if run.store.content != first.store.content:
            raise CompkitError(
                f"the runs {first.name} and {run.name} were made on different data: "
                "submit them one by one"
            )
    if len({run.name for run in runs}) < len(runs):
        raise CompkitError("a run is named twice: name each --run once")
