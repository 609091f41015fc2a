"""A recording at a longer step, and a recording of short days at the length that they stand for.

Both are causal: an interval of the result depends on the rows of that interval alone, so that cutting the recording
after an instant changes no interval that was over by then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forestall.model.errors import WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace

DAY_SECONDS = 86_400


def coarsen(trace: Trace, step_seconds: int) -> Trace:
    """Bring a trace to a longer step.

    Intervals start at multiples of the step on the clock; a row belongs to the interval in which it starts. Demand is
    the mean of the samples that are there, and a gap where fewer than half are. The CPU's peak is the highest peak (or,
    where none was recorded, the highest mean) inside; the limit is the last known one;
    users are the mean.

    Parameters
    ----------
    trace
        The trace; its digest is not carried over.
    step_seconds
        A multiple of the trace's own step.

    Raises
    ------
    WrongUse
        The step is not a multiple of the trace's own, or so long that nothing but gaps is left.
    """
    if step_seconds % trace.grid.step_seconds:
        own = trace.grid.step_seconds
        raise WrongUse(f"--step-seconds {step_seconds}: is not a multiple of the trace's own step of {own} s")
    buckets = _Buckets.over(trace.grid, step_seconds)
    demand = {resource: buckets.mean(values) for resource, values in trace.demand.items()}
    limit = {resource: buckets.last(values) for resource, values in trace.limit.items()}
    users = None if trace.active_users is None else buckets.mean(trace.active_users)
    peak = _peak(trace, buckets)
    return _in_order(replace(trace, grid=buckets.grid, demand=demand, limit=limit, cpu_peak=peak, active_users=users))


def stretch(trace: Trace, factor: int, midnight: int = 0) -> Trace:
    """Let every second of a trace count as ``factor`` seconds; a rate stays what it was in the seconds recorded.

    Instants become seconds since the midnight before the recording, so that the hour of the day can be read off them
    and the first day is day 0. They are no dates any more: the calendar is hidden.

    Parameters
    ----------
    trace
        A trace whose days last 86,400 / ``factor`` seconds; its digest is not carried over.
    factor
        1 changes nothing.
    midnight
        Any instant at which a day of the recording begins, seconds.
    """
    if factor == 1:
        return trace
    start = (trace.grid.start - midnight) * factor % DAY_SECONDS
    grid = Grid(start, trace.grid.step_seconds * factor, trace.grid.steps)
    return replace(trace, grid=grid, digest="", calendar=False)


@dataclass(frozen=True)
class _Buckets:
    """The intervals of a coarser grid, and the rows of a finer one that lie in each.

    Attributes
    ----------
    grid
        The coarser grid.
    size
        Rows in an interval.
    before
        Rows that the first interval lacks because the trace starts within it.
    """

    grid: Grid
    size: int
    before: int

    @classmethod
    def over(cls, fine: Grid, step_seconds: int) -> _Buckets:
        """The intervals of ``step_seconds`` that a finer grid touches."""
        size = step_seconds // fine.step_seconds
        before = fine.start % step_seconds // fine.step_seconds
        steps = -(-(before + fine.steps) // size)
        return cls(Grid(fine.start // step_seconds * step_seconds, step_seconds, steps), size, before)

    def rows(self, values: FloatArray) -> FloatArray:
        """Values (time, vm) as an array (bucket, row, vm), NaN where the trace has no row."""
        padded = np.full((self.grid.steps * self.size, values.shape[1]), np.nan)
        padded[self.before : self.before + len(values)] = values
        return padded.reshape(self.grid.steps, self.size, values.shape[1])

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean (bucket, vm) of what is known, NaN where that is fewer than half of the rows."""
        rows = self.rows(values)
        known = (~np.isnan(rows)).sum(axis=1)
        return np.where(2 * known >= self.size, np.nansum(rows, axis=1) / np.maximum(known, 1), np.nan)

    def highest(self, values: FloatArray) -> FloatArray:
        """Highest known value (bucket, vm)."""
        return np.asarray(np.fmax.reduce(self.rows(values), axis=1))

    def last(self, values: FloatArray) -> FloatArray:
        """Last known value (bucket, vm); position -1, where there is none, holds NaN like all others."""
        rows = self.rows(values)
        position = np.where(np.isnan(rows), -1, np.arange(self.size)[:, None]).max(axis=1, keepdims=True)
        return np.take_along_axis(rows, position, axis=1)[:, 0]


def _peak(trace: Trace, buckets: _Buckets) -> FloatArray | None:
    """Highest CPU demand (bucket, vm) inside; None where nothing tells it from the mean."""
    mean = trace.demand.get(Resource.CPU)
    if mean is None or (trace.cpu_peak is None and buckets.size == 1):
        return None
    inside = mean if trace.cpu_peak is None else np.fmax(mean, trace.cpu_peak)
    return np.where(np.isnan(buckets.mean(mean)), np.nan, buckets.highest(inside))


def _in_order(trace: Trace) -> Trace:
    """Leave out VMs and ends without samples; VMs stand in the order of their first one, then by name."""
    seen = np.logical_or.reduce([~np.isnan(values) for values in trace.demand.values()])
    if not seen.any():
        raise WrongUse(f"--step-seconds {trace.grid.step_seconds}: no interval has half of its samples")
    steps, since = np.flatnonzero(seen.any(axis=1)), seen.argmax(axis=0)
    vms = sorted(np.flatnonzero(seen.any(axis=0)).tolist(), key=lambda vm: (since[vm], trace.vm_ids[vm]))
    first, end = int(steps[0]), int(steps[-1]) + 1

    def kept(values: FloatArray) -> FloatArray:
        return np.ascontiguousarray(values[first:end, vms])

    return replace(
        trace,
        grid=Grid(trace.grid.at(first), trace.grid.step_seconds, end - first),
        vm_ids=tuple(trace.vm_ids[vm] for vm in vms),
        demand={resource: kept(values) for resource, values in trace.demand.items()},
        limit={resource: kept(values) for resource, values in trace.limit.items()},
        cpu_peak=None if trace.cpu_peak is None else kept(trace.cpu_peak),
        active_users=None if trace.active_users is None else kept(trace.active_users),
        digest="",
    )
