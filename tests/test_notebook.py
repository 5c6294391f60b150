"""The notebook, from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[1] / "notebooks/quickstart.ipynb"


@pytest.mark.slow
def test_the_quickstart_runs_to_a_scored_submission(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="of the dev extra")
    nbclient = pytest.importorskip("nbclient", reason="of the dev extra")
    monkeypatch.setenv("COMPKIT_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(QUICKSTART, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # as it is committed
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    assert (tmp_path / "submissions/quickstart.csv").is_file()
    assert 0 < float(cells[-1].outputs[-1]["data"]["text/plain"]) <= 1
    pictures = [
        cell for cell in cells if any("image/png" in o.get("data", {}) for o in cell.outputs)
    ]
    assert len(pictures) == 4
