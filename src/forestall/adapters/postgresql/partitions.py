"""Native partitions by time: made when something is written into them, dropped when nothing in them is kept."""

from __future__ import annotations

import re
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
_BOUNDS = re.compile(r"FOR VALUES FROM \('?(-?\d+)'?\) TO \('?(-?\d+)'?\)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def starts_of(table: str, instants: Iterable[int]) -> set[int]:
    """Starts of the partitions that instants lie in."""
    span = SPAN_SECONDS[table]
    return {at - at % span for at in instants}


def make(connection: Connection, table: str, starts: Iterable[int]) -> None:
    """Make those partitions that are not there, in a transaction of its own; nobody who writes or reads waits."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PARTITION_LOCK])
        bounds = _bounds(cursor, table)
        for start in sorted(set(starts)):
            end = start + SPAN_SECONDS[table]
            if any(since <= start and end <= until for _, since, until in bounds):
                continue
            name = _free_name(cursor, table, start)
            cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")


def there(cursor: Cursor, table: str) -> dict[int, str]:
    """Partitions that a table has, by their start; those of other bounds are somebody else's, and left alone."""
    span = SPAN_SECONDS[table]
    bounds = _bounds(cursor, table)
    return {since: name for name, since, until in bounds if since % span == 0 and until - since == span}


def drop(connection: Connection, table: str, starts: Iterable[int], unless: str = "false") -> bool:
    """Drop partitions, each in a transaction of its own, unless a condition (SQL) holds while nobody writes.

    Everybody waits meanwhile, for a few milliseconds. False: somebody reads for long, and the rest is left for
    another time.
    """
    for start in sorted(starts):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '100ms'")
                cursor.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
                ((kept,),) = cursor.execute(
                    f"SELECT {unless.format(since=start, until=start + SPAN_SECONDS[table])}"
                ).fetchall()
                name = there(cursor, table).get(start)
                if name is not None and not kept:
                    cursor.execute(f"DROP TABLE {name}")
        except errors.LockNotAvailable:
            return False
    return True


def _bounds(cursor: Cursor, table: str) -> list[tuple[str, int, int]]:
    """Name (as SQL) of each partition, whoever attached it, and its bounds; one without bounds is left out."""
    rows = cursor.execute(
        "SELECT c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid)"
        " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
        [f"{SCHEMA}.{table}"],
    ).fetchall()
    found = ((name, _BOUNDS.fullmatch(bounds)) for name, bounds in rows)
    return [(name, int(match[1]), int(match[2])) for name, match in found if match]


def _free_name(cursor: Cursor, table: str, start: int) -> str:
    """Name of a new partition; with a number where there is a table of that name, which somebody has detached."""
    plain = name = f"{table}_{_EPOCH + timedelta(seconds=start):%Y%m%d}"
    number = 1
    while cursor.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.{name}"]).fetchall() != [(None,)]:
        number += 1
        name = f"{plain}_{number}"
    return name
