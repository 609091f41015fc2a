"""Writes rows into the database, within a transaction of the caller; everybody locks in the same order.

First names, then resources, then samples by instant and number of the VM: of two that write the same one waits for
the other, and never each for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from forestall.adapters.postgresql import reading
from forestall.adapters.postgresql.copying import copy_in
from forestall.adapters.postgresql.database import Cursor
from forestall.adapters.sample_rows.columns import RAW_COLUMNS, ROLLUPS, limit_column, rollup_columns
from forestall.model.resources import Resource

_INCOMING = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (instant bigint, vm integer, "
    + ", ".join(f"{c} double precision" for c in RAW_COLUMNS)
    + ") ON COMMIT DELETE ROWS"
)


@dataclass
class Known:
    """What a writer remembers of the database: numbers of VMs, resources, and starts of partitions of ``raw``.

    ``identity`` is that of the database, see :class:`~forestall.adapters.postgresql.schema.State`.
    """

    identity: str = ""
    ids: dict[str, int] = field(default_factory=dict)
    resources: set[Resource] = field(default_factory=set)
    partitions: set[int] = field(default_factory=set)


def register(cursor: Cursor, known: Known, names: Sequence[str]) -> None:
    """Learn the numbers of VMs, and give those that are new one."""
    if unknown := [name for name in names if name not in known.ids]:
        cursor.execute(
            "INSERT INTO vm (name) SELECT n FROM unnest(%b::bytea[]) n"
            " WHERE NOT EXISTS (SELECT FROM vm WHERE sha256(vm.name) = sha256(n)) ORDER BY n"
            " ON CONFLICT (sha256(name)) DO NOTHING",
            [[reading.encoded(name) for name in unknown]],
        )
        known.ids.update((name, number) for number, name in reading.names(cursor, unknown).items())


def insert(cursor: Cursor, rows: pa.Table, known: Known) -> None:
    """Insert rows; those whose key is there already are laid over what is there."""
    present = [r for r in Resource if rows[r.demand_column].null_count < rows.num_rows]
    if new := [r.value for r in present if r not in known.resources]:
        cursor.execute("INSERT INTO resource SELECT unnest(%s::text[]) ORDER BY 1 ON CONFLICT (name) DO NOTHING", [new])
        known.resources.update(present)
    columns = [c for r in present for c in (r.demand_column, limit_column(r))]
    values = [f"nullif({c}, 'NaN')" for c in columns]
    cursor.execute(_INCOMING)
    copy_in(cursor, "incoming", rows, columns)
    cursor.execute(
        f"INSERT INTO raw AS u (instant, vm, {', '.join(columns)})"
        f" SELECT instant, vm, {', '.join(values)} FROM incoming ORDER BY instant, vm"
        f" ON CONFLICT (instant, vm) DO UPDATE SET {_laid_over(present)}"
    )


def mark_pending(cursor: Cursor, rows: pa.Table) -> None:
    """Note the hours of rows as changed since they were rolled up; again, even if they are noted."""
    at = rows["instant"].to_numpy()
    hours = np.unique(at - at % reading.HOUR_SECONDS).tolist()
    cursor.execute("INSERT INTO pending SELECT unnest(%s::bigint[])", [hours])


def roll_up(cursor: Cursor, hours: Sequence[int]) -> None:
    """Compute the buckets of some hours again, from every sample there is of them; what is noted of them is settled.

    The cursor is that of a snapshot: what it does not see stays noted.
    """
    samples, known = reading.samples_of(cursor, hours), reading.resources(cursor)
    for name, bucket in ROLLUPS.items():
        kept_from = reading.floor(cursor, name)
        if kept_from >= hours[-1] + reading.HOUR_SECONDS:
            continue
        columns = [c for resource in known for c in rollup_columns(resource)]
        cursor.execute(
            f"INSERT INTO rollup_{name} (instant, vm, {', '.join(columns)})"
            f" SELECT instant, vm, {', '.join(columns)} FROM ({reading.rolled_up(samples, bucket, known)}) f"
            f" WHERE instant >= {kept_from} ON CONFLICT (instant, vm) DO UPDATE SET {_replaced(columns)}"
        )
    for noted in ("pending", "packed"):  # what came to an hour that was packed is not in the archive
        cursor.execute(f"DELETE FROM {noted} WHERE hour = ANY(%s)", [list(hours)])


def pack(cursor: Cursor, hour: int) -> None:
    """Write every sample there is of an hour into the archive; the rows stay where they are, too."""
    packed = ", ".join(f"CASE WHEN count({c}) > 0 THEN array_agg({c} ORDER BY instant) END AS {c}" for c in RAW_COLUMNS)
    cursor.execute(
        f"INSERT INTO archive (hour, vm, offsets, {', '.join(RAW_COLUMNS)})"
        f" SELECT {hour}, vm, array_agg((instant - {hour})::smallint ORDER BY instant), {packed}"
        f" FROM ({reading.samples_of(cursor, [hour])}) s GROUP BY vm"
        f" ON CONFLICT (hour, vm) DO UPDATE SET {_replaced(('offsets', *RAW_COLUMNS))}"
    )
    cursor.execute("INSERT INTO packed VALUES (%s) ON CONFLICT (hour) DO NOTHING", [hour])


def _laid_over(resources: Iterable[Resource]) -> str:
    """SQL that lays a row over the one that is there: a resource is taken, with its limit, if it is in the new one."""
    cells = []
    for resource in resources:
        demand, limit = resource.demand_column, limit_column(resource)
        cells.append(f"{demand} = coalesce(excluded.{demand}, u.{demand})")
        cells.append(f"{limit} = CASE WHEN excluded.{demand} IS NULL THEN u.{limit} ELSE excluded.{limit} END")
    return ", ".join(cells)


def _replaced(columns: Iterable[str]) -> str:
    return ", ".join(f"{c} = excluded.{c}" for c in columns)
