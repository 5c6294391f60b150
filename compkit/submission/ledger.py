"""The ledger: one row for every submission that was made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from compkit.ensemble.decoder import Decoder
from compkit.errors import CompkitError
from compkit.files import locked, replacing
from compkit.metrics.rand import METRICS

COLUMNS = (
    "made", "submission", "sha256", "runs", "members", *METRICS, "low", "high", "public", "private",
)  # fmt: skip


def add_row(
    ledger: Path, submission: Path, sha256: str, runs: str, members: int, decoder: Decoder
) -> None:
    """Append a submission with its out-of-fold scores; public and private scores are unknown yet.

    A submission that is there already, made again to the same bytes, keeps its one row.

    Raises
    ------
    CompkitError
        If the ledger is there and is not one.
    """
    row = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "submission": submission.name,
        "sha256": sha256,
        "runs": runs,
        "members": members,
        **{name: round(decoder.scores[name], 6) for name in METRICS},
        "low": round(decoder.interval[0], 6),
        "high": round(decoder.interval[1], 6),
    }
    with locked(ledger.parent, "writing the ledger", wait=True):
        rows = _read(ledger)
        if any((r["submission"], r["sha256"]) == (submission.name, sha256) for r in rows):
            return
        table = pd.DataFrame([*rows, row], columns=list(COLUMNS))
        with replacing(ledger) as temporary:
            table.to_csv(temporary, index=False)


def _read(ledger: Path) -> list[dict[str, object]]:
    if not ledger.exists():
        return []
    try:
        table = pd.read_csv(ledger, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise CompkitError(f"{ledger} is not a ledger ({error}): move it away") from None
    if tuple(table.columns) != COLUMNS:
        raise CompkitError(f"{ledger} is not a ledger (its columns differ): move it away")
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
