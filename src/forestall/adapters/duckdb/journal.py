"""Journal on DuckDB: decisions and outcomes, append-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from forestall.adapters.duckdb import schema
from forestall.adapters.duckdb.database import Database
from forestall.adapters.duckdb.writing import insert_table
from forestall.model.decision import Action, Decision, Outcome, Result
from forestall.model.resources import Resource

_PAGE_ROWS = 5000
_DECISION = pa.schema(
    [
        ("cycle", pa.int64()),
        ("vm_id", pa.string()),
        ("resource", pa.string()),
        ("decided_at", pa.int64()),
        ("in_force_at", pa.int64()),
        *((name, pa.float64()) for name in ("allocated", "previous", "limit")),
        ("levels", pa.list_(pa.float64())),
        ("quantiles", pa.list_(pa.float64())),
        *(
            (name, pa.float64())
            for name in ("risk", "probability", "wanted", "price", "weight", "floor", "ceiling", "budget")
        ),
        ("ruling", pa.string()),
        ("reason", pa.string()),
        ("policies", pa.list_(pa.string())),
        ("experts", pa.map_(pa.string(), pa.float64())),
    ]
)
_OUTCOME = pa.schema(
    [
        ("cycle", pa.int64()),
        ("vm_id", pa.string()),
        ("resource", pa.string()),
        ("amount", pa.float64()),
        ("result", pa.string()),
        ("read_back", pa.float64()),
        ("reason", pa.string()),
    ]
)


class DuckdbJournal:
    """A :class:`~forestall.ports.journal.Journal` in a DuckDB file, which may be the behaviour store's.

    Decisions and outcomes recorded together carry the same cycle number. Rows are never changed.

    Parameters
    ----------
    path
        The file; made if it does not exist.

    Raises
    ------
    StoreError
        The file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._database = Database(Path(path))

    def record(self, decisions: Sequence[Decision], outcomes: Sequence[Outcome] = ()) -> None:
        """Append one cycle's decisions and outcomes; they are on the disk when this returns."""
        if not decisions and not outcomes:
            return
        with self._database.transaction() as cursor:
            cycle = _next_cycle(cursor)
            if decisions:
                rows = [d.as_record() | {"cycle": cycle} for d in decisions]
                insert_table(cursor, "decision", pa.Table.from_pylist(rows, _DECISION))
            if outcomes:
                rows = [_outcome_row(cycle, o) for o in outcomes]
                insert_table(cursor, "outcome", pa.Table.from_pylist(rows, _OUTCOME))

    def decisions(
        self, vm_id: str | None = None, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Decision]:
        """Decisions in the order in which they were recorded, read page by page."""
        bounds = {"vm_id = ?": vm_id, "in_force_at >= ?": since, "in_force_at < ?": until}
        for row in self._pages("decision", _DECISION, bounds):
            yield Decision.from_record(row)

    def outcomes(self, vm_id: str | None = None) -> Iterator[Outcome]:
        """Outcomes in the order in which they were recorded, read page by page."""
        for row in self._pages("outcome", _OUTCOME, {"vm_id = ?": vm_id}):
            yield _outcome(row)

    def explain(self, vm_id: str, at: int | None = None) -> list[Decision]:
        """For each resource the decision in force at an instant; of several, the one recorded last."""
        bound = "" if at is None else f"AND in_force_at <= {int(at)}"
        with self._database.snapshot() as cursor:
            rows = _fetch(
                cursor,
                f"SELECT {_columns(_DECISION)} FROM decision WHERE vm_id = ? {bound} QUALIFY row_number()"
                " OVER (PARTITION BY resource ORDER BY in_force_at DESC, rowid DESC) = 1",
                [vm_id],
            )
        order = list(Resource)
        return sorted((Decision.from_record(row) for row in rows), key=lambda d: order.index(d.resource))

    def close(self) -> None:
        """Write everything into the one file and release it; harmless when repeated."""
        self._database.close()

    def _pages(self, table: str, columns: pa.Schema, bounds: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Rows that satisfy every bound that is not None; the file is free between two pages."""
        chosen = {condition: value for condition, value in bounds.items() if value is not None}
        where = " AND ".join(["rowid > ?", *chosen])
        query = f"SELECT {_columns(columns)}, rowid FROM {table} WHERE {where} ORDER BY rowid LIMIT {_PAGE_ROWS}"
        last = -1
        while True:
            with self._database.snapshot() as cursor:
                rows = _fetch(cursor, query, [last, *chosen.values()])
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1]["rowid"]


def _next_cycle(cursor: duckdb.DuckDBPyConnection) -> int:
    last = schema.single(cursor, "SELECT greatest((SELECT max(cycle) FROM decision), (SELECT max(cycle) FROM outcome))")
    return (last or 0) + 1


def _columns(columns: pa.Schema) -> str:
    return ", ".join(f'"{name}"' for name in columns.names)


def _fetch(cursor: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = cursor.sql(query, params=values).to_arrow_table().to_pylist()
    return rows


def _outcome_row(cycle: int, outcome: Outcome) -> dict[str, Any]:
    return {
        "cycle": cycle,
        "vm_id": outcome.action.vm_id,
        "resource": outcome.action.resource.value,
        "amount": outcome.action.amount,
        "result": outcome.result.value,
        "read_back": outcome.read_back,
        "reason": outcome.reason,
    }


def _outcome(row: dict[str, Any]) -> Outcome:
    action = Action(row["vm_id"], Resource(row["resource"]), row["amount"])
    return Outcome(action, Result(row["result"]), row["read_back"], row["reason"])
