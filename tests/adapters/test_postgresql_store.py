"""The PostgreSQL store on a real server: the contract, and what only a server shared by processes can show."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from postgresql_server import Server, asked, opened, running_server, told
from psycopg import errors

from forestall.adapters.postgresql import schema, writing
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.ports.store import BehaviourStore, Resolution, Retention
from forestall.testing.store import DAY, SHORT, StoreContract, StoreMaker, batch, cpu, maintained


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


class TestPostgresqlStore(StoreContract):
    @pytest.fixture
    def make(self, url: str) -> Iterator[StoreMaker]:
        opened: list[BehaviourStore] = []

        def open_store(*, step_seconds: int = 60, retention: Retention | None = None) -> BehaviourStore:
            opened.append(PostgresqlStore(url, step_seconds=step_seconds, retention=retention))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()


PREAMBLE = """
import sys, numpy as np
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.testing.store import DAY, SHORT, batch
url, number = sys.argv[1], int(sys.argv[2])
"""
APPEND_TOGETHER = """
own, shared = [f"own-{number}-{i}" for i in range(50)], [f"shared-{i}" for i in range(50)]
store = PostgresqlStore(url)
print("ready", flush=True)
sys.stdin.readline()
for at in range(0, 60 * 60, 60):
    order = (own + shared)[:: 1 if number else -1]
    store.append([batch(at, [at + len(name) for name in order], vms=order)])
    store.append([batch(at + number, 1000.0 + number, vms=[f"late-{at}"])])
"""
APPEND_FOR_EVER = """
store, vms, at = PostgresqlStore(url), [f"vm-{i}" for i in range(200)], number
while True:
    store.append([batch(at, at + np.arange(200.0), vms=vms)])
    print(at, flush=True)
    at += 60
"""


@contextmanager
def child(code: str, url: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, which ends with the block."""
    command = [sys.executable, "-c", PREAMBLE + code, url, str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def partitions_of(url: str, table: str) -> list[str]:
    return asked(
        url, f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass ORDER BY 1"
    )


def one_line(error: pytest.ExceptionInfo[StoreError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_older_schema_is_brought_up_to_date(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        with opened(url) as store:
            store.append([batch(at, at) for at in (0, 60)])
    assert asked(url, "SELECT number FROM version") == [1]
    with opened(url, retention=SHORT) as store:
        maintained(store, 10 * DAY)
        assert cpu(store.history(since=0, until=120)) == [0, 60]
    assert asked(url, "SELECT number FROM version ORDER BY 1") == list(range(1, len(schema.MIGRATIONS) + 1))


def test_a_step_of_the_schema_that_fails_leaves_what_was_there(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(url) as store:
        store.append([batch(0, 1.0)])
    broken = (*schema.MIGRATIONS, ("CREATE TABLE half (x integer)", "SELECT no_such_thing"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(StoreError, match="no_such_thing"):
            PostgresqlStore(url)
    assert asked(url, "SELECT to_regclass('half')") == [None]
    with opened(url) as store:
        assert cpu(store.history(since=0, until=60)) == [1.0]


def test_a_newer_schema_is_refused(url: str) -> None:
    PostgresqlStore(url).close()
    told(url, "INSERT INTO forestall.version VALUES (99)")
    with pytest.raises(StoreError, match=r"newer Forestall \(schema 99; this one reads up to \d+\)$") as refused:
        PostgresqlStore(url)
    one_line(refused)


def test_another_step_is_refused(url: str) -> None:
    PostgresqlStore(url, step_seconds=300).close()
    with pytest.raises(StoreError, match=r"is sampled every 300 s, not every 60 s$"):
        PostgresqlStore(url, step_seconds=60)
    with opened(url) as store:
        assert store.step_seconds == 300
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.vm_ids()


def test_names_may_be_anything(url: str) -> None:
    names = ["", "nul\0", "\0", "\ud800 half", "\udcff", "long" * 5000, "\\x00", "ünï"]
    with opened(url) as store:
        store.append([batch(0, range(len(names)), vms=names)])
    with opened(url) as store:
        trace = store.history(since=0, until=60)
        assert {name: cpu(trace, name) for name in names} == {name: [i] for i, name in enumerate(names)}
        for name in names:
            assert store.history(since=0, until=60, vm_ids=[name]).vm_ids == (name,)


def test_several_may_make_the_schema_at_once(url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: PostgresqlStore(url), range(6)))
    for store in stores:
        store.append([batch(0, 1.0)])
        store.close()


def test_two_processes_that_append_lose_nothing(url: str) -> None:
    with child(APPEND_TOGETHER, url, 0) as one, child(APPEND_TOGETHER, url, 1) as other:
        for process in (one, other):
            assert line_of(process) == "ready\n"
        for process in (one, other):
            tell(process, "go\n")
        with opened(url) as store:
            while one.poll() is None or other.poll() is None:
                maintained(store, 3600)
                store.history(since=0, until=3600)
        assert (one.wait(), other.wait()) == (0, 0)
    with opened(url) as store:
        trace = store.history(since=0, until=3600)
        for name in [f"{kind}-{i}" for kind in ("own-0", "own-1", "shared") for i in range(50)]:
            assert cpu(trace, name) == [at + len(name) for at in range(0, 3600, 60)]
        assert all(cpu(trace, f"late-{at}")[at // 60] in (1000, 1001) for at in range(0, 3600, 60))
        maintained(store, 3600)
        five = store.counts(since=0, until=3600, resolution=Resolution.FIVE_MINUTES)
        assert {x for vm in trace.vm_ids if "late" not in vm for x in cpu(five, vm)} == {5}
        assert asked(url, "SELECT count(*) FROM pending") == [0]


def test_what_is_in_the_way_of_each_other_is_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    insert, refusals = writing.insert, [errors.DeadlockDetected("deadlock"), errors.SerializationFailure("order")]

    def in_the_way(*given: Any) -> None:
        insert(*given)
        if refusals:
            raise refusals.pop()

    monkeypatch.setattr(writing, "insert", in_the_way)
    with opened(url) as store:
        store.append([batch(0, 1.0)])
        assert cpu(store.history(since=0, until=60)) == [1.0]
        refusals += [errors.DeadlockDetected("deadlock detected")] * 100
        with pytest.raises(StoreError, match="deadlock detected"):
            store.append([batch(60, 1.0, vms=("b",))])
        refusals.clear()
        assert store.vm_ids() == ("a",)
        store.append([batch(60, 2.0, vms=("b",))])
        assert cpu(store.history(since=0, until=120), "b") == [None, 2.0]


def test_every_acknowledged_batch_survives_a_kill_of_who_writes(url: str) -> None:
    acknowledged = -60
    for _ in range(3):
        with child(APPEND_FOR_EVER, url, acknowledged + 60) as process:
            for _ in range(random.randint(1, 30)):
                acknowledged = int(line_of(process))
            process.kill()
            assert process.stdout is not None
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        with opened(url) as store:
            trace = store.history(since=0, until=acknowledged + 60)
        expected = np.arange(0, acknowledged + 60, 60)[:, None] + [int(v.removeprefix("vm-")) for v in trace.vm_ids]
        np.testing.assert_array_equal(trace.demand[Resource.CPU], expected)


def test_a_server_that_is_gone_is_told_and_reached_again(server: Server, url: str) -> None:
    with opened(url) as store:
        for at in range(0, 600, 60):
            store.append([batch(at, at)])
        server.stop()  # at once: what is not in its log on the disk is lost
        for _ in range(2):
            with pytest.raises(StoreError, match=f"^PostgreSQL at {server.folder}, database test_") as lost:
                store.append([batch(600, 600)])
            one_line(lost)
        with pytest.raises(StoreError):
            store.history(since=0, until=600)
        server.start()
        assert cpu(store.history(since=0, until=600)) == list(range(0, 600, 60))
        store.append([batch(600, 600)])
        maintained(store, 660)
        assert cpu(store.history(since=0, until=660)) == list(range(0, 660, 60))


def test_one_lost_connection_costs_one_operation(url: str) -> None:
    with opened(url) as store, opened(url) as other:
        store.append([batch(0, 1.0)])
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forestall'"
        asked(url, f"{ended} AND datname = current_database()")
        for each in (store, other):
            with pytest.raises(StoreError, match=r"terminat|closed"):
                each.append([batch(60, 2.0)])
            each.append([batch(60, 2.0)])
        assert cpu(store.history(since=0, until=120)) == [1.0, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://user:s3cret@127.0.0.1:1/database",
        "postgresql://user:s3cret@host:port:again/database",
        "postgresql://user:s3cret@/x?host=/nowhere&nonsense=s3cret",
        "host=/nowhere user=u password=s3cret dbname=d",
        "s3cret",
    ],
)
def test_a_message_never_has_the_password(wrong: str) -> None:
    with pytest.raises(StoreError, match=r"^PostgreSQL") as refused:
        PostgresqlStore(wrong)
    assert "s3cret" not in one_line(refused)


def test_a_database_that_is_not_there_is_told(server: Server) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist') as refused:
        PostgresqlStore(server.url("nowhere"))
    one_line(refused)


def test_days_are_partitions_and_leave_when_they_are_archived(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store, opened(url, retention=SHORT) as other:
        store.append([batch(at, at) for at in range(0, 6 * DAY, 3600)])
        assert partitions_of(url, "raw") == [f"raw_1970010{day}" for day in range(1, 7)]
        maintained(store, 6 * DAY)
        assert partitions_of(url, "raw") == ["raw_19700105", "raw_19700106"]
        assert partitions_of(url, "archive") == ["archive_19700101"]
        store.append([batch(3600, 9.0)])  # its partition is known to it, and gone
        assert cpu(other.history(since=0, until=6 * DAY)) == [0, 9, *range(7200, 6 * DAY, 3600)]
        maintained(other, 6 * DAY)
        store.append([batch(7200, 8.0)])  # dropped by another
        assert cpu(other.history(since=0, until=4 * 3600)) == [0, 9, 8, 10800]
        maintained(other, 6 * DAY)
        assert partitions_of(url, "raw") == ["raw_19700105", "raw_19700106"]
        assert cpu(store.history(since=0, until=4 * 3600)) == [0, 9, 8, 10800]


def test_roll_ups_past_their_retention_leave_with_their_partitions(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store:
        store.append([batch(at, at) for at in range(0, 3 * 365 * DAY, 10 * DAY)])
        maintained(store, 0)
        assert len(partitions_of(url, "rollup_5min")) == 37
        maintained(store, 3 * 365 * DAY)
        assert partitions_of(url, "rollup_5min") == ["rollup_5min_19721216"]
        assert partitions_of(url, "rollup_1h") == ["rollup_1h_19720101"]
        assert len([x for x in cpu(store.history(since=0, until=3 * 365 * DAY)) if x is not None]) == 110


def test_a_long_look_neither_loses_nor_hinders(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store, opened(url, retention=SHORT) as other:
        store.append([batch(at, at) for at in range(0, 4 * DAY, 3600)])
        with store._database.snapshot() as cursor:
            maintained(other, 4 * DAY)
            assert len(partitions_of(url, "raw")) == 4
            assert cursor.execute("SELECT count(*) FROM raw").fetchall() == [(96,)]
        maintained(other, 4 * DAY)
        assert len(partitions_of(url, "raw")) == 2
        assert cpu(store.history(since=0, until=4 * DAY)) == list(range(0, 4 * DAY, 3600))


def test_reading_while_others_write_and_maintain(url: str) -> None:
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with opened(url, retention=SHORT) as writer:
                for at in range(0, 6 * DAY, 3600):
                    writer.append([batch(at, at, vms=("a", "b"))])
                    if at % (DAY // 2) == 0:
                        maintained(writer, at)
        except StoreError as error:  # handed to the test's own thread
            failures.append(error)

    with opened(url, step_seconds=3600, retention=SHORT) as store:
        thread, seen = threading.Thread(target=write), 0
        thread.start()
        while thread.is_alive():
            values = [x for x in cpu(store.history(since=0, until=10 * DAY)) if x is not None]
            assert values == list(range(0, 3600 * len(values), 3600))
            assert len(values) >= seen
            seen = len(values)
        thread.join()
    assert not failures
