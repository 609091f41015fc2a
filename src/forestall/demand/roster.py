"""The VMs that a running loop knows, in the order in which they were first seen, and observations laid on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray, Observation


class Roster:
    """VMs append, as the decision core needs it; a VM that comes back stands where it stood, until it was forgotten.

    Parameters
    ----------
    resources
        Axis 1 of what :meth:`lay` returns.
    """

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self._resources = resources
        self._index: dict[str, int] = {}
        self.vm_ids: tuple[str, ...] = ()
        self._limit: FloatArray = np.zeros((0, len(resources)))

    def add(self, vm_ids: Iterable[str]) -> None:
        """Append the VMs that are not known yet, in their order."""
        new = [vm_id for vm_id in dict.fromkeys(vm_ids) if vm_id not in self._index]
        if not new:
            return
        self._index |= {vm_id: len(self.vm_ids) + i for i, vm_id in enumerate(new)}
        self.vm_ids = (*self.vm_ids, *new)
        self._limit = np.pad(self._limit, ((0, len(new)), (0, 0)), constant_values=np.nan)

    def lay(self, seen: Observation, axes: Sequence[Resource]) -> tuple[FloatArray, FloatArray]:
        """Demand and limit (vm, resource) of an observation whose axis 1 is ``axes``.

        Demand is NaN where there is no sample, limit the last known one; both for every VM of the roster. A VM without
        a sample that is not in the roster is left out: the observation may know VMs that were forgotten here.
        """
        sampled: list[int] = np.flatnonzero((~np.isnan(seen.demand)).any(axis=1)).tolist()
        self.add(seen.vm_ids[i] for i in sampled)
        theirs = [i for i, vm_id in enumerate(seen.vm_ids) if vm_id in self._index]
        rows: IntArray = np.array([self._index[seen.vm_ids[i]] for i in theirs], dtype=np.int64)
        demand = np.full(self._limit.shape, np.nan)
        for column, resource in enumerate(self._resources):
            if resource not in axes:
                continue
            k = axes.index(resource)
            demand[rows, column] = seen.demand[theirs, k]
            limit = seen.limit[theirs, k]
            known = ~np.isnan(limit)
            self._limit[rows[known], column] = limit[known]
        return demand, self._limit.copy()

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self.vm_ids = tuple(self.vm_ids[row] for row in rows.tolist())
        self._index = {vm_id: row for row, vm_id in enumerate(self.vm_ids)}
        self._limit = self._limit[rows]

    def mask(self, vm_ids: Iterable[str]) -> BoolArray:
        """Which VMs (vm,) of the roster are among ``vm_ids``."""
        among = set(vm_ids)
        return np.array([vm_id in among for vm_id in self.vm_ids], dtype=bool)
