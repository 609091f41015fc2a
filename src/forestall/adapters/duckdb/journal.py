"""Journal on DuckDB: decisions, outcomes and restorations, append-only, with an archive of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from forestall.adapters.duckdb.database import Database
from forestall.adapters.duckdb.day_files import DAY_SECONDS
from forestall.adapters.duckdb.journal_archive import JournalArchive, last_cycle
from forestall.adapters.duckdb.journal_rows import (
    DECISION,
    OUTCOME,
    RESTORATION,
    decision_rows,
    outcome_of,
    outcome_rows,
    restoration_of,
    restoration_rows,
)
from forestall.adapters.duckdb.writing import insert_table
from forestall.model.decision import Aftermath, Decision, Outcome, Restoration
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.ports.journal import RETENTION_SECONDS
from forestall.ports.store import LATEST

_PAGE_ROWS = 5000
_WHEN = 'coalesce("at", 0)'
"""Instant of an outcome or a restoration; journals of the first version of the schema have none."""


class DuckdbJournal:
    """A :class:`~forestall.ports.journal.Journal` in a DuckDB file, which may be the behaviour store's.

    Decisions and outcomes recorded together carry the same cycle number. Rows are never changed.

    Parameters
    ----------
    path
        The file; made if it does not exist.
    retention_seconds
        How long decisions stay in the file, from when they are in force; then they move to the archive, whole days at a
        time, with all that was recorded before them, and are read from there as before.
    archive
        Folder of the archive; by default ``NAME-journal`` beside the file. A new file adopts what its archive holds.

    Raises
    ------
    StoreError
        The file cannot be opened.
    """

    def __init__(
        self, path: Path | str, *, retention_seconds: int = RETENTION_SECONDS, archive: Path | str | None = None
    ) -> None:
        path = Path(path)
        self._retention_seconds = retention_seconds
        self._archive = JournalArchive(Path(archive) if archive else path.with_name(f"{path.stem}-journal"))
        self._database = Database(path)
        try:
            with self._database.transaction() as cursor:
                self._archive.prepare(cursor)
        except StoreError:
            self._database.close()
            raise

    def record(
        self,
        decisions: Sequence[Decision],
        outcomes: Sequence[Outcome] = (),
        restorations: Sequence[Restoration] = (),
    ) -> None:
        """Append what belongs to one cycle; it is on the disk when this returns."""
        if not (decisions or outcomes or restorations):
            return
        with self._database.transaction() as cursor:
            cycle = last_cycle(cursor) + 1
            if decisions:
                insert_table(cursor, "decision", decision_rows(cycle, decisions))
            if outcomes:
                insert_table(cursor, "outcome", outcome_rows(cycle, outcomes))
            if restorations:
                insert_table(cursor, "restoration", restoration_rows(cycle, restorations))

    def decisions(
        self, vm_id: str | None = None, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Decision]:
        """Decisions in the order in which they were recorded, read page by page."""
        bounds = {"vm_id = ?": vm_id, "in_force_at >= ?": since, "in_force_at < ?": until}
        span = (0 if since is None else since, LATEST if until is None else until)
        for row in self._pages("decision", DECISION, bounds, span):
            yield Decision.from_record(row)

    def outcomes(self, vm_id: str | None = None) -> Iterator[Outcome]:
        """Outcomes in the order in which they were recorded, read page by page."""
        for row in self._pages("outcome", OUTCOME, {"vm_id = ?": vm_id}):
            yield outcome_of(row)

    def explain(self, vm_id: str, at: int | None = None) -> list[Decision]:
        """For each resource the decision in force at an instant; of several, the one recorded last."""
        until = LATEST if at is None else int(at) + 1
        with self._database.snapshot() as cursor, self._archive.days["decision"].reading:
            # First which: a forecast is wide, and most of a year's files hold nothing that is wanted.
            keys = _fetch(
                cursor,
                f"SELECT in_force_at, cycle, position"
                f" FROM ({self._archive.everything(cursor, 'decision', 'vm_id, resource, in_force_at', until=until)})"
                f" WHERE vm_id = ? AND in_force_at < {until} QUALIFY row_number()"
                " OVER (PARTITION BY resource ORDER BY in_force_at DESC, cycle DESC, position DESC) = 1",
                [vm_id],
            )
            rows = [self._row(cursor, key["in_force_at"], key["cycle"], key["position"]) for key in keys]
        order = list(Resource)
        return sorted((Decision.from_record(row) for row in rows), key=lambda d: order.index(d.resource))

    def restorations(self, vm_id: str | None = None) -> Iterator[Restoration]:
        """Restorations in the order in which they were recorded."""
        for row in self._pages("restoration", RESTORATION, {"vm_id = ?": vm_id}):
            yield restoration_of(row)

    def aftermath(self, vm_id: str, at: int | None = None) -> dict[Resource, Aftermath]:
        """What was last done about each resource of a VM until an instant."""
        restored = self._newest("restoration", RESTORATION, "vm_id", vm_id, at)
        restoration = restoration_of(restored[0]) if restored else None
        found = dict.fromkeys(Resource, Aftermath(None, restoration)) if restoration else {}
        for row in self._newest("outcome", OUTCOME, "vm_id, resource", vm_id, at):
            since = restored and (restored[0]["at"], restored[0]["cycle"]) >= (row["at"] or 0, row["cycle"])
            outcome = outcome_of(row)
            found[outcome.action.resource] = Aftermath(outcome, restoration if since else None)
        return found

    def maintain(self, now: int) -> None:
        """Move the days that are past their retention into the archive, each in a transaction of its own."""
        with self._database.translated():
            self._archive.tidy()
        with self._database.snapshot() as cursor:
            expired = cursor.execute(
                "SELECT DISTINCT in_force_at // ? AS day FROM decision WHERE in_force_at < ? ORDER BY day",
                [DAY_SECONDS, (now - self._retention_seconds) // DAY_SECONDS * DAY_SECONDS],
            ).fetchall()
        for (day,) in expired:
            with self._database.transaction() as cursor:
                self._archive.move(cursor, (day + 1) * DAY_SECONDS)

    def copy_to(self, path: Path) -> None:
        """Write a copy of the whole file, with all that is in it, as it is now, into a new one."""
        self._database.copy_to(path)

    def close(self) -> None:
        """Write everything into the one file and release it; harmless when repeated."""
        self._database.close()

    def _newest(self, table: str, columns: pa.Schema, key: str, vm_id: str, at: int | None) -> list[dict[str, Any]]:
        """The last row of a VM for each value of ``key``, of those until an instant."""
        until = LATEST if at is None else int(at)
        with self._database.snapshot() as cursor, self._archive.days[table].reading:
            recorded = self._archive.everything(cursor, table, _columns(columns))
            return _fetch(
                cursor,
                f"SELECT * FROM ({recorded}) WHERE vm_id = ? AND {_WHEN} <= {until} QUALIFY row_number()"
                f" OVER (PARTITION BY {key} ORDER BY {_WHEN} DESC, cycle DESC, position DESC) = 1",
                [vm_id],
            )

    def _row(self, cursor: duckdb.DuckDBPyConnection, at: int, cycle: int, position: int) -> dict[str, Any]:
        """The decision in force at ``at`` of that place in the journal."""
        recorded = self._archive.everything(cursor, "decision", _columns(DECISION), at, at + 1)
        (row,) = _fetch(cursor, f"SELECT * FROM ({recorded}) WHERE cycle = ? AND position = ?", [cycle, position])
        return row

    def _pages(
        self, table: str, columns: pa.Schema, bounds: dict[str, Any], span: tuple[int, int] = (0, LATEST)
    ) -> Iterator[dict[str, Any]]:
        """Rows that satisfy every bound that is not None; the file is free between two pages.

        A page is of whole cycles, for a cycle's number stays the same when it is archived meanwhile.
        """
        chosen = {condition: value for condition, value in bounds.items() if value is not None}
        where = " AND ".join(["cycle > ?", *chosen])
        last = 0
        while True:
            with self._database.snapshot() as cursor, self._archive.days[table].reading:
                recorded = self._archive.everything(cursor, table, _columns(columns), *span)
                rows = _fetch(
                    cursor,
                    f"WITH chosen AS NOT MATERIALIZED (SELECT * FROM ({recorded}) WHERE {where}) SELECT * FROM chosen"
                    f" WHERE cycle <= (SELECT max(cycle) FROM"
                    f" (SELECT cycle FROM chosen ORDER BY cycle LIMIT {_PAGE_ROWS})) ORDER BY cycle, position",
                    [last, *chosen.values()],
                )
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1]["cycle"]


def _columns(columns: pa.Schema) -> str:
    return ", ".join(f'"{name}"' for name in columns.names if name != "cycle")


def _fetch(cursor: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = cursor.sql(query, params=values).to_arrow_table().to_pylist()
    return rows
