"""Connections to a PostgreSQL database, and what PostgreSQL raises as one clear line."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from forestall.adapters.postgresql.deadline import within
from forestall.adapters.postgresql.schema import SCHEMA
from forestall.model.errors import StoreError

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

_TRIES = 6
_IN_THE_WAY = (errors.SerializationFailure, errors.DeadlockDetected, errors.CheckViolation)
"""What others may cause that write at the same time; the last: they have dropped a partition that was known."""
_MOST_IDLE = 4
_DEFAULTS = {"connect_timeout": "3", "tcp_user_timeout": "10000", "keepalives_idle": "10", "keepalives_interval": "5"}
"""A server that is gone without a word is missed within seconds, where the URL says nothing else."""
APPEND_SECONDS, LONG_SECONDS = 20.0, 40.0
"""So long an operation may take, whatever the server does; both less than VMs' leases. The latter: reads, maintains."""
_SLOW_SECONDS, _REST = 1.0, 10.0
"""After an attempt to connect that took long and failed, none is made for ten times as long."""
_SESSION = f"""
    SET search_path = {SCHEMA};
    SET default_transaction_isolation = 'read committed';
    SET client_min_messages = warning;
    SET jit = off;
    SET max_parallel_workers_per_gather = 0;
    SET work_mem = '64MB';
    SET lock_timeout = '2s';
    SET statement_timeout = '15s';
    SET idle_in_transaction_session_timeout = '15s';
    SET tcp_keepalives_idle = 15;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_SNAPSHOT = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    SET LOCAL statement_timeout = '30s';
    LOCK TABLE ONLY raw, ONLY archive, ONLY rollup_5min, ONLY rollup_1h IN ACCESS SHARE MODE
"""
"""The locks come before the snapshot: what was dropped before them, the snapshot has in the archive."""


class Database:
    """A PostgreSQL database; connects when needed, and anew after a connection was lost.

    May be used from several threads: each works on a connection of its own.

    Parameters
    ----------
    url
        ``postgresql://HOST/NAME`` or a connection string of libpq; what is left out, and passwords, come from libpq's
        environment (``PGHOST``, ``PGSERVICE``, ``PGPASSFILE``, ...).

    Raises
    ------
    StoreError
        libpq does not understand the URL.
    """

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # whose text has the URL in it, and so maybe a password
            raise StoreError("PostgreSQL: the URL of the store is none that libpq understands") from None
        self.where = _where(given)
        self._secret = str(given.get("password") or "")
        unset = {key: value for key, value in _DEFAULTS.items() if f"PG{key.upper()}" not in os.environ}
        self._parameters: dict[str, Any] = {"application_name": "forestall", **unset, **given}
        self._idle: list[Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        self._again_at, self._why = 0.0, ""

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of PostgreSQL into :class:`StoreError`."""
        try:
            yield
        except (psycopg.Error, TimeoutError) as error:
            raise StoreError(f"{self.where}: {self._reason(error)}") from error

    @contextmanager
    def connection(self, seconds: float = APPEND_SECONDS) -> Iterator[Connection]:
        """A connection that nobody else uses, for so long; outside of a transaction each statement is one."""
        with self.translated():
            connection = self._taken()
        try:
            with within(connection, seconds):
                yield connection
        finally:
            self._given_back(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        """Cursor on the state of this moment; what others write meanwhile is not seen."""
        with self.translated(), self.connection(LONG_SECONDS) as connection, frozen(connection) as cursor:
            yield cursor

    def repeated(self, work: Callable[[Connection], None]) -> None:
        """Do some work, again if what others wrote at the same time was in its way."""
        until = monotonic() + APPEND_SECONDS
        with self.translated():
            for left in reversed(range(_TRIES)):
                try:
                    with self.connection(until - monotonic()) as connection:
                        return work(connection)
                except _IN_THE_WAY:
                    if not left:
                        raise

    def close(self) -> None:
        """Release every connection; harmless when repeated."""
        with self._guard:
            self._closed = True
        self._forget()

    def _taken(self) -> Connection:
        with self._guard:
            if self._closed:
                raise StoreError(f"{self.where}: the store is closed")
            if self._idle:
                return self._idle.pop()
        began = monotonic()
        if began < self._again_at:
            raise StoreError(f"{self.where}: {self._why}; is tried again in {self._again_at - began:.0f} s")
        try:
            return self._connected()
        except (psycopg.Error, TimeoutError) as error:
            if (took := monotonic() - began) > _SLOW_SECONDS:
                self._again_at, self._why = began + took * (1.0 + _REST), self._reason(error)
            raise

    def _connected(self) -> Connection:
        connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        try:
            with within(connection, float(_DEFAULTS["connect_timeout"])):
                connection.execute(_SESSION)
        except (psycopg.Error, TimeoutError):
            connection.close()
            raise
        return connection

    def _given_back(self, connection: Connection) -> None:
        if connection.closed:
            self._forget()  # the others are likely lost, too
            return
        at_rest = connection.info.transaction_status is TransactionStatus.IDLE
        with self._guard:
            keep = at_rest and not self._closed and len(self._idle) < _MOST_IDLE
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _forget(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _reason(self, error: psycopg.Error | TimeoutError) -> str:
        primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        text = " ".join(str(primary or error).split())
        return text.replace(self._secret, "***") if self._secret else text


@contextmanager
def frozen(connection: Connection) -> Iterator[Cursor]:
    """Transaction that sees the state of its first statement; what it changes holds when the block is left."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_SNAPSHOT)
        yield cursor


def _where(given: dict[str, Any]) -> str:
    """What a message calls the database; never with a password."""
    if service := given.get("service"):
        return f"PostgreSQL service {service}"
    host, port, name = (given.get(key) for key in ("host", "port", "dbname"))
    place = f"{host or 'the default host'}{f':{port}' if port else ''}"
    return f"PostgreSQL at {place}, database {name or 'of the environment'}"
