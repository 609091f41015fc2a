"""What a policy of staging asked for, and its Parquet file: its columns are a contract of ``forestall replay``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forestall.model.samples import IntArray
from forestall.replay.access.trace import AccessTrace

PREFETCHES = pa.schema(
    [
        ("sequence", pa.int64()),
        ("vm_id", pa.string()),
        ("resource_type", pa.string()),
        ("resource_id", pa.uint64()),
        ("probability", pa.float64()),
    ]
)
_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Prefetches:
    """Prefetches in the order in which they were issued; arrays (prefetch,).

    Attributes
    ----------
    at
        Index of the access after which each was issued, not decreasing.
    space, resource
        What was asked for, as in :class:`~forestall.replay.access.trace.AccessTrace`.
    probability
        That it is used, as the policy says; NaN where it does not say.
    """

    at: IntArray
    space: NDArray[np.int32]
    resource: IntArray
    probability: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.at)


def write_prefetches(path: Path, trace: AccessTrace, prefetches: Prefetches) -> None:
    """Write ``prefetches.parquet``, in the order in which they were issued."""
    vm_ids, kinds = (pa.array([space[k] for space in trace.spaces], pa.string()) for k in range(2))
    with pq.ParquetWriter(path, PREFETCHES, compression="zstd") as writer:
        for start in range(0, len(prefetches), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            space = pa.array(prefetches.space[part])
            columns = [
                pa.array(trace.sequence[prefetches.at[part]]),
                vm_ids.take(space),
                kinds.take(space),
                pa.array(prefetches.resource[part].view(np.uint64)),
                pa.array(prefetches.probability[part].astype(np.float64)),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=PREFETCHES))
