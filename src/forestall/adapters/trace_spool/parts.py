"""What is in the part files of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.adapters.files import part_files
from forestall.adapters.files.part_files import FULL, whole_batches
from forestall.model.resources import Resource
from forestall.ports.store import SampleBatch

NAME = "part"
_ORDER = [("vm_id", "ascending"), ("timestamp", "ascending")]


def schema_of(resources: Sequence[Resource]) -> pa.Schema:
    """Columns of a demand trace for these resources; CPU, which the contract requires, is always there."""
    chosen = [r for r in Resource if r in resources or r is Resource.CPU]
    names = [name for r in chosen for name in (r.demand_column, r.limit_column) if name]
    return pa.schema(
        [("vm_id", pa.string()), ("timestamp", pa.int64()), *((name, pa.float64()) for name in names)]
    )  # fmt: skip


def rows_of(batch: SampleBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of one interval; what is not known, and a limit that is none, is null."""
    columns: dict[str, pa.Array] = {
        "vm_id": pa.array(list(batch.vm_ids), pa.string()),
        "timestamp": pa.array(np.full(len(batch.vm_ids), batch.at, dtype=np.int64)),
    }
    for k, resource in enumerate(batch.resources):
        for name, values in ((resource.demand_column, batch.demand), (resource.limit_column, batch.limit)):
            if name is not None:
                finite = np.where(np.isfinite(values[:, k]), values[:, k], np.nan)
                columns[name] = pa.array(finite, pa.float64(), from_pandas=True)
    nothing = pa.nulls(len(batch.vm_ids), pa.float64())
    return pa.record_batch([columns.get(name, nothing) for name in schema.names], schema=schema)


def paths_of(folder: Path) -> list[Path]:
    """Part files in the order of their making."""
    return part_files.paths_of(folder, NAME)


def read_part(path: Path) -> pa.Table | None:
    """Whole rows of a part, by VM and time; None if it has none."""
    if path.suffix == FULL:
        return pyarrow.parquet.read_table(path)
    batches = list(whole_batches(path))
    return pa.Table.from_batches(batches).sort_by(_ORDER) if batches else None
