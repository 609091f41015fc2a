"""Behaviour store in memory: the plainest thing that keeps the contract."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.ports.store import Resolution, Retention, SampleBatch

_Sample = tuple[float, float]
_Statistic = Callable[[Sequence[float]], float]


class MemoryStore:
    """A :class:`~forestall.ports.store.BehaviourStore` that lasts as long as the process.

    It keeps raw samples only and computes the rest when asked.

    Parameters
    ----------
    step_seconds
        Sampling step, a divisor of 3600.
    retention
        How long each resolution is kept; raw samples are kept for ever.
    """

    def __init__(self, *, step_seconds: int = 60, retention: Retention | None = None) -> None:
        if step_seconds < 1 or 3600 % step_seconds:
            raise StoreError(f"a sampling step of {step_seconds} s does not divide an hour")
        self._step = step_seconds
        self._retention = retention or Retention()
        self._samples: dict[tuple[str, Resource], dict[int, _Sample]] = defaultdict(dict)
        self._floor = dict.fromkeys(Resolution, 0)

    @property
    def step_seconds(self) -> int:
        """Sampling step: the bucket of the raw resolution."""
        return self._step

    def append(self, batches: Sequence[SampleBatch]) -> None:
        """Store samples, in any order of time; nothing of a call that is refused."""
        for batch in batches:
            batch.check()
        for batch in batches:
            at = batch.at - batch.at % self._step
            for i, j in np.argwhere(~np.isnan(batch.demand)).tolist():
                series = self._samples[batch.vm_ids[i], batch.resources[j]]
                series[at] = (float(batch.demand[i, j]), float(batch.limit[i, j]))

    def history(
        self,
        *,
        since: int,
        until: int,
        resolution: Resolution = Resolution.RAW,
        vm_ids: Sequence[str] | None = None,
    ) -> Trace:
        """Samples in ``[since, until)``; means at coarser resolutions."""
        return self._query(lambda x: math.fsum(x) / len(x), since, until, resolution, vm_ids)

    def peaks(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """Highest sample of each bucket."""
        return self._query(max, since, until, resolution, vm_ids)

    def counts(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """How many samples each bucket holds."""
        return self._query(len, since, until, resolution, vm_ids)

    def vm_ids(self) -> tuple[str, ...]:
        """Every VM that has a stored sample, sorted."""
        return tuple(sorted({vm_id for vm_id, _ in self._samples}))

    def maintain(self, now: int) -> None:
        """Forget what is past its retention."""
        for resolution in Resolution:
            kept_from = self._retention.floor(resolution, now)
            self._floor[resolution] = max(self._floor[resolution], kept_from)

    def close(self) -> None:
        """Nothing to release."""

    def _query(
        self,
        statistic: _Statistic,
        since: int,
        until: int,
        resolution: Resolution,
        vm_ids: Sequence[str] | None,
    ) -> Trace:
        grid = resolution.grid(since, until, self._step)
        found: dict[tuple[str, Resource], tuple[FloatArray, FloatArray]] = {}
        for (vm_id, resource), series in self._samples.items():
            if vm_ids is None or vm_id in vm_ids:
                spread = _spread(series, grid, statistic, self._floor[resolution])
                if not np.isnan(spread[0]).all():
                    found[vm_id, resource] = spread
        return _trace(grid, found)


def _spread(
    series: dict[int, _Sample], grid: Grid, statistic: _Statistic, kept_from: int
) -> tuple[FloatArray, FloatArray]:
    """Statistic and last known limit of each bucket of a grid; NaN where there is no sample."""
    buckets: dict[int, list[_Sample]] = defaultdict(list)
    for at in sorted(series):
        start = at - at % grid.step_seconds
        if grid.start <= start < grid.at(grid.steps) and start >= kept_from:
            buckets[(start - grid.start) // grid.step_seconds].append(series[at])
    values, limits = np.full((2, grid.steps), np.nan)
    for i, samples in buckets.items():
        values[i] = statistic([demand for demand, _ in samples])
        limits[i] = next((limit for _, limit in reversed(samples) if not math.isnan(limit)), math.nan)
    return values, limits


def _trace(grid: Grid, found: dict[tuple[str, Resource], tuple[FloatArray, FloatArray]]) -> Trace:
    first: dict[str, int] = {}
    for (vm_id, _), (values, _) in found.items():
        first[vm_id] = min(first.get(vm_id, grid.steps), int((~np.isnan(values)).argmax()))
    vm_ids = tuple(sorted(first, key=lambda v: (first[v], v)))
    nothing = np.full((2, grid.steps), np.nan)
    demand, limit = {}, {}
    for resource in Resource:
        if any((vm_id, resource) in found for vm_id in vm_ids):
            columns = np.array([found.get((vm_id, resource), nothing) for vm_id in vm_ids])
            demand[resource], limit[resource] = columns[:, 0].T.copy(), columns[:, 1].T.copy()
    return Trace(grid, vm_ids, demand, limit, name="history")
