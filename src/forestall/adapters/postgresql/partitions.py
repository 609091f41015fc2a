"""Native partitions by time: made when something is written into them, dropped when nothing in them is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from psycopg import errors

from forestall.adapters.postgresql.schema import PARTITION_LOCK, SCHEMA

if TYPE_CHECKING:
    from forestall.adapters.postgresql.database import Connection, Cursor

DAY_SECONDS = 86_400
SPAN_SECONDS = {
    "raw": DAY_SECONDS,
    "archive": 30 * DAY_SECONDS,
    "rollup_5min": 30 * DAY_SECONDS,
    "rollup_1h": 365 * DAY_SECONDS,
}
"""How long a partition of each table is, counted from the epoch."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def starts_of(table: str, instants: Iterable[int]) -> set[int]:
    """Starts of the partitions that instants lie in."""
    span = SPAN_SECONDS[table]
    return {at - at % span for at in instants}


def make(connection: Connection, table: str, starts: Iterable[int]) -> None:
    """Make those partitions that are not there, in a transaction of its own; nobody who writes or reads waits."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PARTITION_LOCK])
        for start in sorted(set(starts) - there(cursor, table)):
            name, end = _name(table, start), start + SPAN_SECONDS[table]
            cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")


def there(cursor: Cursor, table: str) -> set[int]:
    """Starts of the partitions that a table has."""
    rows = cursor.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
        [f"{SCHEMA}.{table}"],
    ).fetchall()
    return {_start(name) for (name,) in rows}


def drop(connection: Connection, table: str, starts: Iterable[int], unless: str = "false") -> None:
    """Drop partitions, each in a transaction of its own, unless a condition (SQL) holds while nobody writes.

    Everybody waits meanwhile, for a few milliseconds; where somebody reads for long, it is left for another time.
    """
    for start in sorted(starts):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
                ((kept,),) = cursor.execute(
                    f"SELECT {unless.format(since=start, until=start + SPAN_SECONDS[table])}"
                ).fetchall()
                if not kept:
                    cursor.execute(f"DROP TABLE {_name(table, start)}")
        except errors.LockNotAvailable:
            return


def _name(table: str, start: int) -> str:
    return f"{table}_{_EPOCH + timedelta(seconds=start):%Y%m%d}"


def _start(name: str) -> int:
    day = datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
    return int((day - _EPOCH).total_seconds())
