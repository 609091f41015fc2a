"""Samples of demand on a regular grid, with gaps kept as gaps.

Axes everywhere: ``(time, vm)`` for a trace, ``(vm, resource)`` for the observation of one step. A missing
sample is NaN and is never filled in. The virtual machines of a trace stand in the order in which they were
first seen (then by name), so that what is known at a step is always a leading block of columns, and
nothing about VMs that come later can leak into a decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forestall.model.resources import Resource

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """A regular grid of instants: ``start + i * step_seconds`` for ``0 <= i < steps``.

    An instant is the **start** of the interval that a sample describes, in seconds UTC (or seconds since
    the start of a trace whose calendar is hidden).
    """

    start: int
    step_seconds: int
    steps: int

    def at(self, index: int) -> int:
        """Instant of position ``index``; positions beyond the end are allowed (the future)."""
        return self.start + index * self.step_seconds

    def index(self, instant: int) -> int:
        """Position of the first instant that is not before ``instant``, within [0, steps]."""
        return min(max(-(-(instant - self.start) // self.step_seconds), 0), self.steps)


@dataclass(frozen=True)
class Observation:
    """All that became known at one step: demand and limit of every VM seen so far, or at least of those that run.

    Attributes
    ----------
    at
        Start of the interval that was observed, seconds.
    vm_ids
        VMs known so far, in the order of their first appearance. In a trace a later observation only appends. A host
        where VMs come and go may leave out those that do not run any more, or its observations would grow for ever:
        who lays several of them side by side goes by the names.
    demand, limit
        Arrays (vm, resource), in the unit of the resource. Demand is NaN where there was no sample. Limit is
        the last known one; NaN where it has never been known, inf where the resource has no limit.
    """

    at: int
    vm_ids: tuple[str, ...]
    demand: FloatArray
    limit: FloatArray


@dataclass(frozen=True)
class Trace:
    """A recorded demand trace on a regular grid.

    Attributes
    ----------
    grid
        The instants.
    vm_ids
        VMs in the order of their first sample, then by name.
    demand, limit
        For each resource of the trace an array (time, vm). ``limit`` is as recorded (NaN in gaps), inf for
        resources without one.
    cpu_peak
        Highest CPU demand inside each interval, cores, (time, vm); None where the trace has none.
    active_users
        How many people used each VM in the interval (time, vm), NaN where nobody told; None where the trace has none.
    digest
        SHA-256 of the canonical content; names the trace in summaries.
    name
        What to call it in a report.
    calendar
        Whether instants are real dates (False: hours and weekdays mean nothing beyond their recurrence).
    """

    grid: Grid
    vm_ids: tuple[str, ...]
    demand: Mapping[Resource, FloatArray]
    limit: Mapping[Resource, FloatArray]
    cpu_peak: FloatArray | None = None
    active_users: FloatArray | None = None
    digest: str = ""
    name: str = "trace"
    calendar: bool = True

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Resources of the trace, in the order of :class:`Resource`."""
        return tuple(r for r in Resource if r in self.demand)

    def known_limit(self, resource: Resource) -> FloatArray:
        """Limit (time, vm) with gaps filled by the last known one; NaN before the first sample."""
        limit = self.limit[resource]
        position = np.where(np.isnan(limit), 0, np.arange(len(limit))[:, None])
        return np.take_along_axis(limit, np.maximum.accumulate(position, axis=0), axis=0)

    def first_seen(self) -> IntArray:
        """Position (vm,) of each VM's first sample of any resource; the number of steps where there is none."""
        seen: BoolArray = np.zeros((self.grid.steps + 1, len(self.vm_ids)), dtype=bool)
        seen[-1] = True
        for values in self.demand.values():
            seen[:-1] |= ~np.isnan(values)
        return np.asarray(seen.argmax(axis=0), dtype=np.int64)

    def observations(self, resources: tuple[Resource, ...] | None = None) -> Iterator[Observation]:
        """Replay the trace step by step; each observation holds only what was known by then."""
        chosen = resources or self.resources
        known = np.searchsorted(self.first_seen(), np.arange(self.grid.steps), side="right")
        demand = np.stack([self.demand[r] for r in chosen], axis=-1)
        limit = np.stack([self.known_limit(r) for r in chosen], axis=-1)
        for i, n in enumerate(known):
            yield Observation(self.grid.at(i), self.vm_ids[:n], demand[i, :n], limit[i, :n])
