"""Behaviour store on PostgreSQL: raw samples by day, their roll-ups, and an archive of packed hours."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa

from forestall.adapters.postgresql import partitions, reading, schema, writing
from forestall.adapters.postgresql.database import APPEND_SECONDS, LONG_SECONDS, Connection, Cursor, Database
from forestall.adapters.postgresql.maintenance import Maintenance
from forestall.adapters.sample_rows.columns import COUNT, MEAN, PEAK
from forestall.adapters.sample_rows.rows import named, table_of, trace_of
from forestall.model.errors import StoreError
from forestall.model.samples import Trace
from forestall.ports.store import LATEST, Resolution, Retention, SampleBatch

DEFAULT_STEP_SECONDS = 60
_DAY, _HOUR = partitions.DAY_SECONDS, reading.HOUR_SECONDS


def refuse_unfit(url: str, step_seconds: int | None = None) -> None:
    """Raise :class:`StoreError` if a store cannot be opened in a database; change nothing."""
    database = Database(url)
    try:
        with database.translated(), database.connection() as connection, connection.cursor() as cursor:
            if schema.is_there(cursor):
                schema.state(cursor, database.where, step_seconds)
    finally:
        database.close()


class PostgresqlStore:
    """A :class:`~forestall.ports.store.BehaviourStore` in a PostgreSQL database, in its schema ``forestall``.

    May be used from several threads, and the database by several processes: nobody who reads waits, and who appends
    waits for those only who append the same samples. Nobody waits for ever: an operation ends within
    :data:`~forestall.adapters.postgresql.database.LONG_SECONDS`, if need be with a :class:`StoreError`.

    Parameters
    ----------
    url
        As of :class:`~forestall.adapters.postgresql.database.Database`. The database is there; its user may make a
        schema.
    step_seconds
        Sampling step, a divisor of 3600. It is fixed by who first gives it, or appends (default 60), and may be left
        out later.
    retention
        How long each resolution is kept.

    Raises
    ------
    StoreError
        The database cannot be reached, is of a newer version, or was made with another sampling step.
    """

    def __init__(self, url: str, *, step_seconds: int | None = None, retention: Retention | None = None) -> None:
        if step_seconds is not None and (step_seconds < 1 or _HOUR % step_seconds):
            raise StoreError(f"a sampling step of {step_seconds} s does not divide an hour")
        self._retention = retention or Retention()
        self._known = writing.Known()
        self._appending = threading.Lock()
        self._database = Database(url)
        try:
            with self._database.translated(), self._database.connection() as connection:
                schema.prepare(connection, self._database.where)
                with connection.transaction(), connection.cursor() as cursor:
                    stored = schema.state(cursor, self._database.where, step_seconds).step_seconds
                    self._step = step_seconds or stored or DEFAULT_STEP_SECONDS
                    if step_seconds is not None:
                        self._fixed(cursor)
        except StoreError:
            self._database.close()
            raise

    def _looked_at(self, cursor: Cursor) -> schema.State:
        return schema.state(cursor, self._database.where, self._step)

    def _fixed(self, cursor: Cursor) -> schema.State:
        """The database as it is now; its step is chosen if it was not."""
        state = self._looked_at(cursor)
        if state.step_seconds is None:
            schema.fix_step(cursor, self._step)
            state = self._looked_at(cursor)
        return state

    @property
    def step_seconds(self) -> int:
        """Sampling step: the bucket of the raw resolution."""
        return self._step

    def append(self, batches: Sequence[SampleBatch]) -> None:
        """Store samples; they are on the server's disk when this returns."""
        for batch in batches:
            batch.check()
        if names := named(batches):
            if not self._appending.acquire(timeout=APPEND_SECONDS):
                raise StoreError(f"{self._database.where}: is still busy with what was appended before")
            try:
                self._database.repeated(lambda connection: self._append(connection, names, batches))
            finally:
                self._appending.release()

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
            self._looked_at(cursor)
            return tuple(sorted(reading.names(cursor).values()))

    def maintain(self, now: int) -> bool:
        """Roll up what changed, archive raw days past their retention, drop roll-ups past theirs; for some seconds.

        Each transaction leaves the store whole; others append meanwhile. Where another process maintains the same
        database already, nothing is left to do.

        Returns
        -------
        bool
            More is left to do soon.
        """
        with self._database.translated(), self._database.connection(LONG_SECONDS) as connection:
            lock = [schema.MAINTENANCE_LOCK]
            ((alone,),) = connection.execute("SELECT pg_try_advisory_lock(%s)", lock).fetchall()
            if not alone:
                return False
            try:
                with connection.cursor() as cursor:
                    self._looked_at(cursor)
                return Maintenance(connection, self._retention, now, self._step).run()
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s)", lock)

    def close(self) -> None:
        """Release every connection; harmless when repeated."""
        self._database.close()

    def _append(self, connection: Connection, names: Sequence[str], batches: Sequence[SampleBatch]) -> None:
        known, self._known = self._known, writing.Known()  # forgotten for good if anything below fails
        days = {batch.at - batch.at % _DAY for batch in batches}
        if new := days - known.partitions:
            partitions.make(connection, "raw", new)
            known.partitions |= new
        with connection.transaction(), connection.cursor() as cursor:
            state = self._fixed(cursor)
            if known.identity != state.identity:
                known = writing.Known(state.identity, partitions=days)
            writing.register(cursor, known, names)
            rows = table_of(batches, known.ids, self._step)
            writing.insert(cursor, rows, known)
            writing.mark_pending(cursor, rows)
        self._known = known

    def _query(
        self, statistic: str, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None
    ) -> Trace:
        grid = resolution.grid(since, until, self._step)
        span = (min(max(grid.start, 0), LATEST), min(max(grid.at(grid.steps), 0), LATEST))
        with self._database.snapshot() as cursor:
            self._looked_at(cursor)
            names = reading.names(cursor, vm_ids)
            chosen = None if vm_ids is None else list(names)
            layers = self._layers(cursor, statistic, span, chosen, resolution)
        try:
            return trace_of(layers, grid, names)
        except KeyError as error:
            raise StoreError(f"{self._database.where}: has samples of a VM without a name, number {error}") from error

    def _layers(
        self, cursor: Cursor, statistic: str, span: tuple[int, int], vms: list[int] | None, resolution: Resolution
    ) -> list[pa.Table]:
        if resolution is Resolution.RAW:
            return reading.raw_rows(cursor, statistic, span, vms, self._step)
        return [reading.rollup_rows(cursor, statistic, span, vms, resolution)]
