"""Part files of a recording: an Arrow stream while it grows, Parquet once it is full.

A stream may end in the middle of a batch, when its writer was killed; what stands before that is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.model.resources import Resource
from forestall.ports.store import SampleBatch

GROWING, FULL = ".arrows", ".parquet"
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
    """Part files in the order of their making; of a part that is there in both forms, the full one."""
    found = {path.stem: path for suffix in (GROWING, FULL) for path in folder.glob(f"part-*{suffix}")}
    return [found[stem] for stem in sorted(found)]


def read_part(path: Path) -> pa.Table | None:
    """Whole rows of a part, by VM and time; None if it has none."""
    if path.suffix == FULL:
        return pyarrow.parquet.read_table(path)
    batches = list(_whole_batches(path))
    return pa.Table.from_batches(batches).sort_by(_ORDER) if batches else None


def make_full(growing: Path) -> None:
    """Turn a stream that has ended into Parquet; whenever that is cut off, one of the two is whole."""
    table = read_part(growing)
    if table is not None:
        temporary = growing.with_suffix(".tmp")
        with temporary.open("wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, growing.with_suffix(FULL))
    growing.unlink()


def _whole_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as file:
        try:
            reader = pa.ipc.open_stream(file)
            while True:
                yield reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowInvalid, OSError):  # the end that a killed writer left
            return
