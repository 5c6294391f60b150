"""The ledger: one row a submission, whole whoever writes, refused if it is something else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from compkit.ensemble.decoder import Decoder
from compkit.errors import CompkitError
from compkit.metrics.rand import METRICS
from compkit.submission.ledger import COLUMNS, add_row

SCORES = dict.fromkeys(METRICS, 0.5)
DECODER = Decoder(
    "foreground", "adjusted_all", {}, False, {}, SCORES, dict.fromkeys(SCORES, (0.4, 0.6)), SCORES,
    SCORES, 3,
)  # fmt: skip


def add(ledger: Path, name: str, sha256: str = "a") -> None:
    add_row(ledger, Path(name), sha256, "run", 2, DECODER)


def test_rows_are_appended_once_and_recorded_scores_survive(tmp_path):
    ledger = tmp_path / "ledger.csv"
    add(ledger, "x.csv")
    table = pd.read_csv(ledger)
    assert tuple(table.columns) == COLUMNS
    table["public"] = 0.7619
    table.to_csv(ledger, index=False)
    add(ledger, "x.csv")
    add(ledger, "x.csv", "b")
    table = pd.read_csv(ledger)
    assert table.sha256.tolist() == ["a", "b"]
    assert table.public[0] == 0.7619
    assert pd.isna(table.public[1])


def test_writers_at_once_lose_nothing(tmp_path):
    ledger = tmp_path / "ledger.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(ledger, f"{n}.csv"), range(24)))
    assert sorted(pd.read_csv(ledger).submission) == sorted(f"{n}.csv" for n in range(24))


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ""])
def test_something_else_is_refused_and_left_alone(tmp_path, text):
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(text)
    with pytest.raises(CompkitError, match="is not a ledger"):
        add(ledger, "x.csv")
    assert ledger.read_text() == text
