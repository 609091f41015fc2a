"""The behaviour store: what was measured, kept at three resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Trace


class Resolution(StrEnum):
    """How finely history is kept: as sampled, rolled up to 5 minutes, rolled up to 1 hour."""

    RAW = "raw"
    FIVE_MINUTES = "5min"
    HOUR = "1h"


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one step for some VMs.

    ``demand`` and ``limit`` are arrays (vm, resource); NaN says "no sample" and is not stored. ``at`` is the
    start of the interval, seconds.
    """

    at: int
    vm_ids: Sequence[str]
    resources: Sequence[Resource]
    demand: FloatArray
    limit: FloatArray


class BehaviourStore(Protocol):
    """Keeps and returns samples. Errors are :class:`~forestall.model.errors.StoreError`.

    Writing the same (vm, resource, instant) again replaces the sample: repeating a batch is harmless.
    What :meth:`append` has returned from is durable.
    """

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

    def peaks(self, *, since: int, until: int, resolution: Resolution) -> Trace:
        """As :meth:`history` at a coarser resolution, but the highest sample of each bucket."""
        ...

    def vm_ids(self) -> tuple[str, ...]:
        """Every VM that has a stored sample, sorted."""
        ...

    def maintain(self, now: int) -> None:
        """Roll up, drop what is past its retention, archive. Safe to call at any time and to interrupt."""
        ...

    def close(self) -> None:
        """Flush and release the store."""
        ...
