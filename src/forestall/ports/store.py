"""The behaviour store: what was measured, kept at three resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace

LATEST = 253_402_300_800
"""Instants are before this, the year 10000."""


class Resolution(StrEnum):
    """How finely history is kept: as sampled, rolled up to 5 minutes, rolled up to 1 hour."""

    RAW = "raw"
    FIVE_MINUTES = "5min"
    HOUR = "1h"

    def bucket_seconds(self, step_seconds: int) -> int:
        """Length of a bucket, for a store that is sampled every ``step_seconds``."""
        return {"5min": 300, "1h": 3600}.get(self.value, step_seconds)

    def grid(self, since: int, until: int, step_seconds: int) -> Grid:
        """Buckets that start in ``[since, until)``, for a store that is sampled every ``step_seconds``."""
        bucket = self.bucket_seconds(step_seconds)
        start = -(-since // bucket) * bucket
        return Grid(start, bucket, max(-(-(until - start) // bucket), 0))


@dataclass(frozen=True)
class Retention:
    """How long each resolution is kept, in seconds.

    ``raw_seconds`` is how long raw samples stay in the store itself; older ones move to its archive, where
    they are kept and from where they are read as before. Coarser history past its retention is dropped (and
    could be computed again from the archive).
    """

    raw_seconds: int = 14 * 86_400
    five_minutes_seconds: int = 90 * 86_400
    hour_seconds: int = 2 * 365 * 86_400

    def floor(self, resolution: Resolution, now: int) -> int:
        """Start of the first bucket of ``resolution`` that is kept at instant ``now``, at least 0."""
        if resolution is Resolution.RAW:
            return 0
        kept = self.hour_seconds if resolution is Resolution.HOUR else self.five_minutes_seconds
        bucket = resolution.bucket_seconds(1)
        return max(-(-(now - kept) // bucket) * bucket, 0)


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one step for some VMs.

    ``demand`` and ``limit`` are arrays (vm, resource); NaN demand says "no sample" and is not stored (nor is
    its limit); NaN limit says that the limit is not known. ``at`` is the start of the interval, seconds,
    >= 0; a store aligns it down to its sampling step.
    """

    at: int
    vm_ids: Sequence[str]
    resources: Sequence[Resource]
    demand: FloatArray
    limit: FloatArray

    def check(self) -> None:
        """Raise :class:`StoreError` if arrays do not fit names, or the instant cannot be stored."""
        shape = (len(self.vm_ids), len(self.resources))
        for name, values in (("demand", self.demand), ("limit", self.limit)):
            if np.shape(values) != shape:
                raise StoreError(f"{name} of shape {np.shape(values)} for {shape[0]} VMs and {shape[1]} resources")
        if not 0 <= self.at < LATEST:
            raise StoreError(f"instant {self.at} is outside [0, {LATEST})")


class BehaviourStore(Protocol):
    """Keeps and returns samples. Errors are :class:`~forestall.model.errors.StoreError`.

    Writing the same (vm, resource, instant) again replaces the sample: repeating a batch is harmless.
    What :meth:`append` has returned from is durable. What is read holds every sample that was appended
    before, at each resolution, whether or not :meth:`maintain` has run since.

    Queries give the grid of every bucket that starts in ``[since, until)``, also where nothing was
    sampled. A VM or resource without any sample in those bounds is left out.
    """

    @property
    def step_seconds(self) -> int:
        """Sampling step: the bucket of the raw resolution."""
        ...

    def append(self, batches: Sequence[SampleBatch]) -> None:
        """Store samples durably, in any order of time."""
        ...

    def history(
        self,
        *,
        since: int,
        until: int,
        resolution: Resolution = Resolution.RAW,
        vm_ids: Sequence[str] | None = None,
    ) -> Trace:
        """Samples with ``since <= at < until`` on a regular grid; mean demand at coarser resolutions."""
        ...

    def peaks(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """As :meth:`history`, but the highest sample of each bucket."""
        ...

    def counts(self, *, since: int, until: int, resolution: Resolution, vm_ids: Sequence[str] | None = None) -> Trace:
        """As :meth:`history`, but how many samples each bucket holds; NaN where there is none."""
        ...

    def vm_ids(self) -> tuple[str, ...]:
        """Every VM that has a stored sample, sorted."""
        ...

    def maintain(self, now: int) -> bool | None:
        """Roll up, drop what is past its retention, archive. Safe to call at any time and to interrupt.

        True: that takes long, and more is left for other calls, soon.
        """
        ...

    def close(self) -> None:
        """Flush and release the store."""
        ...
