"""Rolls up, archives and drops in small transactions, some seconds of work at a time; others append meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from time import monotonic

import psycopg

from forestall.adapters.postgresql import partitions, reading, schema, writing
from forestall.adapters.postgresql.database import Connection, frozen
from forestall.adapters.sample_rows.columns import ROLLUPS
from forestall.ports.store import Resolution, Retention

WORK_SECONDS = 5.0
"""After so long no other piece of work is begun; one takes seconds itself, at thousands of VMs."""
_PIECE_ROWS = 1_000_000
_DAY, _HOUR = partitions.DAY_SECONDS, reading.HOUR_SECONDS
_CHANGED = (
    "EXISTS (SELECT FROM pending WHERE hour >= {since} AND hour < {until})"
    f" OR EXISTS ({reading.not_packed('{since}', '{until}')})"
)
"""Something of a day is not in the archive: it came since it was packed, which is noted, or that has failed."""


class Maintenance:
    """What one call does; whoever makes it is the only one to maintain the database meanwhile.

    Parameters
    ----------
    connection
        Used for this only.
    retention
        How long each resolution is kept.
    now
        Instant from which that is counted; at most the server's own, so that one clock that is ahead drops nothing.
    step_seconds
        Sampling step.
    """

    def __init__(self, connection: Connection, retention: Retention, now: int, step_seconds: int) -> None:
        self._connection, self._retention, self._step = connection, retention, step_seconds
        ((self._latest, self._vms),) = connection.execute(
            "SELECT extract(epoch FROM now())::bigint, (SELECT count(*) FROM vm)"
        ).fetchall()
        self._now = min(now, self._latest)
        self._until = monotonic() + WORK_SECONDS
        self._failed: psycopg.Error | None = None
        self._begun = self._hindered = False

    def run(self) -> bool:
        """Do what is due as far as time allows; whether more is left.

        A piece that fails does not keep others from being done; its error is raised at the end.
        """
        done = all(self._in_time(pieces()) for pieces in (self._roll_ups, self._days, self._expired))
        if self._failed is not None:
            raise self._failed
        return not done

    def _in_time(self, pieces: Iterable[Callable[[], None]]) -> bool:
        for piece in pieces:
            if self._begun and monotonic() >= self._until:
                return False
            self._begun = True
            try:
                piece()
            except psycopg.Error as error:
                if self._connection.closed:
                    raise
                self._failed = self._failed or error
        return True

    def _roll_ups(self) -> Iterable[Callable[[], None]]:
        with self._connection.cursor() as cursor:
            hours = reading.pending(cursor)
        most = max(_PIECE_ROWS * self._step // (_HOUR * max(self._vms, 1)), 1)
        for _, day in groupby(hours, lambda hour: hour // _DAY):
            of_day = list(day)
            for first in range(0, len(of_day), most):
                yield partial(self._roll_up, of_day[first : first + most])

    def _roll_up(self, hours: Sequence[int]) -> None:
        for name in ROLLUPS:
            table = f"rollup_{name}"
            with self._connection.cursor() as cursor:
                kept_from = reading.floor(cursor, name)
                needed = partitions.starts_of(table, [hour for hour in hours if hour + _HOUR > kept_from])
                new = needed - partitions.there(cursor, table).keys()
            if new:
                partitions.make(self._connection, table, new)
        with frozen(self._connection) as cursor:
            writing.roll_up(cursor, hours)

    def _days(self) -> Iterable[Callable[[], None]]:
        until = (self._now - self._retention.raw_seconds) // _DAY * _DAY
        with self._connection.cursor() as cursor:
            expired = sorted(day for day in partitions.there(cursor, "raw") if day < until)
        if expired:
            partitions.make(self._connection, "archive", partitions.starts_of("archive", expired))
        for day in expired:
            with self._connection.cursor() as cursor:
                hours = reading.hours_to_pack(cursor, day, day + _DAY)
            for hour in hours:
                yield partial(self._pack, hour)
            yield partial(self._drop, "raw", [day], _CHANGED)

    def _pack(self, hour: int) -> None:
        with frozen(self._connection) as cursor:
            writing.pack(cursor, hour)

    def _expired(self) -> Iterable[Callable[[], None]]:
        yield self._drop_expired

    def _drop_expired(self) -> None:
        for name in ROLLUPS:
            self._raise_floor(name)

    def _raise_floor(self, name: str) -> None:
        table = f"rollup_{name}"
        with self._connection.transaction(), self._connection.cursor() as cursor:
            before = reading.floor(cursor, name)
            kept_from = self._retention.floor(Resolution(name), self._now)
            if before <= self._latest:  # else it was set by a clock that was ahead
                kept_from = max(kept_from, before)
            schema.write_meta(cursor, f"floor_{name}", kept_from)
            starts = partitions.there(cursor, table)
        gone = [start for start in starts if start + partitions.SPAN_SECONDS[table] <= kept_from]
        self._drop(table, gone)

    def _drop(self, table: str, starts: Iterable[int], unless: str = "false") -> None:
        """Drop partitions; somebody who reads for long is waited for once only."""
        if not self._hindered:
            self._hindered = not partitions.drop(self._connection, table, starts, unless)
