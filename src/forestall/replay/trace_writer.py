"""Write a demand trace as Parquet in the long form of the contract: whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Trace
from forestall.replay.trace_columns import PEAK_COLUMN, STEP_KEY, USERS_COLUMN


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace so that :func:`~forestall.replay.trace_reader.read_trace` reads the same trace back.

    Rows are sorted by VM and timestamp; where nothing at all was recorded there is no row. The step stands in
    the metadata of the file. The file appears under its name only when it is complete.

    Parameters
    ----------
    trace
        The trace.
    path
        Where to; an existing file is replaced.

    Raises
    ------
    BadInput
        The file cannot be written there.
    """
    table = long_form(trace)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", path=path) from error
    try:
        with os.fdopen(handle, "wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def long_form(trace: Trace) -> pa.Table:
    """Return a trace as a table in the form of the contract, one row for each VM and recorded interval."""
    columns = _columns(trace)
    order = sorted(range(len(trace.vm_ids)), key=lambda v: trace.vm_ids[v])
    recorded = np.zeros((len(trace.vm_ids), trace.grid.steps), dtype=bool)
    for values in columns.values():
        recorded |= ~np.isnan(values.T[order])
    rank, slot = np.nonzero(recorded)
    vm_ids = pa.DictionaryArray.from_arrays(
        pa.array(rank.astype(np.int32)), pa.array([trace.vm_ids[v] for v in order], pa.string())
    )
    data = {"vm_id": vm_ids.cast(pa.string()), "timestamp": trace.grid.start + slot * trace.grid.step_seconds}
    for name, values in columns.items():
        data[name] = pa.array(values.T[order][recorded], pa.float64(), from_pandas=True)
    table = pa.table(data)
    return table.replace_schema_metadata({STEP_KEY: str(trace.grid.step_seconds).encode()})


def _columns(trace: Trace) -> dict[str, FloatArray]:
    """Return the columns of numbers; CPU, which the contract requires, is there even when it is all gaps."""
    nothing = np.full((trace.grid.steps, len(trace.vm_ids)), np.nan)
    columns: dict[str, FloatArray] = {}
    for resource in (Resource.CPU, *(r for r in trace.resources if r is not Resource.CPU)):
        columns[resource.demand_column] = trace.demand.get(resource, nothing)
        if resource.limit_column is not None:
            limit = trace.limit.get(resource, nothing)
            columns[resource.limit_column] = np.where(np.isinf(limit), np.nan, limit)
        if resource is Resource.CPU and trace.cpu_peak is not None:
            columns[PEAK_COLUMN] = trace.cpu_peak
    if trace.active_users is not None:
        columns[USERS_COLUMN] = trace.active_users
    return columns
