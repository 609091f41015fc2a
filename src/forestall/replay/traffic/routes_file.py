"""The Parquet file of the paths that were in force; its columns are a contract of ``forestall replay``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forestall.fabric.network import Network
from forestall.replay.traffic.replay import TrafficOutcome
from forestall.replay.traffic.trace import TrafficTrace

ROUTES = pa.schema(
    [
        ("timestamp", pa.int64()),
        ("source", pa.string()),
        ("target", pa.string()),
        ("path", pa.list_(pa.string())),
        ("share", pa.float64()),
    ]
)
AT_ONCE = 256


def write_routes(path: Path, trace: TrafficTrace, network: Network, outcome: TrafficOutcome) -> None:
    """Write ``routes.parquet``: for each interval, and the one after the end, the paths of every pair seen so far."""
    paths, shares = outcome.paths, outcome.shares
    named = pa.array([[network.nodes[node] for node in each] for each in paths.nodes], pa.list_(pa.string()))
    ends = [np.array([network.nodes[pair[k]] for pair in paths.pairs], dtype=object)[paths.pair] for k in (0, 1)]
    source, target = (pa.array(end, pa.string()) for end in ends)
    begins = np.append(trace.begins, 0)[paths.pair]
    with pq.ParquetWriter(path, ROUTES, compression="zstd") as writer:
        for first in range(0, len(shares), AT_ONCE):
            part = shares[first : first + AT_ONCE]
            seen = begins[None, :] <= np.arange(first, first + len(part))[:, None]
            at, which = np.nonzero((part > 0.0) & seen)
            columns = [
                pa.array(trace.start + (first + at) * trace.step_seconds, pa.int64()),
                source.take(pa.array(which)),
                target.take(pa.array(which)),
                named.take(pa.array(which)),
                pa.array(part[at, which], pa.float64()),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=ROUTES))
