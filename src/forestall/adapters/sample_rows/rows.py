"""From sample batches to rows of a table, and from rows to a trace; vectorised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from forestall.adapters.sample_rows.columns import limit_column
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, IntArray, Trace
from forestall.ports.store import SampleBatch

_ORDER = {r: i for i, r in enumerate(Resource)}


def table_of(batches: Sequence[SampleBatch], ids: Mapping[str, int], step_seconds: int) -> pa.Table:
    """Rows of every column of samples, sorted by (instant, vm), one for each of these keys; later batches win.

    Parameters
    ----------
    batches
        At least one; the arrays fit the names.
    ids
        Number of each VM; VMs that are not in it have no sample and are left out.
    step_seconds
        Sampling step to which instants are aligned down.
    """
    vm = [np.array([ids.get(name, -1) for name in b.vm_ids], dtype=np.int64) for b in batches]
    size = max(max((int(v.max()) for v in vm if len(v)), default=0) + 1, 1)
    key = [v + (b.at // step_seconds) * size for v, b in zip(vm, batches, strict=True)]
    unique, row = np.unique(np.concatenate(key), return_inverse=True)
    demand, limit = np.full((2, len(Resource), len(unique)), np.nan)
    start = 0
    for batch, numbers in zip(batches, vm, strict=True):
        rows = row[start : start + len(numbers)]
        start += len(numbers)
        for j, resource in enumerate(batch.resources):
            present = (numbers >= 0) & ~np.isnan(batch.demand[:, j])
            demand[_ORDER[resource], rows[present]] = batch.demand[present, j]
            limit[_ORDER[resource], rows[present]] = batch.limit[present, j]
    kept = ~np.isnan(demand).all(axis=0)
    columns: dict[str, pa.Array] = {
        "instant": pa.array(unique[kept] // size * step_seconds),
        "vm": pa.array((unique[kept] % size).astype(np.int32)),
    }
    for resource, i in _ORDER.items():
        columns[resource.demand_column] = pa.array(demand[i, kept], from_pandas=True)
        columns[limit_column(resource)] = pa.array(limit[i, kept], from_pandas=True)
    return pa.table(columns)


def named(batches: Sequence[SampleBatch]) -> list[str]:
    """VMs that have a sample in the batches, in the order in which they come."""
    seen: dict[str, None] = {}
    for batch in batches:
        sampled: list[int] = np.flatnonzero((~np.isnan(batch.demand)).any(axis=1)).tolist()
        seen.update((batch.vm_ids[i], None) for i in sampled)
    return list(seen)


def trace_of(layers: Sequence[pa.Table], grid: Grid, names: Mapping[int, str]) -> Trace:
    """Spread rows out on a grid.

    Parameters
    ----------
    layers
        Rows as of :func:`table_of`, all on the grid, each with a value; later layers win. A resource may be left out.
    grid
        Instants of the trace.
    names
        Name of each VM by its number.
    """
    at = [rows["instant"].to_numpy() for rows in layers]
    vm = [rows["vm"].to_numpy() for rows in layers]
    numbers, place = _columns(np.concatenate(at), np.concatenate(vm), names)
    step = [(instants - grid.start) // grid.step_seconds for instants in at]
    demand: dict[Resource, FloatArray] = {}
    limit: dict[Resource, FloatArray] = {}
    for resource in Resource:
        spread = np.full((2, grid.steps, len(numbers)), np.nan)
        for rows, i, j in zip(layers, step, vm, strict=True):
            if resource.demand_column not in rows.column_names:
                continue
            values = rows[resource.demand_column].to_numpy()
            there = ~np.isnan(values)
            cell = (i[there], place[j[there]])
            spread[0][cell] = values[there]
            spread[1][cell] = rows[limit_column(resource)].to_numpy()[there]
        if not np.isnan(spread[0]).all():
            demand[resource], limit[resource] = spread[0], spread[1]
    return Trace(grid, tuple(names[n] for n in numbers), demand, limit, name="history")


def _columns(at: IntArray, vm: IntArray, names: Mapping[int, str]) -> tuple[list[int], IntArray]:
    """VM numbers in the order of their first instant, then by name; and the column of each number."""
    place = np.full(int(vm.max(initial=0)) + 1, -1, dtype=np.int64)
    first = np.full(len(place), np.iinfo(np.int64).max)
    np.minimum.at(first, vm, at)
    seen = np.flatnonzero(np.bincount(vm, minlength=len(place))).tolist()
    numbers = sorted(seen, key=lambda n: (first[n], names[n]))
    place[numbers] = np.arange(len(numbers))
    return numbers, place
