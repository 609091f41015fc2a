"""VMs in the order in which they were first seen, with what was known of each last."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forestall.adapters.libvirt.rates import Reading, demand
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Observation


class Roster:
    """Turns readings into observations.

    Rows are only ever appended: a VM that is gone keeps its row, with NaN for its demand and its last limit, and has
    it again if it comes back.

    Parameters
    ----------
    resources
        Axis 1 of what comes out.
    """

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self._resources = resources
        self._row: dict[str, int] = {}
        self._limit: FloatArray = np.empty((0, len(resources)))
        self._before: Mapping[str, Reading] = {}
        self._read_at: float | None = None

    def observe(self, readings: Mapping[str, Reading], at: float) -> Observation:
        """What was demanded since the last call; ``at`` is the wall-clock time of these readings, seconds."""
        self._append([vm_id for vm_id in readings if vm_id not in self._row])
        demanded = np.full(self._limit.shape, np.nan)
        for vm_id, reading in readings.items():
            row, before = self._row[vm_id], self._before.get(vm_id)
            for k, resource in enumerate(self._resources):
                demanded[row, k] = demand(before, reading, resource)
                if (limit := reading.limit.get(resource)) is not None:
                    self._limit[row, k] = limit
        start = at if self._read_at is None else self._read_at
        self._before, self._read_at = dict(readings), at
        return Observation(int(start), tuple(self._row), demanded, self._limit.copy())

    def gone(self, vm_ids: set[str]) -> set[str]:
        """Those that were not in the last readings."""
        return vm_ids - self._before.keys()

    @property
    def known(self) -> tuple[str, ...]:
        """Every VM seen so far."""
        return tuple(self._row)

    def _append(self, vm_ids: list[str]) -> None:
        for vm_id in vm_ids:
            self._row[vm_id] = len(self._row)
        self._limit = np.vstack([self._limit, np.full((len(vm_ids), len(self._resources)), np.nan)])
