"""The ledger: one row for every submission that was made, and what the platform said of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from compkit.errors import CompkitError, nearest
from compkit.files import locked, replacing
from compkit.metrics.named import REGISTRY
from compkit.metrics.rand import METRICS

#: The ledger's name, beside the submissions.
LEDGER = "ledger.csv"

#: Columns that hold a score or nothing, after those of metrics.
OTHER_SCORES = ("low", "high", "public", "private")
#: Those that every ledger has.
COLUMNS = ("made", "submission", "sha256", "runs", "networks", *METRICS, *OTHER_SCORES)

#: Characters in a cell, at most.
_LONGEST = 10_000

#: What a spreadsheet takes for a formula (OWASP, "CSV injection"), also behind what keeps it from
#: that; and the only such cells that are meant so.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def add_row(
    ledger: Path,
    submission: Path,
    sha256: str,
    runs: str,
    networks: int | None,
    scores: Mapping[str, float],
) -> None:
    """Append a submission with its out-of-fold scores; public and private scores are unknown yet.

    `networks` is how many made it, None where none of ours did.
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
        "networks": "" if networks is None else str(networks),
        **{name: str(round(score, 6)) for name, score in scores.items()},
    }
    with locked(ledger.parent, "writing the ledger", wait=True):
        table = _read(ledger) if os.path.lexists(ledger) else pd.DataFrame(columns=list(COLUMNS))
        if ((table["submission"] == submission.name) & (table["sha256"] == sha256)).any():
            return
        _write(pd.concat([table, pd.DataFrame([row])]), ledger)


def set_scores(ledger: Path, which: str, scores: Mapping[str, float]) -> str:
    """Record scores that the platform gave to one submission; its other scores stay.

    Parameters
    ----------
    which : str
        The row's number from 1, or the submission's file name if only one row has it.
    scores : mapping of str to float
        For ``public``, ``private`` or both, a number from -1 to 1.

    Returns
    -------
    str
        What is recorded now, and what it replaced.

    Raises
    ------
    CompkitError
        If there is no such ledger or row, several rows have that name, or a score is none.
    """
    if not scores:
        raise CompkitError("there is nothing to record: give --public, --private or both")
    for name, score in scores.items():
        if not -1 <= score <= 1:
            raise CompkitError(f"--{name} is {score:g}, but a score is a number from -1 to 1")
    _require(ledger)
    with locked(ledger.parent, "writing the ledger", wait=True):
        table = _read(ledger)
        row = _find(table, which, ledger)
        before = {name: str(table.loc[row, name]) for name in scores}
        for name, score in scores.items():
            table.loc[row, name] = str(score)
        _write(table, ledger)
    said = [f"{n} {s}" + (f" (was {before[n]})" if before[n] else "") for n, s in scores.items()]
    return f"{row} {table['submission'][row]}: {', '.join(said)}"


def read_ledger(ledger: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read all submissions.

    Returns
    -------
    table : DataFrame of str
        The columns `COLUMNS`, and any others that someone added; the index counts from 1.
    scores : DataFrame of float
        Of the same rows as numbers, NaN where a cell is blank: the metrics, the added ones as far
        as they are known here, then `OTHER_SCORES`.

    Raises
    ------
    CompkitError
        If there is no ledger, it is not one, or a score is not a number from -1 to 1.
    """
    _require(ledger)
    table = _read(ledger)
    added = [name for name in REGISTRY.names() if name in table.columns and name not in METRICS]
    cells = table[[*METRICS, *added, *OTHER_SCORES]].apply(lambda column: column.str.strip())
    scores = cells.apply(pd.to_numeric, errors="coerce").astype(float)
    for row, name in _where((cells != "") & ~scores.abs().le(1)):
        raise CompkitError(
            f"{ledger}: {name} of submission {row} is {cells.loc[row, name][:40]!r}, but a "
            "score is a number from -1 to 1: correct that cell"
        )
    return table, scores


def require_ledger(ledger: Path) -> None:
    """Raise `CompkitError` if something is at `ledger` that is no ledger."""
    if os.path.lexists(ledger):
        _read(ledger)


def _require(ledger: Path) -> None:
    if not os.path.lexists(ledger):
        raise CompkitError(f"there is no ledger {ledger}: compkit submit writes one")


def _read(ledger: Path) -> pd.DataFrame:
    if not ledger.is_file():
        raise CompkitError(f"{ledger} is not a ledger (it is no file): move it away")
    try:
        # A spreadsheet may put a byte order mark before the header. What is not UTF-8 stays as it
        # is. Rows may end early.
        cells = pd.read_csv(
            ledger, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            encoding_errors="surrogateescape",
        ).fillna("")  # fmt: skip
    except ValueError as error:
        raise CompkitError(
            f"{ledger} is not a ledger ({' '.join(str(error).split())}): move it away, or see that "
            "no row has more cells than its first line"
        ) from None
    filled = cells[1:].map(str.strip) != ""
    named = (cells.loc[0].str.strip() != "") | filled.any()
    cells, filled = cells.loc[:, named], filled.loc[:, named]
    header = cells.loc[0].replace("members", "networks")  # as it was called
    names = [name if name.strip() else f"Unnamed: {place}" for place, name in header.items()]
    if twice := sorted({name[:40] for name in names if names.count(name) > 1}):
        raise CompkitError(
            f"{ledger} has two columns {twice[0]}: remove or rename one, for both cannot be kept"
        )
    if missing := [name for name in COLUMNS if name not in names]:
        raise CompkitError(
            f"{ledger} is not a ledger (it has no column {missing[0]}): move it away, or restore "
            "its first line, with commas between the columns"
        )
    table = cells[1:][filled.any(axis=1)].set_axis(names, axis=1)
    table = table.set_axis(range(1, len(table) + 1))
    for row, name in _where(table.map(len) > _LONGEST):
        raise CompkitError(
            f"{ledger}: {name[:40]} of submission {row} has {len(table.loc[row, name])} "
            f"characters, of at most {_LONGEST}: correct that cell"
        )
    return table.map(_plain)


def _where(wrong: pd.DataFrame) -> list[tuple[int, str]]:
    """Return the rows and columns of cells, those of the first row first."""
    rows, columns = np.nonzero(wrong.to_numpy(bool))
    return list(zip(wrong.index[rows], wrong.columns[columns], strict=True))


def _write(table: pd.DataFrame, ledger: Path) -> None:
    with replacing(ledger) as temporary:
        table.fillna("").map(_guarded).to_csv(temporary, index=False, errors="surrogateescape")


def _guarded(cell: str) -> str:
    """Return a cell as no spreadsheet runs it; `_plain` undoes this."""
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # which would end the row, unquoted
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _find(table: pd.DataFrame, which: str, ledger: Path) -> int:
    name = Path(which).name
    if which.isdecimal():
        rows = table.index[table.index.astype(str) == which.lstrip("0")]
        lacks = f"{ledger} has {len(table)} submissions, none of them number {which[:40]}"
    else:
        rows = table.index[table["submission"] == name]
        lacks = f"{ledger} has no submission {name}{nearest(name, table['submission'])}"
    if len(rows) > 1:
        raise CompkitError(
            f"{ledger} has several submissions {name}, numbers {', '.join(map(str, rows))}: "
            "name one by its number"
        )
    if not len(rows):
        raise CompkitError(lacks)
    return int(rows[0])
