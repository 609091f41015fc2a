"""A PostgreSQL database that administrators and other processes change while a store is open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from postgresql_server import Server, asked, opened, running_server, told

from forestall.adapters.postgresql import partitions, reading, schema
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.adapters.sample_rows.columns import RAW_COLUMNS, ROLLUP_COLUMNS
from forestall.model.errors import StoreError
from forestall.ports.store import Resolution
from forestall.testing.store import DAY, SHORT, batch, cpu, maintained


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


def test_who_only_looks_does_not_choose_the_step(url: str) -> None:
    with opened(url) as looking:
        assert looking.history(since=0, until=60).vm_ids == ()
        with opened(url, step_seconds=300) as store:
            store.append([batch(0, 1.0)])
        with pytest.raises(StoreError, match=r"is sampled every 300 s, not every 60 s$"):
            looking.append([batch(0, 1.0)])
    with opened(url) as store:
        assert store.step_seconds == 300


def test_a_schema_that_was_made_anew_is_another(url: str) -> None:
    with opened(url) as store:
        store.append([batch(0, 1.0, vms=("a",))])
        told(url, "DROP SCHEMA forestall CASCADE")
        with opened(url) as other:
            other.append([batch(0, 2.0, vms=("b",))])
        store.append([batch(60, 3.0, vms=("a",))])
        trace = store.history(since=0, until=120)
        assert {vm: cpu(trace, vm) for vm in trace.vm_ids} == {"b": [2.0, None], "a": [None, 3.0]}


def test_a_server_that_was_restored_is_another(server: Server, url: str) -> None:
    with opened(url) as store:
        store.append([batch(0, 1.0, vms=("a",))])
        told(url, "TRUNCATE forestall.vm, forestall.raw RESTART IDENTITY")
        server.stop()
        server.start()
        with pytest.raises(StoreError):
            store.history(since=0, until=60)
        with opened(url) as other:
            other.append([batch(0, 2.0, vms=("b",))])
        store.append([batch(60, 3.0, vms=("a",))])
        trace = store.history(since=0, until=120)
        assert {vm: cpu(trace, vm) for vm in trace.vm_ids} == {"b": [2.0, None], "a": [None, 3.0]}


def test_a_sample_of_nobody_is_told(url: str) -> None:
    with opened(url) as store:
        store.append([batch(0, 1.0)])
        told(url, "DELETE FROM forestall.vm")
        with pytest.raises(StoreError, match="of a VM without a name, number 1"):
            store.history(since=0, until=60)


def test_a_newer_schema_is_noticed_by_who_has_it_open(url: str) -> None:
    with opened(url) as store:
        store.append([batch(0, 1.0)])
        told(url, "INSERT INTO forestall.version VALUES (99)")
        for operation in (
            lambda: store.append([batch(0, 2.0)]),
            lambda: store.history(since=0, until=60),
            lambda: store.maintain(0),
        ):
            with pytest.raises(StoreError, match="newer Forestall"):
                operation()
    assert asked(url, "SELECT cpu_cores FROM raw") == [1.0]


@pytest.mark.parametrize("tidied", [False, True])
def test_means_of_odd_values(url: str, tidied: bool) -> None:
    huge = [1e308, 1.7e308, np.inf]
    with opened(url) as store:
        for i, values in enumerate(([5e-324, 0.0], huge, [2.0, 4.0], [-1e308, -1e308], [1e-300, 3.0])):
            store.append([batch(300 * i + 60 * j, value) for j, value in enumerate(values)])
        if tidied:
            maintained(store, 3600)
        means = cpu(store.history(since=0, until=1500, resolution=Resolution.FIVE_MINUTES))
        assert means == [0.0, pytest.approx(1e300), 3.0, pytest.approx(-1e300), 1.5]
        assert cpu(store.peaks(since=300, until=301, resolution=Resolution.FIVE_MINUTES)) == [np.inf]


def test_hours_far_apart_are_read_without_those_between(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store:
        store.append([batch(at, at) for at in range(0, 70 * DAY, DAY)])
        maintained(store, 40 * DAY)
        with store._database.snapshot() as cursor:
            query = reading.samples_of(cursor, [0, 3600, 65 * DAY])
            plan = "\n".join(line for (line,) in cursor.execute(f"EXPLAIN {query}").fetchall())
            rows = cursor.execute(f"SELECT instant FROM ({query}) s ORDER BY 1").fetchall()
    assert rows == [(0,), (65 * DAY,)]
    assert "raw_19700307" in plan
    assert "raw_19700220" not in plan
    assert "archive_19700131" not in plan


def test_many_hours_apart_are_read_in_one_span(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(url, step_seconds=3600) as store:
        store.append([batch(at, at) for at in range(0, 2 * DAY, 3600)])
        maintained(store, 0)
        store.append([batch(at, -1.0) for at in range(0, 2 * DAY, 10_800)])
        seen = [cpu(store.history(since=0, until=2 * DAY, resolution=Resolution.HOUR))]
        monkeypatch.setattr(reading, "_MOST_RUNS", 1)
        seen.append(cpu(store.history(since=0, until=2 * DAY, resolution=Resolution.HOUR)))
    assert seen == [[-1.0 if at % 10_800 == 0 else at for at in range(0, 2 * DAY, 3600)]] * 2


def test_what_comes_between_packing_and_dropping_stays(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = partitions.drop
    with opened(url, step_seconds=3600, retention=SHORT) as store, opened(url) as other:
        store.append([batch(at, at) for at in range(0, 4 * DAY, 3600)])

        def late(connection: Any, table: str, *given: Any) -> bool:
            if (table, given[0]) == ("raw", [0]):
                other.append([batch(7200, 5.0), batch(3600, 6.0, vms=("late",))])
            return drop(connection, table, *given)

        with monkeypatch.context() as patch:
            patch.setattr(partitions, "drop", late)
            store.maintain(4 * DAY)
        for _ in range(2):
            trace = store.history(since=0, until=4 * 3600)
            assert cpu(trace) == [0, 3600, 5, 10800]
            assert cpu(trace, "late") == [None, 6, None, None]
            maintained(store, 4 * DAY)
    assert asked(url, "SELECT count(*) FROM raw WHERE instant < 172800") == [0]


def test_a_clock_that_is_ahead_drops_nothing(url: str) -> None:
    now = int(time.time()) // 3600 * 3600

    def kept() -> list[float | None]:
        return cpu(store.counts(since=now - 3600, until=now, resolution=Resolution.HOUR))

    with opened(url) as store:
        store.append([batch(now - 3600, 1.0)])
        maintained(store, now + 10 * 365 * DAY)
        assert kept() == [1]
        told(url, f"UPDATE forestall.meta SET value = {now + 9 * 365 * DAY} WHERE key LIKE 'floor%'")
        assert kept() == []
        maintained(store, now)
        assert kept() == [1]


def test_a_partition_of_somebody_else_is_left_alone(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store:
        told(
            url,
            'CREATE TABLE forestall."Odd name" (LIKE forestall.raw INCLUDING ALL);'
            f'ALTER TABLE forestall.raw ATTACH PARTITION forestall."Odd name" FOR VALUES FROM (0) TO ({2 * DAY})',
        )
        store.append([batch(at, at) for at in range(0, 6 * DAY, 3600)])
        maintained(store, 6 * DAY)
        assert cpu(store.history(since=0, until=6 * DAY)) == list(range(0, 6 * DAY, 3600))
    assert asked(url, 'SELECT count(*) FROM "Odd name"') == [48]


def test_a_partition_that_somebody_detached_is_not_in_the_way(url: str) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store:
        store.append([batch(0, 1.0)])
        told(url, "ALTER TABLE forestall.raw DETACH PARTITION forestall.raw_19700101")
        store.append([batch(3600, 2.0)])
        maintained(store, 6 * DAY)
        assert cpu(store.history(since=0, until=7200)) == [None, 2.0]
    assert asked(url, "SELECT cpu_cores FROM raw_19700101") == [1.0]


def test_an_administrator_may_make_the_schema(server: Server, url: str) -> None:
    told(url, "CREATE ROLE limited LOGIN; CREATE SCHEMA forestall AUTHORIZATION limited")
    (name,) = asked(url, "SELECT current_database()")
    with opened(f"postgresql:///{name}?host={server.folder}&user=limited", retention=SHORT) as store:
        store.append([batch(0, 1.0)])
        maintained(store, 6 * DAY)
        assert cpu(store.history(since=0, until=60)) == [1.0]


def test_the_schema_has_a_column_for_each_that_is_written(url: str) -> None:
    PostgresqlStore(url).close()
    assert not {"RAW_COLUMNS", "ROLLUP_COLUMNS", "ROLLUPS", "Resource"} & set(vars(schema))  # migrations are frozen
    for table, columns in {
        "raw": RAW_COLUMNS,
        "archive": RAW_COLUMNS,
        "rollup_5min": ROLLUP_COLUMNS,
        "rollup_1h": ROLLUP_COLUMNS,
    }.items():
        query = f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        assert set(columns) <= set(asked(url, query))
