"""The Parquet file of what was granted; its columns stand in the contract of ``forestall replay``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forestall.model.samples import FloatArray
from forestall.replay.burst.trace import BurstTrace

GRANTS = pa.schema(
    [("vm_id", pa.string()), ("time_us", pa.int64()), ("window_us", pa.int64()), ("granted_cores", pa.float64())]
)
_ROWS_AT_ONCE = 1_000_000


def write_grants(path: Path, trace: BurstTrace, window_us: int, granted: FloatArray) -> None:
    """Write ``grants.parquet``, sorted by time, then in the order of the trace's VMs.

    ``granted`` (decision, vm) begins with the window at the start of the trace; NaN is no row.
    """
    names = pa.array(trace.vm_ids, pa.string())
    at_once = max(_ROWS_AT_ONCE // max(len(trace.vm_ids), 1), 1)
    with pq.ParquetWriter(path, GRANTS, compression="zstd") as writer:
        for start in range(0, len(granted), at_once):
            block = granted[start : start + at_once]
            row, vm = np.nonzero(~np.isnan(block))
            columns = [
                names.take(pa.array(vm)),
                pa.array(trace.start_us + (start + row) * window_us),
                pa.array(np.full(len(row), window_us)),
                pa.array(block[row, vm]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=GRANTS))
