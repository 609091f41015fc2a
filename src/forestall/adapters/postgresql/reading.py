"""Reads rows of the database, at each resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from forestall.adapters.postgresql import schema
from forestall.adapters.postgresql.copying import copy_out
from forestall.adapters.postgresql.database import Cursor
from forestall.adapters.sample_rows.columns import COUNT, RAW_COLUMNS, ROLLUPS, limit_column, overlay
from forestall.model.resources import Resource
from forestall.ports.store import Resolution

HOUR_SECONDS = 3600
_MOST_LOOKED_UP = 100
"""So many VMs are looked up instant by instant; of more, every row of the span is looked at."""
_MOST_RUNS = 100
"""So many runs of hours are looked up each for itself; of more, everything between them is looked at."""


def encoded(name: str) -> bytes:
    """Name of a VM as it is kept; any that Python can have."""
    return name.encode("utf-8", "surrogatepass")


def names(cursor: Cursor, chosen: Sequence[str] | None = None) -> dict[int, str]:
    """Names of all or of chosen VMs by their numbers."""
    if chosen is None:
        rows = cursor.execute("SELECT id, name FROM vm", binary=True).fetchall()
    else:
        rows = cursor.execute(
            "SELECT id, name FROM vm WHERE sha256(name) IN (SELECT sha256(n) FROM unnest(%b::bytea[]) n)",
            [[encoded(name) for name in chosen]],
            binary=True,
        ).fetchall()
    return {number: bytes(name).decode("utf-8", "surrogatepass") for number, name in rows}


def resources(cursor: Cursor) -> tuple[Resource, ...]:
    """Resources of which there are samples."""
    known = {name for (name,) in cursor.execute("SELECT name FROM resource").fetchall()}
    return tuple(resource for resource in Resource if resource.value in known)


def pending(cursor: Cursor) -> list[int]:
    """Hours that changed since they were rolled up, sorted."""
    return [hour for (hour,) in cursor.execute("SELECT DISTINCT hour FROM pending ORDER BY hour").fetchall()]


def hours_to_pack(cursor: Cursor, since: int, until: int) -> list[int]:
    """Hours of a span of which ``raw`` has samples that are not in the archive, sorted."""
    return sorted(hour for (hour,) in cursor.execute(not_packed(since, until)).fetchall())


def not_packed(since: object, until: object) -> str:
    """SQL for the hours of a span of which ``raw`` has samples and that were not packed; found in the index."""
    first = f"SELECT FROM raw WHERE instant >= h AND instant < h + {HOUR_SECONDS} ORDER BY instant LIMIT 1"
    hours = f"generate_series({since}::bigint, {until}::bigint - 1, {HOUR_SECONDS}::bigint)"
    return (
        f"SELECT h FROM {hours} h CROSS JOIN LATERAL ({first}) r"
        " WHERE NOT EXISTS (SELECT FROM packed p WHERE p.hour = h)"
    )


def floor(cursor: Cursor, rollup: str) -> int:
    """Buckets before this instant are past their retention."""
    return schema.read_meta(cursor, f"floor_{rollup}") or 0


def raw_rows(
    cursor: Cursor, statistic: str, span: tuple[int, int], vms: Sequence[int] | None, step_seconds: int
) -> list[pa.Table]:
    """Archived rows of a half-open span, and the others to lay over them."""
    known = resources(cursor)
    selected, columns = _selected(known, "", constant=statistic == COUNT)
    inside = _inside(span, vms)
    layers, hours = [], f"hour > {span[0] - HOUR_SECONDS} AND hour < {span[1]}"
    if _archived(cursor, hours):
        query = f"SELECT {selected} FROM ({_unpacked(hours)}) a WHERE {inside}"
        layers.append(copy_out(cursor, query, columns))
    layers.append(copy_out(cursor, f"SELECT {selected} FROM {_source('raw', span, vms, step_seconds)}", columns))
    return layers


def rollup_rows(
    cursor: Cursor, statistic: str, span: tuple[int, int], vms: Sequence[int] | None, resolution: Resolution
) -> pa.Table:
    """Rows of a roll-up table; hours that changed since they were rolled up are computed here."""
    span = (max(span[0], floor(cursor, resolution.value)), span[1])
    known, bucket = resources(cursor), ROLLUPS[resolution.value]
    selected, columns = _selected(known, statistic)
    query = f"SELECT {selected} FROM {_source(f'rollup_{resolution.value}', span, vms, bucket)}"
    if hours := [h for h in pending(cursor) if span[0] - HOUR_SECONDS < h < span[1]]:
        fresh = rolled_up(samples_of(cursor, hours, vms), bucket, known)
        query += (
            f" WHERE NOT {in_hours(hours)} UNION ALL SELECT {selected} FROM ({fresh}) f WHERE {_inside(span, None)}"
        )
    return copy_out(cursor, query, columns)


def samples_of(cursor: Cursor, hours: Sequence[int], vms: Sequence[int] | None = None) -> str:
    """SQL for every raw sample there is of some hours (sorted, at least one)."""
    chosen = "" if vms is None else f" AND vm IN {_tuple(vms)}"
    recent = f"SELECT * FROM raw WHERE {in_hours(hours)}{chosen}"
    packed = f"hour IN {_tuple(hours)}{chosen}"
    if not _archived(cursor, packed):
        return recent
    both = f"({recent}) o FULL JOIN ({_unpacked(packed)}) u USING (instant, vm)"
    return f"SELECT instant, vm, {overlay('o', 'u')} FROM {both}"


def rolled_up(source: str, bucket_seconds: int, chosen: Iterable[Resource]) -> str:
    """SQL that rolls raw samples of ``source`` up to buckets: mean, max, count and last known limit."""
    cells = [f"s.instant - s.instant % {bucket_seconds} AS instant", "s.vm"]
    for resource in chosen:
        demand, limit = resource.demand_column, limit_column(resource)
        last = f"(array_agg({limit} ORDER BY s.instant DESC) FILTER (WHERE {limit} IS NOT NULL))[1]"
        cells.append(
            f"sum({_tame(demand)}) / nullif(count({demand}), 0) AS {demand}, max({demand}) AS {demand}_max,"
            f" nullif(count({demand}), 0)::integer AS {demand}_count, {last} AS {limit}"
        )
    return f"SELECT {', '.join(cells)} FROM ({source}) s GROUP BY 1, 2"


def in_hours(hours: Sequence[int]) -> str:
    """SQL condition: the row lies in one of some hours (sorted, at least one); a range for each run of hours."""
    known = set(hours)
    starts = [hour for hour in hours if hour - HOUR_SECONDS not in known]
    ends = [hour + HOUR_SECONDS for hour in hours if hour + HOUR_SECONDS not in known]
    if len(starts) > _MOST_RUNS:
        between = f"instant >= {starts[0]} AND instant < {ends[-1]}"
        return f"({between} AND instant - instant % {HOUR_SECONDS} IN {_tuple(hours)})"
    runs = zip(starts, ends, strict=True)
    return f"({' OR '.join(f'instant >= {start} AND instant < {end}' for start, end in runs)})"


def _source(table: str, span: tuple[int, int], vms: Sequence[int] | None, step_seconds: int) -> str:
    """SQL that follows FROM: rows of a span, all or of some VMs.

    The key begins with the instant, so that what is new comes to the end of the index. A VM's rows are found by
    looking up each instant of the grid; OFFSET keeps the planner from another way.
    """
    if vms is None or len(vms) > _MOST_LOOKED_UP:
        return f"(SELECT * FROM {table} WHERE {_inside(span, vms)}) r"
    first = -(-span[0] // step_seconds) * step_seconds
    return (
        f"(SELECT r.* FROM generate_series({first}::bigint, {span[1] - 1}::bigint, {step_seconds}::bigint) g(at)"
        f" CROSS JOIN LATERAL (SELECT * FROM {table} WHERE instant = g.at AND vm IN {_tuple(vms)} OFFSET 0) r) r"
    )


def _archived(cursor: Cursor, condition: str) -> bool:
    ((found,),) = cursor.execute(f"SELECT EXISTS (SELECT FROM archive WHERE {condition})").fetchall()
    return bool(found)


def _unpacked(condition: str) -> str:
    """SQL for archived samples of the rows of ``archive`` for which a condition holds, as rows of ``raw``."""
    return (
        f"SELECT hour + at AS instant, vm, {', '.join(f's.{c}' for c in RAW_COLUMNS)} FROM archive,"
        f" unnest(offsets, {', '.join(f'archive.{c}' for c in RAW_COLUMNS)}) s(at, {', '.join(RAW_COLUMNS)})"
        f" WHERE {condition}"
    )


def _tame(column: str) -> str:
    """SQL for a value as it goes into a mean: PostgreSQL refuses sums and quotients that overflow or underflow."""
    low, high = "double precision '1e-290'", "double precision '1e300'"
    return f"CASE WHEN abs({column}) > {low} THEN greatest(least({column}, {high}), -{high}) ELSE 0 END"


def _inside(span: tuple[int, int], vms: Sequence[int] | None) -> str:
    bounds = f"instant >= {span[0]} AND instant < {span[1]}"
    return bounds if vms is None else f"{bounds} AND vm IN {_tuple(vms)}"


def _selected(chosen: Iterable[Resource], statistic: str, *, constant: bool = False) -> tuple[str, list[str]]:
    """SQL columns of a row, with a statistic (or 1) in the place of demand, NaN where there is none; their names."""
    cells, columns = ["instant", "vm"], []
    for resource in chosen:
        demand, limit = resource.demand_column, limit_column(resource)
        value = f"CASE WHEN {demand} IS NOT NULL THEN 1.0 END" if constant else f"{demand}{statistic}"
        cells += [f"coalesce(({value})::double precision, 'NaN')", f"coalesce({limit}, 'NaN')"]
        columns += [demand, limit]
    return ", ".join(cells), columns


def _tuple(numbers: Iterable[int]) -> str:
    """SQL list; of one impossible number where there is none."""
    return f"({', '.join(map(str, numbers)) or -1})"
