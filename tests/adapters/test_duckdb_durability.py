"""What DuckDB stores survives: kills at any moment, full disks, damage, second openers."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest

from forestall.adapters.duckdb import day_files
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.ports.store import Resolution
from forestall.testing.store import DAY, SHORT, assert_same, batch, cpu

PREAMBLE = """
import sys, numpy as np
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.model.errors import StoreError
from forestall.ports.store import Resolution
from forestall.testing.store import DAY, SHORT, batch
path = sys.argv[1]
"""
APPEND = """
store, vms = DuckdbStore(path), [f"vm-{i}" for i in range(1000)]
at = int(sys.argv[2])
while True:
    store.append([batch(at, at + np.arange(1000.0), vms=vms)])
    print(at, flush=True)
    at += 60
"""
MAINTAIN = """
store = DuckdbStore(path, retention=SHORT)
print("go", flush=True)
store.maintain(8 * DAY)
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own."""
    command = [sys.executable, "-c", PREAMBLE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_every_acknowledged_batch_survives_a_kill(tmp_path: Path) -> None:
    dice, path, acknowledged = random.Random(), tmp_path / "s.duckdb", -60
    for _ in range(3):
        with child(APPEND, path, acknowledged + 60) as process:
            assert process.stdout is not None
            for _ in range(dice.randint(1, 100)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        store = DuckdbStore(path)
        trace = store.history(since=0, until=acknowledged + 60)
        store.close()
        order = [int(name.removeprefix("vm-")) for name in trace.vm_ids]
        expected = np.arange(0, acknowledged + 60, 60)[:, None] + np.array(order)
        assert sorted(order) == list(range(1000))
        np.testing.assert_array_equal(trace.demand[Resource.CPU], expected)


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight days of 20 VMs, not maintained yet."""
    path = tmp_path_factory.mktemp("aged") / "s.duckdb"
    store, dice = DuckdbStore(path, step_seconds=300), np.random.default_rng(1)
    vms = [f"vm-{i}" for i in range(20)]
    store.append([batch(at, dice.random(20), limit=at, vms=vms) for at in range(0, 8 * DAY, 300)])
    store.close()
    return path


def held(store: DuckdbStore) -> tuple[Trace, Trace, Trace]:
    """Something of each resolution."""
    return (
        store.history(since=0, until=8 * DAY),
        store.counts(since=0, until=8 * DAY, resolution=Resolution.FIVE_MINUTES),
        store.peaks(since=0, until=8 * DAY, resolution=Resolution.HOUR),
    )


def test_a_kill_while_maintaining_neither_loses_nor_doubles(aged: Path, tmp_path: Path) -> None:
    whole = DuckdbStore(shutil.copy(aged, tmp_path / "whole.duckdb"), retention=SHORT)
    before = held(whole)
    began = time.monotonic()
    whole.maintain(8 * DAY)
    took = time.monotonic() - began
    after = held(whole)
    whole.close()
    dice = random.Random()
    for attempt in range(4):
        path = tmp_path / f"s{attempt}.duckdb"
        shutil.copy(aged, path)
        with child(MAINTAIN, path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=dice.uniform(0.0, took))
            except subprocess.TimeoutExpired:
                process.kill()
        store = DuckdbStore(path, retention=SHORT)
        for trace, one, other in zip(held(store), before, after, strict=True):
            assert_same(trace, other if np.isnan(trace.demand[Resource.CPU]).any() else one)
        store.maintain(8 * DAY)
        for trace, expected in zip(held(store), after, strict=True):
            assert_same(trace, expected)
        store.close()


@pytest.mark.parametrize("step", ["copied", "synced", "renamed"])
def test_a_failure_while_archiving_leaves_the_store_whole(
    aged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = DuckdbStore(shutil.copy(aged, tmp_path / "s.duckdb"), retention=SHORT)
    before, sync = held(store), day_files._sync

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "day.tmp")

    with monkeypatch.context() as patch:
        if step == "copied":
            patch.setattr(day_files, "_sync", lambda p: sync(p) if p.is_dir() else fail())
        elif step == "synced":
            patch.setattr(day_files.os, "replace", fail)
        else:
            patch.setattr(day_files, "_sync", lambda p: fail() if p.name == "s-archive" else sync(p))
        with pytest.raises(StoreError, match="No space left on device"):
            store.maintain(8 * DAY)
    for one, other in zip(held(store)[:1], before[:1], strict=True):
        assert_same(one, other)
    store.append([batch(300, 77.0, vms=("vm-3",))])
    store.maintain(8 * DAY)
    assert cpu(store.history(since=0, until=8 * DAY), "vm-3")[1] == 77.0
    assert not list(tmp_path.glob("s-archive/*.tmp"))
    store.close()


def test_the_archive_is_a_demand_trace_in_order(aged: Path, tmp_path: Path) -> None:
    store = DuckdbStore(shutil.copy(aged, tmp_path / "s.duckdb"), retention=SHORT)
    store.maintain(8 * DAY)
    store.close()
    files = sorted((tmp_path / "s-archive").iterdir())
    assert [f.name for f in files] == [f"1970-01-0{day}.parquet" for day in range(1, 7)]
    rows = duckdb.sql(f"SELECT vm_id, timestamp, cpu_cores, cpu_limit_cores FROM '{files[0]}'").fetchall()
    assert len(rows) == 20 * 288
    assert rows == sorted(rows)
    compression = duckdb.sql(f"SELECT DISTINCT compression FROM parquet_metadata('{files[0]}')").fetchall()
    assert compression == [("ZSTD",)]


def test_a_new_database_adopts_its_archive(aged: Path, tmp_path: Path) -> None:
    store = DuckdbStore(shutil.copy(aged, tmp_path / "s.duckdb"), retention=SHORT)
    store.maintain(8 * DAY)
    store.close()
    (tmp_path / "s.duckdb").unlink()
    again = DuckdbStore(tmp_path / "s.duckdb", step_seconds=300)
    assert len(again.vm_ids()) == 20
    assert set(cpu(again.counts(since=0, until=8 * DAY, resolution=Resolution.HOUR), "vm-7")) == {12, None}
    again.maintain(8 * DAY)
    assert len(cpu(again.history(since=0, until=6 * DAY), "vm-7")) == 6 * 288
    again.close()


def test_a_second_process_is_told_who_holds_the_file(tmp_path: Path) -> None:
    store = DuckdbStore(tmp_path / "s.duckdb")
    with child("try: DuckdbStore(path)\nexcept StoreError as e: print(e)", tmp_path / "s.duckdb") as process:
        assert process.stdout is not None
        told = process.stdout.read()
    assert told.startswith(f"{tmp_path}/s.duckdb: in use by process {os.getpid()} (")
    assert told.count("\n") == 1
    with pytest.raises(StoreError, match="open already in this process"):
        DuckdbStore(tmp_path / "." / "s.duckdb")
    store.close()
    DuckdbStore(tmp_path / "s.duckdb").close()


FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
store, vms = DuckdbStore(path), [f"vm-{i}" for i in range(1000)]
dice = np.random.default_rng(0)
for at in range(0, 60 * 10_000, 60):
    try:
        store.append([batch(at, dice.random(1000), vms=vms)])
    except StoreError as e:
        print(e, flush=True)
        break
    print(at, flush=True)
"""


def test_a_full_disk_is_reported_and_costs_nothing_acknowledged(tmp_path: Path) -> None:
    with child(FULL_DISK, tmp_path / "s.duckdb") as process:
        assert process.stdout is not None
        *acknowledged, told = process.stdout.read().splitlines()
    assert told.startswith(f"{tmp_path}/s.duckdb: ")
    store = DuckdbStore(tmp_path / "s.duckdb")
    seen = cpu(store.history(since=0, until=int(acknowledged[-1]) + 60), "vm-1")
    assert len(seen) == len(acknowledged)
    assert None not in seen
    store.close()


def test_damage_is_reported(aged: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreError, match=r"s\.duckdb: is not a DuckDB database, or is damaged"):
        DuckdbStore(path)
    for cut in (100, 5000, 20_000):
        path.write_bytes(aged.read_bytes()[:cut])
        with pytest.raises(StoreError, match=r"s\.duckdb: [^\n]*$"):
            DuckdbStore(path)


def test_damage_inside_the_file_is_reported_when_it_is_met(aged: Path, tmp_path: Path) -> None:
    content, path = bytearray(aged.read_bytes()), tmp_path / "s.duckdb"
    content[12288:] = bytes(len(content) - 12288)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"s\.duckdb: [^\n]*$"):
        DuckdbStore(path).history(since=0, until=DAY)


def test_a_damaged_archive_is_reported(aged: Path, tmp_path: Path) -> None:
    store = DuckdbStore(shutil.copy(aged, tmp_path / "s.duckdb"), retention=SHORT)
    store.maintain(8 * DAY)
    (tmp_path / "s-archive" / "1970-01-02.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=r"1970-01-02\.parquet"):
        store.history(since=0, until=8 * DAY)
    assert cpu(store.history(since=0, until=300), "vm-1") != []
    store.close()


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="directory"):
        DuckdbStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        DuckdbStore(tmp_path / "file" / "s.duckdb")
    with duckdb.connect(str(tmp_path / "foreign.duckdb")) as other:
        other.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(StoreError, match="not one of Forestall's"):
        DuckdbStore(tmp_path / "foreign.duckdb")


def test_a_newer_schema_and_another_step_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    DuckdbStore(path, step_seconds=300).close()
    with pytest.raises(StoreError, match="is sampled every 300 s, not every 60 s"):
        DuckdbStore(path, step_seconds=60)
    store = DuckdbStore(path)
    assert store.step_seconds == 300
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.vm_ids()
    with duckdb.connect(str(path)) as database:
        database.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
    with pytest.raises(StoreError, match=r"newer Forestall \(schema 99"):
        DuckdbStore(path)


def test_reading_while_writing_and_maintaining(tmp_path: Path) -> None:
    store = DuckdbStore(tmp_path / "s.duckdb", step_seconds=3600, retention=SHORT)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for at in range(0, 6 * DAY, 3600):
                store.append([batch(at, at, vms=("a", "b"))])
                if at % (DAY // 2) == 0:
                    store.maintain(at)
        except StoreError as error:  # handed to the test's own thread
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while writer.is_alive():
        values = [x for x in cpu(store.history(since=0, until=10 * DAY)) if x is not None]
        assert values == list(range(0, 3600 * len(values), 3600))
        assert len(values) >= seen
        seen = len(values)
    writer.join()
    store.close()
    assert not failures
