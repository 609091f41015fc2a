from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from forestall.adapters.duckdb import day_files
from forestall.adapters.duckdb.journal import DuckdbJournal
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.model.decision import Aftermath, Decision, Outcome, Restoration
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.ports.journal import RETENTION_SECONDS, Journal
from forestall.testing.journal import FULL, JournalContract, decision, outcome
from forestall.testing.store import batch, cpu

DAY = 86_400
DAYS = 6
SHORT = 2 * DAY
"""A retention in tests."""


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


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six days of two VMs, decided on every six hours, not maintained yet; outcomes in cycles of their own."""
    path = tmp_path_factory.mktemp("aged") / "j.duckdb"
    journal = DuckdbJournal(path)
    for at in range(0, DAYS * DAY, DAY // 4):
        journal.record([decision("a", at, at), decision("b", at, at)])
        journal.record([], [outcome("a"), outcome(f"b at {at}")])
    journal.close()
    return path


def held(journal: Journal) -> tuple[list[Decision], list[Outcome]]:
    return list(journal.decisions()), list(journal.outcomes())


def rows(path: Path) -> tuple[int, int]:
    """Decisions and outcomes that are still in the database."""
    with duckdb.connect(str(path), read_only=True) as database:
        counts = [database.execute(f"SELECT count(*) FROM {table}").fetchall() for table in ("decision", "outcome")]
    return counts[0][0][0], counts[1][0][0]


def test_days_past_their_retention_move_to_files_of_their_own(aged: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(aged, tmp_path / "j.duckdb"))
    journal = DuckdbJournal(path, retention_seconds=SHORT)
    before = held(journal)
    journal.maintain(DAYS * DAY + DAY // 2)
    assert held(journal) == before
    journal.close()
    files = {folder.name: sorted(f.name for f in folder.iterdir()) for folder in (tmp_path / "j-journal").iterdir()}
    four = [f"1970-01-0{day}.parquet" for day in range(1, 5)]
    assert files == {"decision": four, "outcome": four}
    # The outcomes of the last of 16 cycles before the horizon were recorded after its decisions: they wait.
    assert rows(path) == (16, 18)
    kept = duckdb.sql(f"SELECT in_force_at, cycle FROM '{tmp_path}/j-journal/decision/1970-01-02.parquet'").fetchall()
    assert kept == [(DAY + i * DAY // 4, 9 + 2 * i) for i in range(4) for _ in "ab"]


def test_by_default_a_season_is_kept(tmp_path: Path) -> None:
    journal = DuckdbJournal(tmp_path / "j.duckdb")
    journal.record([decision("a", 0)])
    journal.maintain(RETENTION_SECONDS + DAY - 1)
    assert not (tmp_path / "j-journal").exists()
    journal.maintain(RETENTION_SECONDS + DAY)
    assert (tmp_path / "j-journal" / "decision" / "1970-01-01.parquet").exists()
    journal.close()


def test_a_clock_that_was_set_wrong_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "j.duckdb"
    journal = DuckdbJournal(path, retention_seconds=SHORT)
    recorded = [decision("a", at) for at in (0, 3000 * DAY, DAY, 10 * DAY, 300)]
    for each in recorded:
        journal.record([each])
        journal.record([], [outcome(f"after {each.in_force_at}")])
    before = held(journal)
    journal.maintain(5 * DAY)
    assert held(journal) == before
    assert journal.explain("a") == [recorded[1]]
    assert journal.explain("a", 10 * DAY) == [recorded[3]]
    journal.close()
    assert rows(path) == (0, 1)


def test_a_new_database_adopts_its_archive(aged: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(aged, tmp_path / "j.duckdb"))
    journal = DuckdbJournal(path, retention_seconds=SHORT)
    journal.maintain(DAYS * DAY)
    old = list(journal.decisions(until=4 * DAY))
    journal.close()
    path.unlink()
    again = DuckdbJournal(path, retention_seconds=SHORT)
    assert list(again.decisions()) == old
    again.record([FULL])
    assert list(again.decisions()) == [*old, FULL]
    again.maintain(100 * DAY)
    assert list(again.decisions()) == [*old, FULL]
    again.close()


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize("step", ["_sync", "replace"])
def test_a_failure_while_archiving_leaves_the_journal_whole(
    aged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
    journal = DuckdbJournal(shutil.copy(aged, tmp_path / "j.duckdb"), retention_seconds=SHORT)
    before, calls = held(journal), iter(range(1, 1000))
    owner = day_files if step == "_sync" else day_files.os
    whole = getattr(owner, step)

    def fail(*arguments: object) -> None:
        if next(calls) == call:
            raise OSError(28, "No space left on device", "day.tmp")
        whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(StoreError, match="No space left on device"):
            journal.maintain(DAYS * DAY)
    assert held(journal) == before
    journal.record([FULL], [outcome("late")])
    journal.maintain(DAYS * DAY)
    assert held(journal) == ([*before[0], FULL], [*before[1], outcome("late")])
    assert not list(tmp_path.rglob("*.tmp"))
    journal.close()


MAINTAIN = f"""
import sys
from forestall.adapters.duckdb.journal import DuckdbJournal
journal = DuckdbJournal(sys.argv[1], retention_seconds={SHORT})
print("go", flush=True)
journal.maintain({DAYS * DAY})
"""


def test_a_kill_while_archiving_neither_loses_nor_doubles(aged: Path, tmp_path: Path) -> None:
    whole = DuckdbJournal(shutil.copy(aged, tmp_path / "whole.duckdb"), retention_seconds=SHORT)
    expected, began = held(whole), time.monotonic()
    whole.maintain(DAYS * DAY)
    took = time.monotonic() - began
    whole.close()
    dice = random.Random(7)
    for attempt in range(3):
        path = shutil.copy(aged, tmp_path / f"j{attempt}.duckdb")
        command = [sys.executable, "-c", MAINTAIN, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=dice.uniform(0.0, took))
            except subprocess.TimeoutExpired:
                process.kill()
        journal = DuckdbJournal(path, retention_seconds=SHORT)
        assert held(journal) == expected
        journal.maintain(DAYS * DAY)
        assert held(journal) == expected
        journal.close()


def test_a_damaged_file_is_reported(aged: Path, tmp_path: Path) -> None:
    journal = DuckdbJournal(shutil.copy(aged, tmp_path / "j.duckdb"), retention_seconds=SHORT)
    journal.maintain(DAYS * DAY)
    (tmp_path / "j-journal" / "decision" / "1970-01-02.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=r"1970-01-02\.parquet"):
        list(journal.decisions())
    assert len(list(journal.decisions(since=5 * DAY))) == 8
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


def test_a_journal_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "j.duckdb"
    journal = DuckdbJournal(path)
    journal.record([FULL], [outcome(FULL.vm_id)])
    journal.close()
    with duckdb.connect(str(path)) as old:
        old.execute('DROP TABLE restoration; ALTER TABLE outcome DROP COLUMN "at"; ALTER TABLE decision DROP granted')
        for table in ("vector_vm", "layout", "vector", "vector_1h", "vector_pending", "arrived"):
            old.execute(f"DROP TABLE {table}")
        old.execute("UPDATE meta SET value = 1 WHERE key = 'version'")
    journal = DuckdbJournal(path)
    (read,) = journal.decisions()
    assert math.isnan(read.granted)
    assert read == replace(FULL, granted=read.granted)
    assert journal.aftermath(FULL.vm_id)[Resource.MEMORY] == Aftermath(outcome(FULL.vm_id, at=None))
    restored = Restoration(FULL.vm_id, 5, "stopped")
    journal.record([], (), [restored])
    assert journal.aftermath(FULL.vm_id)[Resource.MEMORY].restored == restored
    journal.close()


def test_a_database_that_is_older_than_its_archive_goes_on_after_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "j.duckdb", tmp_path / "copy"
    recorded = [decision("a", at * 100 * DAY, float(at)) for at in range(1, 6)]
    journal = DuckdbJournal(path)
    journal.record(recorded[:1])
    journal.close()
    shutil.copy(path, copy)
    journal = DuckdbJournal(path)
    for each in recorded[1:4]:
        journal.record([each])
    journal.maintain(1000 * DAY)
    journal.close()
    shutil.copy(copy, path)
    journal = DuckdbJournal(path)
    journal.record(recorded[4:])
    assert list(journal.decisions()) == recorded
    journal.maintain(1000 * DAY)
    assert list(journal.decisions()) == recorded
    journal.close()
