from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forestall.adapters.duckdb.journal import DuckdbJournal
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.ports.journal import Journal
from forestall.testing.journal import FULL, JournalContract
from forestall.testing.store import batch, cpu


class TestMemoryJournal(JournalContract):
    persistent = False

    @pytest.fixture
    def make(self) -> Callable[[], Journal]:
        return MemoryJournal


class TestDuckdbJournal(JournalContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Callable[[], Journal]]:
        opened: list[Journal] = []

        def open_journal() -> Journal:
            opened.append(DuckdbJournal(tmp_path / "j.duckdb"))
            return opened[-1]

        yield open_journal
        for journal in opened:
            journal.close()


def test_journal_and_store_share_a_file(tmp_path: Path) -> None:
    store, journal = DuckdbStore(tmp_path / "one.duckdb"), DuckdbJournal(tmp_path / "one.duckdb")
    store.append([batch(0, 1.0)])
    journal.record([FULL])
    store.close()
    assert list(journal.decisions()) == [FULL]
    store = DuckdbStore(tmp_path / "one.duckdb")
    assert cpu(store.history(since=0, until=60)) == [1.0]
    store.close()
    journal.close()
