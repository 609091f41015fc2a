from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.simulated.memory_store import MemoryStore
from forestall.ports.store import BehaviourStore, Retention
from forestall.testing.store import StoreContract, StoreMaker


class TestMemoryStore(StoreContract):
    persistent = False

    @pytest.fixture
    def make(self) -> StoreMaker:
        return MemoryStore


class TestDuckdbStore(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[StoreMaker]:
        opened: list[BehaviourStore] = []

        def open_store(*, step_seconds: int = 60, retention: Retention | None = None) -> BehaviourStore:
            opened.append(DuckdbStore(tmp_path / "s.duckdb", step_seconds=step_seconds, retention=retention))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()
