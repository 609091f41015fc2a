"""Tables of the DuckDB file, their version, and the pieces of SQL that follow from their columns.

One row of ``raw`` holds every resource of a VM at one instant (a column for each): the keys are paid once
for six resources, and values of one kind lie together, which is what makes them compress. A resource
without a sample is NULL. Values are DOUBLE: what is read is bit for bit what was measured, so that a replay
of the store takes the decisions that were taken live; as FLOAT it would be about 1 byte a value smaller.

``rollup_5min`` and ``rollup_1h`` are derived from the raw samples. An hour that changed since it was rolled
up stands in ``pending``, in the same transaction as the change.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from forestall.adapters.sample_rows.columns import RAW_COLUMNS, ROLLUP_COLUMNS, ROLLUPS, limit_column
from forestall.model.errors import StoreError
from forestall.model.resources import Resource

VERSION = 3
_RESTORATION = 'CREATE TABLE restoration (cycle BIGINT NOT NULL, vm_id VARCHAR NOT NULL, "at" BIGINT, why VARCHAR)'
_VECTORS = (
    "CREATE TABLE vector_vm (id INTEGER NOT NULL, name VARCHAR NOT NULL)",
    "CREATE TABLE layout (id INTEGER NOT NULL, kind VARCHAR NOT NULL, names VARCHAR[] NOT NULL)",
    "CREATE TABLE vector (instant BIGINT NOT NULL, vm INTEGER NOT NULL, layout INTEGER NOT NULL, features FLOAT[])",
    """CREATE TABLE vector_1h (instant BIGINT NOT NULL, vm INTEGER NOT NULL, layout INTEGER NOT NULL,
        sums DOUBLE[], counts BIGINT[], vectors BIGINT)""",
    "CREATE TABLE vector_pending (hour BIGINT NOT NULL)",
    'CREATE TABLE arrived (host VARCHAR NOT NULL, spool VARCHAR NOT NULL, sequence BIGINT, "at" BIGINT)',
)
"""A vector is a row, its features a list in the order of its layout; ``arrived`` is the newest frame of each spool."""
_KEY = "instant BIGINT NOT NULL, vm INTEGER NOT NULL"
_TABLES = (
    "CREATE TABLE meta (key VARCHAR NOT NULL, value BIGINT NOT NULL)",
    "CREATE TABLE vm (id INTEGER NOT NULL, name VARCHAR NOT NULL)",
    "CREATE TABLE pending (hour BIGINT NOT NULL)",
    f"CREATE TABLE raw ({_KEY}, {', '.join(f'{c} DOUBLE' for c in RAW_COLUMNS)})",
    *(
        f"CREATE TABLE rollup_{name} ({_KEY}, "
        + ", ".join(f"{c} {'UINTEGER' if c.endswith('_count') else 'DOUBLE'}" for c in ROLLUP_COLUMNS)
        + ")"
        for name in ROLLUPS
    ),
    """CREATE TABLE decision (cycle BIGINT NOT NULL, vm_id VARCHAR NOT NULL, resource VARCHAR NOT NULL,
        decided_at BIGINT, in_force_at BIGINT, allocated DOUBLE, previous DOUBLE, "limit" DOUBLE,
        levels DOUBLE[], quantiles DOUBLE[], risk DOUBLE, probability DOUBLE, wanted DOUBLE,
        price DOUBLE, weight DOUBLE, floor DOUBLE, ceiling DOUBLE, budget DOUBLE,
        ruling VARCHAR, reason VARCHAR, policies VARCHAR[],
        experts MAP(VARCHAR, DOUBLE), granted DOUBLE)""",
    """CREATE TABLE outcome (cycle BIGINT NOT NULL, vm_id VARCHAR NOT NULL, resource VARCHAR NOT NULL,
        amount DOUBLE, result VARCHAR, read_back DOUBLE, reason VARCHAR, "at" BIGINT)""",
    _RESTORATION,
    *_VECTORS,
)
_UPGRADES = {
    1: (
        "ALTER TABLE decision ADD COLUMN granted DOUBLE",
        'ALTER TABLE outcome ADD COLUMN "at" BIGINT',
        _RESTORATION,
    ),
    2: _VECTORS,
}
"""What makes of a file of each older version one of the next."""


def prepare(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make the tables in a new file; refuse a file that this version cannot read."""
    tables = {name for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        for table in _TABLES:
            cursor.execute(table)
        write_meta(cursor, "version", VERSION)
        return
    version = read_meta(cursor, "version") if "meta" in tables else None
    if version is None:
        raise StoreError(f"{path}: is a DuckDB database, but not one of Forestall's")
    if version > VERSION:
        raise StoreError(f"{path}: was written by a newer Forestall (schema {version}; this one reads up to {VERSION})")
    for older in range(version, VERSION):
        for change in _UPGRADES[older]:
            cursor.execute(change)
        write_meta(cursor, "version", older + 1)


def read_meta(cursor: duckdb.DuckDBPyConnection, key: str) -> int | None:
    """Value stored under ``key``; None when there is none."""
    return single(cursor, "SELECT max(value) FROM meta WHERE key = ?", [key])


def single(cursor: duckdb.DuckDBPyConnection, query: str, values: list[str] | None = None) -> int | None:
    """Only number that a query gives; None for NULL.

    Every row is fetched: a cursor with an unfinished result refuses other work.
    """
    ((number,),) = cursor.execute(query, values or []).fetchall()
    return None if number is None else int(number)


def write_meta(cursor: duckdb.DuckDBPyConnection, key: str, value: int) -> None:
    """Set ``key`` to ``value``."""
    cursor.execute("DELETE FROM meta WHERE key = ?", [key])
    cursor.execute("INSERT INTO meta VALUES (?, ?)", [key, value])


def rolled_up(source: str, bucket_seconds: int) -> str:
    """SQL that rolls raw samples of ``source`` up to buckets: mean, max, count and last known limit."""
    cells = []
    for resource in Resource:
        demand, limit = resource.demand_column, limit_column(resource)
        cells.append(
            f"avg({demand}) AS {demand}, max({demand}) AS {demand}_max,"
            f" nullif(count({demand}), 0)::UINTEGER AS {demand}_count, arg_max({limit}, s.instant) AS {limit}"
        )
    return (
        f"SELECT s.instant - s.instant % {bucket_seconds} AS instant, s.vm, {', '.join(cells)}"
        f" FROM ({source}) s GROUP BY ALL"
    )
