"""The Parquet files that a demand replay writes; columns and rules stand in the contract of ``forestall replay``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.replay.demand_run import ResourceRun, ResourceTrace

_TEXT = pa.string()
_VMS_AT_ONCE = 64

ALLOCATIONS = pa.schema([("vm_id", _TEXT), ("timestamp", pa.int64()), ("resource", _TEXT), ("allocated", pa.float64())])
FORECASTS = pa.schema(
    [
        ("vm_id", _TEXT),
        ("issued_at", pa.int64()),
        ("target_at", pa.int64()),
        ("resource", _TEXT),
        ("quantile", pa.float64()),
        ("value", pa.float32()),
    ]
)
RISK = pa.schema(
    [
        ("vm_id", _TEXT),
        ("issued_at", pa.int64()),
        ("horizon_seconds", pa.int64()),
        ("resource", _TEXT),
        ("limit", pa.float64()),
        ("probability", pa.float32()),
    ]
)


def _strings(indices: np.ndarray, values: Sequence[str]) -> pa.Array:
    return pa.array(list(values), pa.string()).take(pa.array(indices.astype(np.int32)))


class _Writer:
    """Writes long tables, a few VMs at a time."""

    def __init__(self, path: Path, schema: pa.Schema, vm_ids: Sequence[str]) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._vm_ids = vm_ids

    def write(self, resource: Resource, vm: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        names = {"vm_id": _strings(vm, self._vm_ids)}
        names["resource"] = _strings(np.zeros(len(vm), np.int32), [resource.value])
        arrays = [names.get(f.name) for f in self._schema]
        filled = [
            a if a is not None else pa.array(columns[f.name], f.type) for a, f in zip(arrays, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(filled, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def write_allocations(
    path: Path, parts: Iterable[tuple[ResourceTrace, int, FloatArray]], vm_ids: Sequence[str]
) -> None:
    """Write ``allocations.parquet``, sorted by resource, VM and time.

    ``parts`` are a resource's trace, the position of the first row's interval, and the array (row, vm); NaN is no row.
    """
    writer = _Writer(path, ALLOCATIONS, vm_ids)
    for trace, first, allocated in parts:
        times = trace.grid.start + (first + np.arange(len(allocated))) * trace.grid.step_seconds
        for start in range(0, allocated.shape[1], _VMS_AT_ONCE):
            block = allocated[:, start : start + _VMS_AT_ONCE].T
            vm, row = np.nonzero(~np.isnan(block))
            columns = {"timestamp": times[row], "allocated": block[vm, row]}
            writer.write(trace.resource, vm + start, columns)
    writer.close()


def write_forecasts(path: Path, runs: Sequence[ResourceRun]) -> None:
    """Write ``forecasts.parquet``: the mean of the interval at each lead, all quantile levels."""
    writer = _Writer(path, FORECASTS, runs[0].trace.vm_ids)
    for run in runs:
        demand = run.settings.demand
        step = run.trace.grid.step_seconds
        issued = run.trace.grid.start + (run.first + np.arange(run.rows)) * step
        for target, quantiles in {demand.decided_target: run.quantiles, **run.forecasts}.items():
            for start in range(0, quantiles.shape[1], _VMS_AT_ONCE):
                block = np.moveaxis(quantiles[:, start : start + _VMS_AT_ONCE], 0, 1)
                vm, row, level = np.nonzero(~np.isnan(block))
                columns = {
                    "issued_at": issued[row],
                    "target_at": issued[row] + target.steps * step,
                    "quantile": np.asarray(demand.levels)[level],
                    "value": block[vm, row, level],
                }
                writer.write(run.trace.resource, vm + start, columns)
    writer.close()


def write_risk(path: Path, runs: Sequence[ResourceRun]) -> None:
    """Write ``risk.parquet``: the probability that demand exceeds a limit within each horizon."""
    writer = _Writer(path, RISK, runs[0].trace.vm_ids)
    for run in runs:
        trace, demand = run.trace, run.settings.demand
        skipped = max(-run.first, 0)
        rows = np.arange(skipped, run.rows)
        issued = trace.grid.start + (run.first + rows) * trace.grid.step_seconds
        limits = trace.limit[run.first + rows]
        for h, steps in enumerate(demand.horizon_steps):
            for j, ratio in enumerate(demand.limit_ratios):
                for start in range(0, limits.shape[1], _VMS_AT_ONCE):
                    part = slice(start, start + _VMS_AT_ONCE)
                    block = run.risk[skipped:, h, j, part].T
                    vm, row = np.nonzero(~np.isnan(block))
                    columns = {
                        "issued_at": issued[row],
                        "horizon_seconds": np.full(len(row), steps * trace.grid.step_seconds),
                        "limit": ratio * limits[:, part].T[vm, row],
                        "probability": block[vm, row],
                    }
                    writer.write(trace.resource, vm + start, columns)
    writer.close()
