"""Writes rows into the database, within a transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from forestall.adapters.duckdb import reading, schema
from forestall.adapters.duckdb.archive import Archive
from forestall.adapters.sample_rows.columns import ROLLUPS, overlay


@dataclass
class Known:
    """What a writer remembers of the file: VM numbers, hours to roll up, and the latest raw instant."""

    ids: dict[str, int]
    pending: set[int]
    newest: int


def read_known(cursor: duckdb.DuckDBPyConnection) -> Known:
    """Read what there is to know."""
    newest = schema.single(cursor, "SELECT max(instant) FROM raw")
    ids = {name: number for number, name in reading.names(cursor).items()}
    return Known(ids, reading.pending(cursor), -1 if newest is None else newest)


def register(cursor: duckdb.DuckDBPyConnection, ids: dict[str, int], names: list[str]) -> None:
    """Number VMs that are new, in the file and in ``ids``."""
    new = [name for name in names if name not in ids]
    if not new:
        return
    numbers = range(len(ids), len(ids) + len(new))
    insert_table(cursor, "vm", pa.table({"id": pa.array(numbers, pa.int32()), "name": pa.array(new)}))
    ids.update(zip(new, numbers, strict=True))


def insert(cursor: duckdb.DuckDBPyConnection, rows: pa.Table, known: Known) -> None:
    """Insert rows; those whose key is in the table already are laid over what is there."""
    at = rows["instant"].to_numpy()
    if at[0] <= known.newest:
        span = f"instant BETWEEN {at[0]} AND {at[-1]}"
        cursor.register("incoming", rows)
        rows = cursor.sql(
            f"SELECT instant, vm, {overlay('i', 'u')} FROM incoming i"
            f" LEFT JOIN (SELECT * FROM raw WHERE {span}) u USING (instant, vm)"
        ).to_arrow_table()
        cursor.execute(
            f"DELETE FROM raw USING incoming i WHERE raw.{span} AND raw.instant = i.instant AND raw.vm = i.vm"
        )
        cursor.unregister("incoming")
    insert_table(cursor, "raw", rows)
    known.newest = max(known.newest, int(at[-1]))


def mark_pending(cursor: duckdb.DuckDBPyConnection, rows: pa.Table, known: Known) -> None:
    """Note the hours of rows as changed since they were rolled up."""
    at = rows["instant"].to_numpy()
    hours = set((at - at % reading.HOUR_SECONDS).tolist()) - known.pending
    if hours:
        insert_table(cursor, "pending", pa.table({"hour": pa.array(sorted(hours), pa.int64())}))
        known.pending.update(hours)


def roll_up(cursor: duckdb.DuckDBPyConnection, archive: Archive, hours: list[int]) -> None:
    """Compute the buckets of some hours again, from every sample there is of them; they are then settled."""
    samples = reading.samples_of(archive, hours)
    for name, bucket in ROLLUPS.items():
        cursor.execute(f"DELETE FROM rollup_{name} WHERE {reading.in_hours(hours)}")
        cursor.execute(f"INSERT INTO rollup_{name} BY NAME {schema.rolled_up(samples, bucket)}")
    cursor.execute("DELETE FROM pending WHERE hour IN (SELECT unnest(?::BIGINT[]))", [hours])


def insert_table(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Append rows to a table; columns are matched by name."""
    cursor.register("incoming", rows)
    cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    cursor.unregister("incoming")
