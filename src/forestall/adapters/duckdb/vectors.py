"""Feature vectors in DuckDB: as they came, their hourly means, and which frames have arrived.

A frame and the note that it has arrived are one transaction: whoever is killed when, it is there once or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from forestall.adapters.duckdb import schema
from forestall.adapters.duckdb.database import Database
from forestall.adapters.duckdb.writing import insert_table
from forestall.model.errors import BadInput
from forestall.model.samples import IntArray
from forestall.ports.vectors import Origin, Profile, VectorBatch, VectorKind, VectorRetention

HOUR_SECONDS, HOURS_PER_WEEK = 3600, 168
MONDAY_SECONDS = 4 * 86_400
"""The epoch was a Thursday; 5 January 1970 a Monday."""
FORGET_SPOOLS_SECONDS = 90 * 86_400
FLOOR = "floor_vectors"
MOST_VMS_OF_A_HOST, MOST_LAYOUTS = 20_000, 64
"""No host needs more; one that makes up names without end is refused."""


class DuckdbVectors:
    """A :class:`~forestall.ports.vectors.VectorStore` in a DuckDB file, which a :class:`DuckdbStore` may share.

    May be used from several threads.

    Parameters
    ----------
    path
        The file; made if it does not exist.
    now
        The clock, to date arrivals.
    retention
        How long vectors and their hourly means are kept.
    """

    def __init__(self, path: Path, now: Callable[[], float], retention: VectorRetention | None = None) -> None:
        self._now, self._retention = now, retention or VectorRetention()
        self._database = Database(path)

    def apply(self, origin: Origin, batch: VectorBatch) -> bool:
        """Keep a frame, unless it or a later one of its spool is kept already; durable on return."""
        batch.check()
        key = [origin.host, origin.spool]
        with self._database.transaction() as cursor:
            newest = schema.single(cursor, "SELECT max(sequence) FROM arrived WHERE host = ? AND spool = ?", key)
            if newest is not None and origin.sequence <= newest:
                return False
            if len(batch):
                self._insert(cursor, origin.host, batch)
            cursor.execute("DELETE FROM arrived WHERE host = ? AND spool = ?", key)
            cursor.execute("INSERT INTO arrived VALUES (?, ?, ?, ?)", [*key, origin.sequence, int(self._now())])
        return True

    def vectors(
        self, kind: VectorKind, *, since: int, until: int, vm_ids: Sequence[str] | None = None
    ) -> list[VectorBatch]:
        """Vectors of a span, by VM and time."""
        with self._database.snapshot() as cursor:
            names = dict(cursor.execute("SELECT id, name FROM vector_vm").fetchall())
            asked = set(vm_ids or ())
            wanted = _tuple(number for number, name in names.items() if name in asked)
            chosen = "" if vm_ids is None else f" AND vm IN {wanted}"
            result = []
            for layout, features in _layouts(cursor, kind):
                rows = cursor.sql(
                    f"SELECT instant, vm, features FROM vector WHERE layout = {layout} AND instant >= {since}"
                    f" AND instant < {until}{chosen} ORDER BY vm, instant"
                ).to_arrow_table()
                if rows.num_rows:
                    owners = tuple(names[n] for n in rows["vm"].to_pylist())
                    values = _matrix(rows["features"], len(features)).astype(np.float32)
                    result.append(VectorBatch(kind, features, owners, rows["instant"].to_numpy(), values))
        return result

    def profile(self, vm_id: str, kind: VectorKind = VectorKind.PROFILE) -> Profile:
        """Means at each hour of the week, Monday first, of the layout that was used last for this VM."""
        with self._database.snapshot() as cursor:
            vm = schema.single(cursor, "SELECT max(id) FROM vector_vm WHERE name = ?", [vm_id])
            layouts = _layouts(cursor, kind)
            if vm is None or not layouts:
                return Profile((), np.zeros((HOURS_PER_WEEK, 0)), np.zeros(HOURS_PER_WEEK, np.int64))
            layout, names = next((pair for pair in reversed(layouts) if _has(cursor, pair[0], vm)), layouts[-1])
            pending = _pending(cursor)
            inside = f"vm = {vm} AND instant - instant % {HOUR_SECONDS} IN {_tuple(pending)}"
            fresh = cursor.sql(_hourly(layout, len(names), inside)).to_arrow_table()
            kept = cursor.sql(
                f"SELECT instant, vm, sums, counts, vectors FROM vector_1h WHERE layout = {layout} AND vm = {vm}"
                f" AND instant NOT IN {_tuple(h for h in pending if h >= self._floor(cursor))}"
            ).to_arrow_table()
        sums, counts = np.zeros((2, HOURS_PER_WEEK, len(names)))
        seen: IntArray = np.zeros(HOURS_PER_WEEK, np.int64)
        for rows in filter(lambda rows: rows.num_rows, (kept, fresh)):
            hour = (rows["instant"].to_numpy() - MONDAY_SECONDS) // HOUR_SECONDS % HOURS_PER_WEEK
            np.add.at(sums, hour, _matrix(rows["sums"], len(names)))
            np.add.at(counts, hour, _matrix(rows["counts"], len(names)))
            np.add.at(seen, hour, rows["vectors"].to_numpy())
        with np.errstate(invalid="ignore"):
            return Profile(names, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), seen)

    def count(self) -> int:
        """Number of vectors that are kept as they came."""
        with self._database.snapshot() as cursor:
            return schema.single(cursor, "SELECT count(*) FROM vector") or 0

    def maintain(self, now: int) -> None:
        """Roll up the hours that changed, and drop what is past its retention; in small transactions."""
        with self._database.snapshot() as cursor:
            hours = sorted(_pending(cursor))
        for hour in hours:
            with self._database.transaction() as cursor:
                self._roll_up(cursor, hour)
        with self._database.transaction() as cursor:
            floor = max((now - self._retention.raw_seconds) // HOUR_SECONDS * HOUR_SECONDS, self._floor(cursor))
            cursor.execute("DELETE FROM vector WHERE instant < ?", [floor])
            schema.write_meta(cursor, FLOOR, floor)
            cursor.execute("DELETE FROM vector_1h WHERE instant < ?", [now - self._retention.hour_seconds])
            cursor.execute('DELETE FROM arrived WHERE "at" < ?', [now - FORGET_SPOOLS_SECONDS])

    def close(self) -> None:
        """Release the file; harmless when repeated."""
        self._database.close()

    def _insert(self, cursor: duckdb.DuckDBPyConnection, host: str, batch: VectorBatch) -> None:
        """Insert vectors; those whose VM and instant have one of the kind already are passed over."""
        names = [f"{host}/{name}" for name in batch.vm_ids] if host else list(batch.vm_ids)
        numbers = _numbers(cursor, host, names)
        layout = _layout_number(cursor, batch)
        vm = np.array([numbers[name] for name in names], dtype=np.int64)
        _, first = np.unique(np.stack([batch.at, vm]), axis=1, return_index=True)
        offsets = np.arange(len(first) + 1, dtype=np.int32) * len(batch.names)
        features = pa.ListArray.from_arrays(pa.array(offsets), pa.array(batch.values[first].reshape(-1)))
        rows = pa.table(
            {
                "instant": pa.array(batch.at[first]),
                "vm": pa.array(vm[first].astype(np.int32)),
                "layout": pa.array(np.full(len(first), layout, np.int32)),
                "features": features,
            }
        )
        alike = _tuple(number for number, _ in _layouts(cursor, batch.kind))
        cursor.register("incoming", rows)
        cursor.execute(
            "INSERT INTO vector BY NAME SELECT i.* FROM incoming i ANTI JOIN (SELECT instant, vm FROM vector WHERE"
            f" instant BETWEEN {batch.at.min()} AND {batch.at.max()} AND layout IN {alike}) v USING (instant, vm)"
        )
        cursor.unregister("incoming")
        hours = np.unique(batch.at // HOUR_SECONDS * HOUR_SECONDS)
        new = sorted(set(hours.tolist()) - _pending(cursor))
        if new:
            insert_table(cursor, "vector_pending", pa.table({"hour": pa.array(new, pa.int64())}))

    def _roll_up(self, cursor: duckdb.DuckDBPyConnection, hour: int) -> None:
        """An hour whose vectors are all there is computed anew; to an older one what came late is added."""
        floor = self._floor(cursor)
        if hour >= floor:
            cursor.execute("DELETE FROM vector_1h WHERE instant = ?", [hour])
        inside = f"instant >= {hour} AND instant < {hour + HOUR_SECONDS}"
        used = cursor.execute(f"SELECT DISTINCT layout FROM vector WHERE {inside}").fetchall()
        for (layout,) in used:
            ((features,),) = cursor.execute("SELECT len(names) FROM layout WHERE id = ?", [layout]).fetchall()
            cursor.execute(f"INSERT INTO vector_1h BY NAME {_hourly(layout, features, inside)}")
        if hour < floor:
            cursor.execute(f"DELETE FROM vector WHERE {inside}")
        cursor.execute("DELETE FROM vector_pending WHERE hour = ?", [hour])

    @staticmethod
    def _floor(cursor: duckdb.DuckDBPyConnection) -> int:
        """Vectors before this instant are dropped: only their means are kept."""
        return schema.read_meta(cursor, FLOOR) or 0


def _numbers(cursor: duckdb.DuckDBPyConnection, host: str, names: Sequence[str]) -> dict[str, int]:
    """Number of each VM; those that are new get one."""
    asked = sorted(set(names))
    known: dict[str, int] = dict(
        cursor.execute("SELECT name, id FROM vector_vm WHERE name IN (SELECT unnest(?::VARCHAR[]))", [asked]).fetchall()
    )
    new = [name for name in asked if name not in known]
    if new:
        begun = f"{host}/" if host else ""
        ((of_host,),) = cursor.execute("SELECT count(*) FROM vector_vm WHERE starts_with(name, ?)", [begun]).fetchall()
        if host and of_host + len(new) > MOST_VMS_OF_A_HOST:
            raise BadInput(f"a host of more than {MOST_VMS_OF_A_HOST} VMs")
        used = schema.single(cursor, "SELECT count(*) FROM vector_vm") or 0
        numbers = range(used, used + len(new))
        insert_table(cursor, "vector_vm", pa.table({"id": pa.array(numbers, pa.int32()), "name": pa.array(new)}))
        known.update(zip(new, numbers, strict=True))
    return known


def _has(cursor: Any, layout: int, vm: int) -> bool:
    """Whether anything is kept of a VM in a layout."""
    where = f"WHERE layout = {layout} AND vm = {vm}"
    return any(schema.single(cursor, f"SELECT count(*) FROM {table} {where}") for table in ("vector", "vector_1h"))


def _layouts(cursor: duckdb.DuckDBPyConnection, kind: VectorKind) -> list[tuple[int, tuple[str, ...]]]:
    """Layouts of a kind, in the order in which they were first used."""
    rows = cursor.execute("SELECT id, names FROM layout WHERE kind = ? ORDER BY id", [kind.value]).fetchall()
    return [(number, tuple(names)) for number, names in rows]


def _layout_number(cursor: duckdb.DuckDBPyConnection, batch: VectorBatch) -> int:
    layouts = _layouts(cursor, batch.kind)
    for number, names in layouts:
        if names == batch.names:
            return number
    if len(layouts) >= MOST_LAYOUTS:
        raise BadInput(f"more than {MOST_LAYOUTS} lists of features of one kind")
    number = schema.single(cursor, "SELECT count(*) FROM layout") or 0
    cursor.execute("INSERT INTO layout VALUES (?, ?, ?)", [number, batch.kind.value, list(batch.names)])
    return number


def _pending(cursor: duckdb.DuckDBPyConnection) -> set[int]:
    """Hours that changed since they were rolled up."""
    return {hour for (hour,) in cursor.execute("SELECT hour FROM vector_pending").fetchall()}


def _hourly(layout: int, features: int, inside: str) -> str:
    """SQL for sums of known features, how many were known, and how many vectors there were, of each VM and hour.

    Added up in the database: what it takes is a row for each VM and hour, however many vectors there were.
    """
    known = [f"isfinite(features[{k}])" for k in range(1, features + 1)]
    sums = ", ".join(f"coalesce(sum(features[{k}]::DOUBLE) FILTER ({test}), 0)" for k, test in enumerate(known, 1))
    counts = ", ".join(f"count(*) FILTER ({test})" for test in known)
    return (
        f"SELECT instant - instant % {HOUR_SECONDS} AS instant, vm, layout, [{sums}] AS sums, [{counts}] AS counts,"
        f" count(*) AS vectors FROM vector WHERE layout = {layout} AND {inside} GROUP BY ALL"
    )


def _matrix(column: pa.ChunkedArray, features: int) -> np.ndarray:
    """Lists of one length as an array (row, feature)."""
    flat = pa.chunked_array(column.chunks, column.type).combine_chunks().flatten()
    matrix: np.ndarray = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, features)
    return matrix


def _tuple(numbers: Iterable[int]) -> str:
    """SQL list; of one impossible number where there is none."""
    return f"({', '.join(map(str, numbers)) or -1})"
