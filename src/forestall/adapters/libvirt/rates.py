"""From counters at two instants to demand; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from forestall.model.resources import Resource

NAN = math.nan


@dataclass(frozen=True)
class Counter:
    """What a device has counted by an instant; ``at`` is on a clock that never goes back."""

    value: float
    at: float


@dataclass(frozen=True)
class Reading:
    """One VM as it was read once.

    Attributes
    ----------
    run
        Names the run of the VM; counters of different runs have nothing to do with each other.
    counting
        Whether the VM runs (a paused one has no demand that could be seen).
    counters
        For each resource that is a rate, a counter for each device (one for CPU, in seconds).
    memory_bytes
        What the guest uses.
    limit
        For each resource that has one.
    """

    run: str
    counting: bool = True
    counters: Mapping[Resource, Mapping[str, Counter]] = field(default_factory=dict)
    memory_bytes: float = NAN
    limit: Mapping[Resource, float] = field(default_factory=dict)


def demand(before: Reading | None, now: Reading, resource: Resource) -> float:
    """Demand between two readings, in the resource's unit; NaN where it cannot be told."""
    if not now.counting:
        return NAN
    if resource is Resource.MEMORY:
        return now.memory_bytes
    if before is None or before.run != now.run or not before.counting:
        return NAN
    return rate(before.counters.get(resource, {}), now.counters.get(resource, {}))


def rate(before: Mapping[str, Counter], now: Mapping[str, Counter]) -> float:
    """Sum over the devices that were there both times of how fast each counted, over the true elapsed time.

    NaN if there is none, or if a counter went back: the VM was reset, and nobody knows what was lost.
    """
    both = before.keys() & now.keys()
    rates = [_rate(before[device], now[device]) for device in both]
    return math.fsum(rates) if rates and not any(map(math.isnan, rates)) else NAN


def _rate(before: Counter, now: Counter) -> float:
    seconds, counted = now.at - before.at, now.value - before.value
    return counted / seconds if seconds > 0 and counted >= 0 else NAN
