"""Reads rows of the database and its archive, at each resolution."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from forestall.adapters.duckdb import schema
from forestall.adapters.duckdb.archive import Archive, everything
from forestall.adapters.sample_rows.columns import COUNT, ROLLUPS, limit_column
from forestall.model.resources import Resource
from forestall.ports.store import Resolution

HOUR_SECONDS = 3600


def raw_rows(
    cursor: duckdb.DuckDBPyConnection,
    archive: Archive,
    statistic: str,
    span: tuple[int, int],
    vms: list[int] | None,
) -> list[pa.Table]:
    """Archived rows of a half-open span, and the database's to lay over them.

    The database is read first: a day that is archived meanwhile is then seen twice rather than not at all.
    """
    inside = _inside(span, vms)
    columns = _selected("1.0" if statistic == COUNT else None, "")
    recent = cursor.sql(f"SELECT {columns} FROM raw WHERE {inside}").to_arrow_table()
    with archive.reading:
        files = archive.files(*span)
        if not files:
            return [recent]
        archived = f"SELECT {columns} FROM ({archive.source(files)}) WHERE {inside}"
        return [cursor.sql(archived).to_arrow_table(), recent]


def rollup_rows(
    cursor: duckdb.DuckDBPyConnection,
    archive: Archive,
    statistic: str,
    span: tuple[int, int],
    vms: list[int] | None,
    resolution: Resolution,
) -> pa.Table:
    """Rows of a roll-up table; hours that changed since they were rolled up are computed here."""
    span = (max(span[0], floor(cursor, resolution.value)), span[1])
    inside, columns = _inside(span, vms), _selected(None, statistic)
    hours = sorted(h for h in pending(cursor) if span[0] - HOUR_SECONDS < h < span[1])
    table = f"rollup_{resolution.value}"
    if not hours:
        return cursor.sql(f"SELECT {columns} FROM {table} WHERE {inside}").to_arrow_table()
    with archive.reading:
        fresh = schema.rolled_up(samples_of(archive, hours), ROLLUPS[resolution.value])
        return cursor.sql(
            f"SELECT {columns} FROM (SELECT * FROM {table} WHERE NOT {in_hours(hours)}"
            f" UNION ALL BY NAME {fresh}) WHERE {inside}"
        ).to_arrow_table()


def samples_of(archive: Archive, hours: list[int]) -> str:
    """SQL for every raw sample there is of some hours (sorted, at least one)."""
    since, until = hours[0], hours[-1] + HOUR_SECONDS
    samples = everything(archive, archive.files(since, until), since, until)
    return f"SELECT * FROM ({samples}) WHERE {in_hours(hours)}"


def in_hours(hours: list[int]) -> str:
    """SQL condition: the row lies in one of some hours (sorted, at least one)."""
    return (
        f"(instant >= {hours[0]} AND instant < {hours[-1] + HOUR_SECONDS}"
        f" AND instant - instant % {HOUR_SECONDS} IN {_tuple(hours)})"
    )


def names(cursor: duckdb.DuckDBPyConnection) -> dict[int, str]:
    """Names of VMs by their numbers."""
    return dict(cursor.execute("SELECT id, name FROM vm").fetchall())


def pending(cursor: duckdb.DuckDBPyConnection) -> set[int]:
    """Hours that changed since they were rolled up."""
    return {hour for (hour,) in cursor.execute("SELECT hour FROM pending").fetchall()}


def floor(cursor: duckdb.DuckDBPyConnection, rollup: str) -> int:
    """Buckets before this instant are past their retention."""
    return schema.read_meta(cursor, f"floor_{rollup}") or 0


def _inside(span: tuple[int, int], vms: list[int] | None) -> str:
    bounds = f"instant >= {span[0]} AND instant < {span[1]}"
    return bounds if vms is None else f"{bounds} AND vm IN {_tuple(vms)}"


def _selected(constant: str | None, statistic: str) -> str:
    """SQL columns of a row of ``raw``, with a statistic (or a constant) in the place of demand."""
    cells = []
    for resource in Resource:
        demand, limit = resource.demand_column, limit_column(resource)
        value = f"CASE WHEN {demand} IS NOT NULL THEN {constant} END" if constant else f"{demand}{statistic}"
        cells.append(f"({value})::DOUBLE AS {demand}, {limit}")
    return f"instant, vm, {', '.join(cells)}"


def _tuple(numbers: list[int]) -> str:
    """SQL list; of one impossible number where there is none."""
    return f"({', '.join(map(str, numbers or [-1]))})"
