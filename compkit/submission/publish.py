"""A finished submission on disk: the CSV, its manifest, its row in the ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from compkit import __version__
from compkit.competition.table import fill_table
from compkit.errors import CompkitError
from compkit.files import digest_of, json_text, read_json, replacing, require_writable
from compkit.progress import say
from compkit.submission.check import background_only, check_submission
from compkit.submission.ledger import LEDGER, add_row, require_ledger

_MANIFEST_KEYS = {"submission", "sha256", "made", "compkit"}

_ELSEWHERE = "take another --out, or give --overwrite to lose what is there"


def claim(out: Path, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Make sure, before work is spent on it, that a submission may be written to `out`.

    What is not ours is not replaced: ours is a CSV whose manifest beside it tells its digest.

    Parameters
    ----------
    overwrite : bool
        Replace whatever file is there; never the ledger, nor an input.
    inputs : sequence of Path
        Files that the submission is made of.

    Raises
    ------
    CompkitError
        If it must not or cannot be written; or the ledger beside it is none.
    """
    manifest = out.with_suffix(".json")
    _require_place(out, inputs)
    _require_free(manifest, inputs)
    if not overwrite:
        known = _digest_in(manifest, out.name)
        if os.path.lexists(manifest) and known is None:
            raise CompkitError(
                f"{manifest} is there, where the manifest of {out} belongs, and is none: "
                f"{_ELSEWHERE}"
            )
        if os.path.lexists(out) and digest_of(out) != known:
            raise CompkitError(
                f"{out} is there and is no submission as compkit wrote it (its manifest does not "
                f"tell its digest): {_ELSEWHERE}"
            )
    require_ledger(out.with_name(LEDGER))
    require_writable(out.parent)


def claim_table(out: Path, overwrite: bool = False) -> None:
    """Do as `claim` for a CSV without a manifest, which is never known to be ours."""
    _require_place(out)
    if os.path.lexists(out) and not overwrite:
        raise CompkitError(f"{out} is there: {_ELSEWHERE}")
    require_writable(out.parent)


def publish(
    out: Path,
    images: Sequence[str],
    labels: np.ndarray,
    max_label: int,
    made_of: str,
    members: int,
    scores: Mapping[str, float],
    about: Mapping[str, Any],
) -> None:
    """Write a submission to `out`, a manifest (``.json``) and a row in ``ledger.csv`` beside it.

    `claim` tells first whether they may be written. Whenever it is killed, the same command goes on
    from there.

    Parameters
    ----------
    labels : integer ndarray, shape (N, side, side)
    made_of : str
        What it was made of, for the ledger.
    members : int
        How many networks or submissions that are.
    scores : mapping of str to float
        Out-of-fold scores by metric, ``low`` and ``high``, as far as there are any.
    about : mapping
        What else the manifest shall hold.

    Raises
    ------
    CompkitError
        If it is no submission; then nothing is written.
    """
    with replacing(out) as table:
        fill_table(table, images, labels, max_label=max_label, called=out)
        check_submission(table, images, labels.shape[1], max_label)
        digest = digest_of(table)
        identity = {
            "submission": out.name,
            "sha256": digest,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "compkit": __version__,
            "test_images": len(images),
        }
        with replacing(out.with_suffix(".json")) as manifest:
            manifest.write_text(json_text(identity | dict(about)))
            # The manifest takes its place first, and the old table goes before it: after a kill, a
            # table without its own manifest would be taken for somebody else's.
            out.unlink(missing_ok=True)
    add_row(out.with_name(LEDGER), out, digest, made_of, members, scores)
    if bare := background_only(labels):
        say(bare)


def _require_place(out: Path, inputs: Sequence[Path] = ()) -> None:
    """Refuse what can be the place of no CSV of ours, whatever lies there."""
    if out.suffix != ".csv":
        raise CompkitError(f"--out is {out}, but it becomes a CSV: give it a name ending in .csv")
    if out.name.lower() == LEDGER:
        raise CompkitError(f"{out} is the ledger of the submissions: give another --out")
    _require_free(out, inputs)


def _require_free(path: Path, inputs: Sequence[Path]) -> None:
    if path.resolve() in [each.resolve() for each in inputs]:
        raise CompkitError(f"{path} is one of the inputs: give another --out")
    if os.path.lexists(path) and not path.is_file():
        raise CompkitError(f"{path} is there and is no file: give another --out")


def _digest_in(manifest: Path, name: str) -> str | None:
    """Return the digest of the submission `name` by its manifest, if that is one."""
    if not manifest.is_file():
        return None
    try:
        found = read_json(manifest)
    except CompkitError:
        return None
    if not isinstance(found, dict) or not found.keys() >= _MANIFEST_KEYS:
        return None
    return str(found["sha256"]) if found["submission"] == name else None
