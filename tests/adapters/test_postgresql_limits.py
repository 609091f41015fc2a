"""The PostgreSQL store where somebody is in its way, or the server hangs: it says so, and does not wait for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import psycopg
import pytest
from postgresql_server import Server, asked, opened, running_server, told

from forestall.adapters.postgresql import database, maintenance, partitions, schema, writing
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.model.errors import StoreError
from forestall.testing.store import DAY, SHORT, batch, cpu, maintained


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for a little only."""
    monkeypatch.setattr(database, "_SESSION", database._SESSION.replace("lock_timeout = '2s'", "lock_timeout = '50ms'"))


HELD = {
    "a partition is made": (
        f"SELECT pg_advisory_xact_lock({schema.PARTITION_LOCK})",
        [lambda store: store.append([batch(5 * DAY, 1.0)])],
    ),
    "a resource is not committed": (
        "INSERT INTO resource VALUES ('cpu')",
        [lambda store: store.append([batch(0, 1.0)])],
    ),
    "raw samples are locked": (
        "LOCK TABLE raw IN ACCESS EXCLUSIVE MODE",
        [
            lambda store: store.append([batch(0, 1.0)]),
            lambda store: store.history(since=0, until=60),
            lambda store: store.maintain(0),
        ],
    ),
}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("held", HELD)
def test_what_others_hold_is_not_waited_for_for_ever(url: str, held: str) -> None:
    statement, operations = HELD[held]
    with opened(url) as store:
        store.append([])
        with psycopg.connect(url) as other:
            other.execute("SET search_path = forestall")
            if "raw" in held:
                told(url, "INSERT INTO forestall.pending VALUES (0)")
            other.execute(statement)
            for operation in operations:
                with pytest.raises(StoreError, match=r"lock timeout$"):
                    operation(store)
        for operation in operations:
            operation(store)


OPERATIONS: dict[str, Callable[[PostgresqlStore], object]] = {
    "append": lambda store: store.append([batch(60, 2.0)]),
    "history": lambda store: store.history(since=0, until=60),
    "maintain": lambda store: store.maintain(0),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_hangs_is_left(url: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "APPEND_SECONDS", 0.3)
    monkeypatch.setattr("forestall.adapters.postgresql.store.LONG_SECONDS", 0.3)
    monkeypatch.setattr(database, "LONG_SECONDS", 0.3)
    with opened(url) as store:
        store.append([batch(0, 1.0)])
        (backend,) = asked(
            url,
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'forestall' AND datname = current_database()",
        )
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="has not answered within"):
                OPERATIONS[operation](store)
        finally:
            os.kill(backend, signal.SIGCONT)
        monkeypatch.undo()
        OPERATIONS[operation](store)
        assert cpu(store.history(since=0, until=60)) == [1.0]


def test_a_server_that_takes_no_connection_is_not_asked_each_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(url) as store:
        now, asked_at = [0.0], []

        def silent(**_: object) -> None:
            asked_at.append(now[0])
            now[0] += 3.0
            raise psycopg.errors.ConnectionTimeout("connection timeout expired")

        monkeypatch.setattr(database, "monotonic", lambda: now[0])
        connect = psycopg.connect
        monkeypatch.setattr(psycopg, "connect", silent)
        store._database._forget()
        for _ in range(10):
            with pytest.raises(StoreError, match="connection timeout expired"):
                store.append([batch(0, 1.0)])
            now[0] += 1.0
        assert asked_at == [0.0]
        now[0] = 33.0
        monkeypatch.setattr(psycopg, "connect", connect)
        store.append([batch(0, 1.0)])


def test_each_connection_has_limits(url: str) -> None:
    with opened(url) as store, store._database.connection() as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchall()[0][0]
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        }
    assert shown == {
        "lock_timeout": "2s",
        "statement_timeout": "15s",
        "idle_in_transaction_session_timeout": "15s",
    }
    assert database.LONG_SECONDS < 60


def test_what_was_appended_is_on_the_disk_whatever_the_server_is_set_to(url: str) -> None:
    (name,) = asked(url, "SELECT current_database()")
    told(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with opened(url) as store, store._database.connection() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchall() == [("on",)]


def test_maintenance_is_done_a_piece_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "WORK_SECONDS", 0.0)
    with opened(url, step_seconds=3600, retention=SHORT) as store:
        store.append([batch(at, at) for at in range(0, 4 * DAY, 3600)])
        calls = 1
        while store.maintain(4 * DAY) and calls < 1000:
            calls += 1
        assert calls > 4 + 2 * 24
        assert asked(url, "SELECT count(*) FROM pending") == [0]
        assert sorted(partitions_of(url)) == ["raw_19700103", "raw_19700104"]
        assert cpu(store.history(since=0, until=4 * DAY)) == list(range(0, 4 * DAY, 3600))


def test_one_day_that_fails_does_not_keep_others_from_being_done(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"roll_up": writing.roll_up, "pack": writing.pack}

    def failing(name: str) -> Callable[..., None]:
        def work(cursor: database.Cursor, of: list[int] | int) -> None:
            if 0 in (of, *(of if isinstance(of, list) else ())):
                cursor.execute("SELECT 1 / 0")
            whole[name](cursor, of)  # type: ignore[operator]

        return work

    with opened(url, step_seconds=3600, retention=SHORT) as store:
        store.append([batch(at, at) for at in range(0, 5 * DAY, 3600)])
        for name in whole:
            with monkeypatch.context() as patch:
                patch.setattr(writing, name, failing(name))
                with pytest.raises(StoreError, match="division by zero"):
                    maintained(store, 5 * DAY)
            assert sorted(partitions_of(url)) == ["raw_19700101", "raw_19700104", "raw_19700105"]
        maintained(store, 5 * DAY)
        assert sorted(partitions_of(url)) == ["raw_19700104", "raw_19700105"]
        assert cpu(store.history(since=0, until=5 * DAY)) == list(range(0, 5 * DAY, 3600))


def test_somebody_who_reads_for_long_is_waited_for_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(url, step_seconds=3600, retention=SHORT) as store, opened(url, retention=SHORT) as other:
        store.append([batch(at, at) for at in range(0, 9 * DAY, 3600)])
        with store._database.snapshot():
            given_up: list[bool] = []
            drop = partitions.drop
            monkeypatch.setattr(partitions, "drop", lambda *given: given_up.append(drop(*given)) or given_up[-1])
            maintained(other, 9 * DAY)
            assert given_up == [False]
            assert len(partitions_of(url)) == 9
            packed: list[int] = []
            monkeypatch.setattr(writing, "pack", lambda _, hour: packed.append(hour))
            maintained(other, 9 * DAY)
            assert packed == []
        maintained(other, 9 * DAY)
        assert len(partitions_of(url)) == 2


def partitions_of(url: str) -> list[str]:
    return asked(url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'raw'::regclass")
