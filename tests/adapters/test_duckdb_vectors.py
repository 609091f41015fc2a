"""The store of vectors in DuckDB keeps the contract, beside samples in one file, and after an upgrade."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.duckdb.vectors import DuckdbVectors
from forestall.ports.vectors import Origin, VectorRetention, VectorStore
from forestall.testing.vectors import MONDAY, VectorStoreContract, vectors

RETENTION = VectorRetention(2 * 86_400, 30 * 86_400)


class TestDuckdbVectors(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "forestall.duckdb"

    def make(self, retention: VectorRetention) -> VectorStore:
        return DuckdbVectors(self.path, lambda: MONDAY, retention)

    def reopened(self, store: VectorStore) -> VectorStore:
        store.close()
        return self.make(RETENTION)


def test_samples_and_vectors_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "one.duckdb"
    store, both = DuckdbStore(path, step_seconds=10), DuckdbVectors(path, lambda: MONDAY)
    both.apply(Origin("h", "s", 1), vectors())
    store.maintain(MONDAY)
    both.maintain(MONDAY)
    store.close()
    both.close()
    again = DuckdbVectors(path, lambda: MONDAY)
    assert again.count() == 2
    again.close()


def test_a_file_of_an_older_version_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    DuckdbStore(path, step_seconds=10).close()
    with duckdb.connect(str(path)) as connection:
        for table in ("vector_vm", "layout", "vector", "vector_1h", "vector_pending", "arrived"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE meta SET value = 2 WHERE key = 'version'")
    store = DuckdbVectors(path, lambda: MONDAY)
    assert store.apply(Origin("h", "s", 1), vectors())
    store.close()
