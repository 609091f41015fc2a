"""VMs that run, in the order in which they were first seen, with what was known of each last."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forestall.adapters.libvirt.rates import Reading, demand
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Observation


class Roster:
    """Turns readings into observations.

    A VM has a row as long as it is read. One that is gone has none: nothing can be seen of it, and on a host where VMs
    come and go the rows would grow for ever. If it comes back it is the newest.

    Parameters
    ----------
    resources
        Axis 1 of what comes out.
    """

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self._resources = resources
        self._limit: dict[str, FloatArray] = {}
        self._before: Mapping[str, Reading] = {}
        self._read_at: float | None = None

    def observe(self, readings: Mapping[str, Reading], at: float) -> Observation:
        """What was demanded since the last call; ``at`` is the wall-clock time of these readings, seconds."""
        known = {vm_id: limit for vm_id, limit in self._limit.items() if vm_id in readings}
        self._limit = known | {vm_id: self._unknown() for vm_id in readings if vm_id not in known}
        demanded = np.full((len(self._limit), len(self._resources)), np.nan)
        for row, (vm_id, limits) in enumerate(self._limit.items()):
            reading, before = readings[vm_id], self._before.get(vm_id)
            for k, resource in enumerate(self._resources):
                demanded[row, k] = demand(before, reading, resource)
                limits[k] = reading.limit.get(resource, limits[k])
        start = at if self._read_at is None else self._read_at
        self._before, self._read_at = dict(readings), at
        limit = np.array(list(self._limit.values()), dtype=np.float64).reshape(demanded.shape)
        return Observation(int(start), tuple(self._limit), demanded, limit)

    def _unknown(self) -> FloatArray:
        return np.full(len(self._resources), np.nan)
