"""A finished submission on disk: the CSV, its manifest, its row in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from compkit import __version__
from compkit.files import write_json
from compkit.submission.check import write_submission
from compkit.submission.ledger import add_row


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
    digest = write_submission(out, images, labels, max_label)
    identity = {
        "submission": out.name,
        "sha256": digest,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "compkit": __version__,
        "test_images": len(images),
    }
    write_json(out.with_suffix(".json"), identity | dict(about))
    add_row(out.parent / "ledger.csv", out, digest, made_of, members, scores)
