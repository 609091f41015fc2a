"""Behaviour store on DuckDB: raw samples, their roll-ups, and an archive of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import duckdb

from forestall.adapters.duckdb import reading, schema
from forestall.adapters.duckdb.archive import Archive
from forestall.adapters.duckdb.database import Database
from forestall.adapters.duckdb.day_files import DAY_SECONDS
from forestall.adapters.duckdb.writing import Known, insert, mark_pending, read_known, register, roll_up
from forestall.adapters.sample_rows.columns import COUNT, MEAN, PEAK, ROLLUPS
from forestall.adapters.sample_rows.rows import named, table_of, trace_of
from forestall.model.errors import StoreError
from forestall.model.samples import Trace
from forestall.ports.store import LATEST, Resolution, Retention, SampleBatch

DEFAULT_STEP_SECONDS = 60
_OPEN: WeakValueDictionary[Path, DuckdbStore] = WeakValueDictionary()
"""Stores of this process by file: two that each remember what the other changes would do damage."""


class DuckdbStore:
    """A :class:`~forestall.ports.store.BehaviourStore` in one DuckDB file and a folder beside it.

    May be used from several threads: one writes at a time, readers do not wait for writers. Only one
    process, and in it only one store, may have the file open.

    Parameters
    ----------
    path
        The file; made if it does not exist.
    step_seconds
        Sampling step, a divisor of 3600. It is fixed when the file is made (default 60) and may be left out
        later.
    retention
        How long each resolution is kept.
    archive
        Folder of the archived days; by default ``NAME-archive`` beside the file. A new file adopts what its
        archive already holds, so that a lost database costs only the days that were not archived yet.

    Raises
    ------
    StoreError
        The file cannot be opened, or was made with another sampling step.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        step_seconds: int | None = None,
        retention: Retention | None = None,
        archive: Path | str | None = None,
    ) -> None:
        path = Path(path)
        self._retention = retention or Retention()
        self._archive = Archive(Path(archive) if archive else path.with_name(f"{path.stem}-archive"))
        self._known: Known | None = None
        self._key = path.resolve()
        if self._key in _OPEN:
            raise StoreError(f"{path}: is open already in this process")
        self._database = Database(path)
        try:
            with self._database.transaction() as cursor:
                self._step = self._prepare(cursor, step_seconds)
        except StoreError:
            self._database.close()
            raise
        _OPEN[self._key] = self

    def _prepare(self, cursor: duckdb.DuckDBPyConnection, asked: int | None) -> int:
        step = schema.read_meta(cursor, "step_seconds")
        if step is not None:
            if asked not in (None, step):
                raise StoreError(f"{self._database.path}: is sampled every {step} s, not every {asked} s")
            return step
        step = DEFAULT_STEP_SECONDS if asked is None else asked
        if step < 1 or reading.HOUR_SECONDS % step:
            raise StoreError(f"a sampling step of {step} s does not divide an hour")
        schema.write_meta(cursor, "step_seconds", step)
        if files := self._archive.files(0, LATEST):
            self._archive.adopt(cursor, files)
        return step

    @property
    def step_seconds(self) -> int:
        """Sampling step: the bucket of the raw resolution."""
        return self._step

    def append(self, batches: Sequence[SampleBatch]) -> None:
        """Store samples; they are on the disk when this returns."""
        for batch in batches:
            batch.check()
        names = named(batches)
        if not names:
            return
        with self._database.writing:
            known, self._known = self._known, None  # forgotten for good if anything below fails
            with self._database.transaction() as cursor:
                known = known or read_known(cursor)
                register(cursor, known.ids, names)
                rows = table_of(batches, known.ids, self._step)
                insert(cursor, rows, known)
                mark_pending(cursor, rows, known)
            self._known = known

    def history(
        self,
        *,
        since: int,
        until: int,
        resolution: Resolution = Resolution.RAW,
        vm_ids: Sequence[str] | None = None,
    ) -> Trace:
        """Samples in ``[since, until)``, from database and archive; means at coarser resolutions."""
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

        Works in small transactions, each leaving the store whole; appends wait for the one in progress.
        """
        with self._database.translated():
            self._archive.tidy()
        with self._database.snapshot() as cursor:
            hours = sorted(reading.pending(cursor))
            expired = cursor.execute(
                "SELECT DISTINCT instant // ? AS day FROM raw WHERE instant < ? ORDER BY day",
                [DAY_SECONDS, (now - self._retention.raw_seconds) // DAY_SECONDS * DAY_SECONDS],
            ).fetchall()
        for day in sorted({hour // DAY_SECONDS for hour in hours}):
            self._roll_up([hour for hour in hours if hour // DAY_SECONDS == day])
        for (day,) in expired:
            with self._database.transaction() as cursor:
                self._archive.write(cursor, day)
                cursor.execute(
                    "DELETE FROM raw WHERE instant >= ? AND instant < ?",
                    [day * DAY_SECONDS, (day + 1) * DAY_SECONDS],
                )
        self._drop_expired(now)

    def close(self) -> None:
        """Write everything into the one file and release it; harmless when repeated."""
        self._database.close()
        if _OPEN.get(self._key) is self:
            del _OPEN[self._key]

    def _roll_up(self, hours: list[int]) -> None:
        with self._database.writing:
            known, self._known = self._known, None
            with self._database.transaction() as cursor:
                roll_up(cursor, self._archive, hours)
            if known is not None:
                known.pending.difference_update(hours)
            self._known = known

    def _drop_expired(self, now: int) -> None:
        with self._database.transaction() as cursor:
            for name in ROLLUPS:
                before = reading.floor(cursor, name)
                kept_from = max(self._retention.floor(Resolution(name), now), before)
                cursor.execute(f"DELETE FROM rollup_{name} WHERE instant < ?", [kept_from])
                if kept_from > before:
                    schema.write_meta(cursor, f"floor_{name}", kept_from)

    def _query(
        self, statistic: str, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None
    ) -> Trace:
        grid = resolution.grid(since, until, self._step)
        span = (min(max(grid.start, 0), LATEST), min(max(grid.at(grid.steps), 0), LATEST))
        with self._database.snapshot() as cursor:
            names = reading.names(cursor)
            chosen = None if vm_ids is None else [n for n, name in names.items() if name in set(vm_ids)]
            if resolution is Resolution.RAW:
                layers = reading.raw_rows(cursor, self._archive, statistic, span, chosen)
            else:
                layers = [reading.rollup_rows(cursor, self._archive, statistic, span, chosen, resolution)]
        return trace_of(layers, grid, names)
