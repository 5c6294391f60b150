"""A finished submission on disk: the file, its manifest, its row in the ledger."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from compkit import __version__
from compkit.errors import CompkitError
from compkit.files import (
    digest_of,
    read_json,
    refuse_other,
    replacing,
    require_writable,
    write_json,
)
from compkit.inputs import require_utf8
from compkit.intervals import low_high
from compkit.labels.run_lengths import Shapes
from compkit.leaderboard.ledger import LEDGER, add_row, require_ledger
from compkit.progress import say
from compkit.regions import keep_largest
from compkit.root import KINDS
from compkit.schema import checked
from compkit.submission.check import background_only
from compkit.submission.forms import Form

_ELSEWHERE = "take another --out, or give --overwrite to lose what is there"


@dataclass(frozen=True)
class _Identity:
    """What every manifest tells: of which file it is, and of which one that was there before."""

    submission: str
    sha256: str
    made: str
    compkit: str
    replaces: str | None = None
    max_label: int | None = None


def claim(out: Path, form: Form, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Make sure, before work is spent on it, that a submission may be written to `out`.

    What is not ours is not replaced: ours is a file whose manifest beside it tells its digest, as
    its own or, after a kill, as that of the file that was to be replaced.

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
    require_place(out, form, inputs)
    require_utf8((out.name, *map(str, inputs)), "a submission")
    manifest = out.with_suffix(".json")
    _require_free(manifest, inputs)
    if not overwrite:
        found = _identity(manifest)
        known = {found.sha256, found.replaces} if found and found.submission == out.name else {}
        if os.path.lexists(manifest) and not known:
            raise CompkitError(
                f"{manifest} is there, where the manifest of {out} belongs, and is none: "
                f"{_ELSEWHERE}"
            )
        if os.path.lexists(out) and digest_of(out) not in known:
            raise CompkitError(
                f"{out} is there and is no submission as compkit wrote it (its manifest does not "
                f"tell its digest): {_ELSEWHERE}"
            )
    require_ledger(out.with_name(LEDGER))
    require_writable(out.parent)


def claim_labels(out: Path, form: Form, overwrite: bool = False) -> None:
    """Do as `claim` for a file without a manifest, which is ours if it is just what is written."""
    require_place(out, form)
    refuse_other(out, overwrite, form.beginning)
    require_writable(out.parent)


def publish(
    out: Path,
    form: Form,
    shapes: Shapes,
    labels: Sequence[np.ndarray],
    max_label: int,
    made_of: str,
    networks: int | None,
    about: Mapping[str, Any],
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> None:
    """Write a submission to `out`, a manifest (``.json``) and a row in ``ledger.csv`` beside it.

    Whenever it is killed, the same command goes on from there, and either the old submission or the
    new one is whole.

    Parameters
    ----------
    form : Form
        What a submission is.
    shapes : mapping of str to (int, int)
        Of the images, in order.
    labels : sequence of integer ndarray, shape (H, W)
    made_of : str
        What it was made of, for the ledger.
    networks : int or None
        How many made it; None where none of ours did.
    about : mapping
        What else the manifest shall hold; the ledger takes the scores of its ``out_of_fold``.
    overwrite, inputs
        As for `claim`, which is asked again before anything is replaced.

    Raises
    ------
    CompkitError
        If it is no submission, or `out` is not ours to write to; then nothing is written.
    """
    images = list(shapes)
    with replacing(out) as table:
        form.fill(table, images, labels, max_label, out)
        form.check(table, shapes, max_label)
        digest = digest_of(table)
        claim(out, form, overwrite, inputs)
        identity = _Identity(
            submission=out.name,
            sha256=digest,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            compkit=__version__,
            replaces=digest_of(out) if out.exists() else None,
            max_label=max_label,
        )
        # The manifest takes its place first: a table whose manifest does not know it would be taken
        # for somebody else's.
        about = {**asdict(identity), "test_images": len(images), **about}
        write_json(out.with_suffix(".json"), about)
    add_row(out.with_name(LEDGER), out, digest, made_of, networks, _scores(about))
    if bare := background_only(labels):
        say(bare)


def _scores(about: Mapping[str, Any]) -> dict[str, float]:
    """Return the out-of-fold scores for the ledger, if there are any."""
    if not (found := about.get("out_of_fold")):
        return {}
    return found["scores"] | low_high(found["intervals"][found["ranking"]])


def at_most(limit: int, maps: Iterable[np.ndarray], parts: str = "regions") -> list[np.ndarray]:
    """Return label maps, (H, W) each, with their `limit` largest regions; say what is lost.

    Parameters
    ----------
    parts : str
        What the regions are called, for people.
    """
    labels, over = [], 0
    for each in maps:
        kept, dropped = keep_largest(each, limit)
        labels.append(kept.astype(np.min_scalar_type(limit)))
        over += dropped > 0
    if over:
        say(f"{over} images had more than {limit} {parts}: their smallest became background")
    return labels


def limit_of(submission: Path) -> int | None:
    """Return the highest id that a submission may hold, if a manifest beside it tells."""
    found = _identity(submission.with_suffix(".json"))
    return found.max_label if found and found.sha256 == digest_of(submission) else None


def require_place(out: Path, form: Form, inputs: Sequence[Path] = ()) -> None:
    """Refuse what can be the place of no submission of ours, whatever lies there."""
    controls = any(unicodedata.category(character) == "Cc" for character in out.name)
    among_images = out.absolute().parent.name in ("X_train", "X_test")
    in_run = any((out.parent / marker).is_file() for marker in KINDS)
    for wrong, why in (
        (
            out.suffix != form.suffix,
            f"becomes a submission: give it a name ending in {form.suffix}",
        ),
        (controls, "has control characters, which the ledger would keep: take another name"),
        (among_images, "would lie among a competition's images: give another --out"),
        (in_run, "would lie among the files of a run or study: give another --out"),
        (out.name.lower() == LEDGER, "is the ledger of the submissions: give another --out"),
    ):
        if wrong:
            raise CompkitError(f"{out} {why}")
    _require_free(out, inputs)


def _require_free(path: Path, inputs: Sequence[Path]) -> None:
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise CompkitError(f"{path} is one of the inputs: give another --out")
    with suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()  # which raises what `os.path.lexists` passes over, as of a name too long
        if not path.is_file():
            raise CompkitError(f"{path} is there and is no file: give another --out")


def _identity(manifest: Path) -> _Identity | None:
    """Return what a manifest tells, or None where there is none."""
    with suppress(CompkitError):
        return checked(_Identity, read_json(manifest), str(manifest), _ELSEWHERE)
    return None
