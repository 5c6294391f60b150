"""The page of results holds what its records say."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tables_of_trained_networks_are_those_of_their_records(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from answers import tables

    page = (ROOT / "docs" / "results.md").read_text()
    found = tables()
    assert len(found) > 10
    for table in found:
        assert table in page
