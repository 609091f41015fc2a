"""Behaviour store on PostgreSQL: raw samples by day, their roll-ups, and an archive of packed hours."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa

from forestall.adapters.postgresql import partitions, reading, schema, writing
from forestall.adapters.postgresql.database import Connection, Cursor, Database, frozen
from forestall.adapters.sample_rows.columns import COUNT, MEAN, PEAK, ROLLUPS
from forestall.adapters.sample_rows.rows import named, table_of, trace_of
from forestall.model.errors import StoreError
from forestall.model.samples import Trace
from forestall.ports.store import LATEST, Resolution, Retention, SampleBatch

DEFAULT_STEP_SECONDS = 60
_DAY, _HOUR = partitions.DAY_SECONDS, reading.HOUR_SECONDS
_CHANGED = "EXISTS (SELECT FROM pending WHERE hour >= {since} AND hour < {until})"


class PostgresqlStore:
    """A :class:`~forestall.ports.store.BehaviourStore` in a PostgreSQL database, in its schema ``forestall``.

    May be used from several threads, and the database by several processes: nobody who reads waits, and who appends
    waits for those only who append the same samples.

    Parameters
    ----------
    url
        As of :class:`~forestall.adapters.postgresql.database.Database`. The database is there; its user may make a
        schema.
    step_seconds
        Sampling step, a divisor of 3600. It is fixed when the schema is made (default 60) and may be left out later.
    retention
        How long each resolution is kept.

    Raises
    ------
    StoreError
        The database cannot be reached, is of a newer version, or was made with another sampling step.
    """

    def __init__(self, url: str, *, step_seconds: int | None = None, retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._known: writing.Known | None = None
        self._appending = threading.Lock()
        self._database = Database(url)
        try:
            with self._database.translated(), self._database.connection() as connection:
                schema.prepare(connection, self._database.where)
                self._step = self._agreed(connection, step_seconds)
        except StoreError:
            self._database.close()
            raise

    def _agreed(self, connection: Connection, asked: int | None) -> int:
        step = DEFAULT_STEP_SECONDS if asked is None else asked
        if step < 1 or _HOUR % step:
            raise StoreError(f"a sampling step of {step} s does not divide an hour")
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO meta VALUES ('step_seconds', %s) ON CONFLICT (key) DO NOTHING", [step])
        with connection.cursor() as cursor:
            stored = schema.read_meta(cursor, "step_seconds") or step
        if asked not in (None, stored):
            raise StoreError(f"{self._database.where}: is sampled every {stored} s, not every {asked} s")
        return stored

    @property
    def step_seconds(self) -> int:
        """Sampling step: the bucket of the raw resolution."""
        return self._step

    def append(self, batches: Sequence[SampleBatch]) -> None:
        """Store samples; they are on the server's disk when this returns."""
        for batch in batches:
            batch.check()
        if names := named(batches):
            with self._appending:
                self._database.repeated(lambda connection: self._append(connection, names, batches))

    def history(
        self,
        *,
        since: int,
        until: int,
        resolution: Resolution = Resolution.RAW,
        vm_ids: Sequence[str] | None = None,
    ) -> Trace:
        """Samples in ``[since, until)``, from partitions and archive; means at coarser resolutions."""
        return self._query(MEAN, since, until, resolution, vm_ids)

    def peaks(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """Highest sample of each bucket."""
        return self._query(PEAK, since, until, resolution, vm_ids)

    def counts(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """How many samples each bucket holds."""
        return self._query(COUNT, since, until, resolution, vm_ids)

    def vm_ids(self) -> tuple[str, ...]:
        """Every VM that has a stored sample, sorted."""
        with self._database.snapshot() as cursor:
            return tuple(sorted(reading.names(cursor).values()))

    def maintain(self, now: int) -> None:
        """Roll up what changed, archive raw days past their retention, drop roll-ups past theirs.

        Works in small transactions, each leaving the store whole; others append meanwhile. Where another process
        maintains the same database already, nothing is left to do.
        """
        with self._database.translated(), self._database.connection() as connection:
            lock = [schema.MAINTENANCE_LOCK]
            ((alone,),) = connection.execute("SELECT pg_try_advisory_lock(%s)", lock).fetchall()
            if not alone:
                return
            try:
                self._roll_up(connection)
                self._archive(connection, now)
                self._drop_expired(connection, now)
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s)", lock)

    def close(self) -> None:
        """Release every connection; harmless when repeated."""
        self._database.close()

    def _append(self, connection: Connection, names: Sequence[str], batches: Sequence[SampleBatch]) -> None:
        known, self._known = self._known or writing.Known(), None  # forgotten for good if anything below fails
        days = {batch.at - batch.at % _DAY for batch in batches}
        if new := days - known.partitions:
            partitions.make(connection, "raw", new)
            known.partitions |= new
        with connection.transaction(), connection.cursor() as cursor:
            writing.register(cursor, known, names)
            rows = table_of(batches, known.ids, self._step)
            writing.insert(cursor, rows, known)
            writing.mark_pending(cursor, rows)
        self._known = known

    def _roll_up(self, connection: Connection) -> None:
        with connection.cursor() as cursor:
            hours = reading.pending(cursor)
            floors = {name: reading.floor(cursor, name) for name in ROLLUPS}
        for name, kept_from in floors.items():
            table, recent = f"rollup_{name}", [hour for hour in hours if hour + _HOUR > kept_from]
            partitions.make(connection, table, partitions.starts_of(table, recent))
        for day in sorted({hour // _DAY for hour in hours}):
            with frozen(connection) as cursor:
                writing.roll_up(cursor, [hour for hour in hours if hour // _DAY == day])

    def _archive(self, connection: Connection, now: int) -> None:
        until = (now - self._retention.raw_seconds) // _DAY * _DAY
        with connection.cursor() as cursor:
            expired = sorted(day for day in partitions.there(cursor, "raw") if day < until)
        partitions.make(connection, "archive", partitions.starts_of("archive", expired))
        for day in expired:
            with connection.cursor() as cursor:
                hours = reading.sampled_hours(cursor, day, day + _DAY)
            for hour in hours:
                with frozen(connection) as cursor:
                    writing.pack(cursor, hour)
            # What came since then is noted as pending, and in nothing but this partition.
            partitions.drop(connection, "raw", [day], unless=_CHANGED)

    def _drop_expired(self, connection: Connection, now: int) -> None:
        for name in ROLLUPS:
            table = f"rollup_{name}"
            with connection.transaction(), connection.cursor() as cursor:
                kept_from = max(self._retention.floor(Resolution(name), now), reading.floor(cursor, name))
                schema.write_meta(cursor, f"floor_{name}", kept_from)
                starts = partitions.there(cursor, table)
            gone = [start for start in starts if start + partitions.SPAN_SECONDS[table] <= kept_from]
            partitions.drop(connection, table, gone)

    def _query(
        self, statistic: str, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None
    ) -> Trace:
        grid = resolution.grid(since, until, self._step)
        span = (min(max(grid.start, 0), LATEST), min(max(grid.at(grid.steps), 0), LATEST))
        with self._database.snapshot() as cursor:
            names = reading.names(cursor, vm_ids)
            chosen = None if vm_ids is None else list(names)
            layers = self._layers(cursor, statistic, span, chosen, resolution)
        return trace_of(layers, grid, names)

    def _layers(
        self, cursor: Cursor, statistic: str, span: tuple[int, int], vms: list[int] | None, resolution: Resolution
    ) -> list[pa.Table]:
        if resolution is Resolution.RAW:
            return reading.raw_rows(cursor, statistic, span, vms, self._step)
        return [reading.rollup_rows(cursor, statistic, span, vms, resolution)]
