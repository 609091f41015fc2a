"""What looks wrong in a trace but may be true: kept as it is, and said."""

from __future__ import annotations

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.trace_checks import Notes
from forestall.replay.trace_columns import PEAK_COLUMN
from forestall.replay.trace_grid import Gridded

OUTLIER_RATIO, OUTLIER_RATIO_WITHOUT_LIMIT = 1e3, 1e5
"""How many times the VM's own 99th percentile a demand may be before it is doubted. Where there is a limit,
it must be exceeded tenfold too."""
LIMIT_RATIO = 10.0
MOST = 0.5


def doubt_values(gridded: Gridded, notes: Notes) -> None:
    """Warn of outliers, of limits below the demand most of the time, of missing limits and odd peaks."""
    for resource in Resource:
        demand = gridded.columns.get(resource.demand_column)
        if demand is None:
            continue
        limit = gridded.columns[resource.limit_column] if resource.limit_column else None
        _doubt_outliers(gridded, resource, demand, limit, notes)
        if limit is not None:
            _doubt_limits(gridded, resource, demand, limit, notes)
    peak = gridded.columns.get(PEAK_COLUMN)
    if peak is not None:
        with np.errstate(invalid="ignore"):
            below = peak < gridded.columns[Resource.CPU.demand_column] * (1 - 1e-6) - 1e-9
        _doubt_samples(gridded, below, PEAK_COLUMN, "is below the mean of its interval, kept", peak, notes)


def _doubt_outliers(
    gridded: Gridded, resource: Resource, demand: FloatArray, limit: FloatArray | None, notes: Notes
) -> None:
    usual = _percentile_99(demand)
    usual = np.where(usual > 0, usual, np.nan if limit is None else 0.0)
    with np.errstate(invalid="ignore"):
        if limit is None:
            far = demand > OUTLIER_RATIO_WITHOUT_LIMIT * np.maximum(usual, 1.0)
        else:
            far = (demand > OUTLIER_RATIO * usual) & (demand > LIMIT_RATIO * limit) & (limit > 0)
    what = "is an outlier among the VM's own values, kept"
    _doubt_samples(gridded, far, resource.demand_column, what, demand, notes)


def _percentile_99(values: FloatArray) -> FloatArray:
    """99th percentile (vm,) of the known values of each VM, rounded down in rank."""
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)
    known = (~np.isnan(ordered)).sum(axis=1)
    rank = np.maximum(np.ceil(0.99 * known).astype(np.int64) - 2, 0)
    return np.asarray(ordered[np.arange(len(ordered)), rank])


def _doubt_samples(gridded: Gridded, odd: BoolArray, column: str, what: str, values: FloatArray, notes: Notes) -> None:
    if not odd.any():
        return
    slot, vm = (int(i[0]) for i in np.nonzero(odd))
    path, row = gridded.rows.place(gridded.row_of(vm, slot))
    value = f"{values[slot, vm]:.6g} of {gridded.names[vm]}"
    notes.doubt(f"{path}: row {row}, column {column}: {value} {what} ({int(odd.sum())} in all)")


def _doubt_limits(gridded: Gridded, resource: Resource, demand: FloatArray, limit: FloatArray, notes: Notes) -> None:
    with np.errstate(invalid="ignore"):
        above = ((demand > limit) & (limit > 0)).sum(axis=0)
    known = np.maximum((~np.isnan(demand) & (limit > 0)).sum(axis=0), 1)
    place = f"{gridded.rows.path}: column {resource.limit_column}"
    wrong = np.flatnonzero(above > MOST * known)
    if len(wrong):
        notes.doubt(
            f"{place}: is below {resource.demand_column} most of the time for "
            f"{len(wrong)} VMs (first: {gridded.names[wrong[0]]}): wrong units?"
        )
    without = np.flatnonzero(np.isnan(limit).all(axis=0) & ~np.isnan(demand).all(axis=0))
    if len(without):
        first = gridded.names[without[0]]
        notes.doubt(f"{place}: no limit for {len(without)} VMs (first: {first})")
