"""From the parts of a recording to one trace, which appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from forestall.adapters.trace_spool.parts import paths_of, read_part, schema_of
from forestall.model.errors import BadInput
from forestall.model.resources import Resource

_NAME = "whole.parquet"


def assemble(folder: Path, metadata: Mapping[bytes, bytes]) -> int:
    """Write all parts of ``folder``, one after the other, into one file there; return its rows."""
    tables = [(path, table.schema.names) for path in paths_of(folder) if (table := read_part(path)) is not None]
    names = {name for _, columns in tables for name in columns}
    schema = schema_of([r for r in Resource if r.demand_column in names]).with_metadata(dict(metadata))
    rows = 0
    with (folder / _NAME).open("wb") as file:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for path, _ in tables:
                table = read_part(path)
                assert table is not None
                writer.write_table(_with_columns(table, schema))
                rows += len(table)
        file.flush()
        os.fsync(file.fileno())
    return rows


def move_into_place(folder: Path, trace: Path, *, replace: bool) -> None:
    """Give the whole file the name ``trace``; in ``folder`` it keeps its own, which says that all is done.

    Raises
    ------
    BadInput
        ``trace`` exists, and is not to be replaced.
    """
    whole, ready = folder / _NAME, folder / "ready.parquet"
    if replace:
        ready.unlink(missing_ok=True)
        os.link(whole, ready)
        os.replace(ready, trace)
        return
    if not trace.exists():
        try:
            os.link(whole, trace)
            return
        except FileExistsError:
            pass  # since a moment ago
    raise BadInput(f"exists already; --force replaces it; what was recorded is kept in {folder}", path=trace)


def is_in_place(folder: Path, trace: Path) -> bool:
    """Whether the recording became ``trace`` already, and its process was cut off before it could clean up."""
    whole = folder / _NAME
    return whole.exists() and trace.exists() and whole.samefile(trace)


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of ``schema``, null where the part did not have them."""
    nothing, held = pa.nulls(len(table), pa.float64()), set(table.schema.names)
    return pa.table([table[name] if name in held else nothing for name in schema.names], schema=schema)
