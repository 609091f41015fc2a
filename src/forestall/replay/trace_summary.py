"""What is in a trace, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, Trace


@dataclass(frozen=True)
class ResourceSummary:
    """One resource of a trace: how many VMs have it, its demand and its mean limit, in its unit."""

    name: str
    unit: str
    vms: int
    samples: int
    mean: float
    p99: float
    mean_limit: float | None


@dataclass(frozen=True)
class TraceSummary:
    """A trace in a few numbers.

    Attributes
    ----------
    first, last
        Start of the first and of the last interval: a date, or seconds where the calendar is hidden.
    samples, gaps, gap_ratio, longest_gap
        Intervals with any sample, those without one between a VM's first and last, their share, and the
        longest run of them in seconds.
    repairs, warnings
        What the reader said.
    """

    name: str
    digest: str
    calendar: bool
    vms: int
    first: str
    last: str
    start: int
    step_seconds: int
    steps: int
    samples: int
    gaps: int
    gap_ratio: float
    longest_gap: int
    resources: tuple[ResourceSummary, ...]
    repairs: tuple[str, ...]
    warnings: tuple[str, ...]


def summarise(trace: Trace, notes: Sequence[str] = ()) -> TraceSummary:
    """Summarise a trace and what the reader said about it."""
    grid = trace.grid
    known = np.zeros((grid.steps, len(trace.vm_ids)), dtype=bool)
    for demand in trace.demand.values():
        known |= ~np.isnan(demand)
    missing = _missing(known)
    samples, gaps = int(known.sum()), int(missing.sum())
    return TraceSummary(
        name=trace.name,
        digest=trace.digest,
        calendar=trace.calendar,
        vms=len(trace.vm_ids),
        first=_instant(grid.start, trace.calendar),
        last=_instant(grid.at(grid.steps - 1), trace.calendar),
        start=grid.start,
        step_seconds=grid.step_seconds,
        steps=grid.steps,
        samples=samples,
        gaps=gaps,
        gap_ratio=gaps / (samples + gaps),
        longest_gap=_longest_run(missing) * grid.step_seconds,
        resources=tuple(_resource(trace, r) for r in trace.resources),
        repairs=tuple(n for n in notes if n.startswith("repair: ")),
        warnings=tuple(n for n in notes if not n.startswith("repair: ")),
    )


def _missing(known: BoolArray) -> BoolArray:
    """Mask (time, vm) of the intervals without a sample between a VM's first and last."""
    begun = np.logical_or.accumulate(known, axis=0)
    ended = ~np.logical_or.accumulate(known[::-1], axis=0)[::-1]
    return np.asarray(begun & ~ended & ~known)


def _longest_run(mask: BoolArray) -> int:
    """Length of the longest run of True down a column."""
    flat = np.concatenate([mask, np.zeros((1, mask.shape[1]), dtype=bool)]).T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0, append=0))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _instant(seconds: int, calendar: bool) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if calendar else f"{seconds} s"


def _resource(trace: Trace, resource: Resource) -> ResourceSummary:
    demand, limit = trace.demand[resource], trace.limit[resource]
    values = demand[~np.isnan(demand)]
    limits = limit[np.isfinite(limit)]
    return ResourceSummary(
        name=resource.value,
        unit=resource.unit,
        vms=int((~np.isnan(demand)).any(axis=0).sum()),
        samples=len(values),
        mean=float(values.mean()),
        p99=float(np.quantile(values, 0.99)),
        mean_limit=float(limits.mean()) if len(limits) else None,
    )
