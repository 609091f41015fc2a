"""Trust groups: which VMs may learn from each other.

What many VMs teach (which forecaster is good, how wrong it is, how demand goes on) is the prior of those of which
little is known yet, and VMs that move together tell of each other. Between tenants that do not trust each other it
would tell one what the other does; so all of it stays within a group. VMs of which nothing is said are one group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import left_behind, retained


class TrustGroups:
    """The trust group of each VM; shared by all who learn.

    Groups have numbers here, which go with their names: what was learned in one is never another's, however often
    groups come, go and stand in another order.
    """

    def __init__(self) -> None:
        self._of: IntArray = np.zeros(0, np.int64)
        self._numbers = {"": 0}

    @property
    def count(self) -> int:
        """How many groups there have been."""
        return len(self._numbers)

    def assign(self, names: Sequence[str]) -> None:
        """Say of which group each VM is, by name, empty for none; one that moves keeps what is known of itself."""
        self._of = np.array([self._numbers.setdefault(name, len(self._numbers)) for name in names], dtype=np.int64)

    def of(self, vms: int) -> IntArray:
        """Group (vm,) of the first ``vms`` VMs; those of which nothing was said are in group 0."""
        known = self._of[:vms]
        return np.pad(known, (0, vms - len(known)))

    def members(self, vms: int) -> Iterator[tuple[int, IntArray]]:
        """Each group that has some of the first ``vms`` VMs, and which."""
        return self.among(np.arange(vms))

    def among(self, rows: IntArray) -> Iterator[tuple[int, IntArray]]:
        """Each group that has some of the VMs ``rows``, and at which places in it they stand."""
        if self.count == 1:
            yield 0, np.arange(len(rows))
            return
        of = self.of(int(rows.max(initial=-1)) + 1)[rows]
        order = np.argsort(of, kind="stable")
        groups, starts = np.unique(of[order], return_index=True)
        for group, places in zip(groups, np.split(order, starts[1:]), strict=False):
            yield int(group), places

    def totals(self, values: NDArray[Any], axis: int) -> FloatArray:
        """Sum (group, ...) over the VMs of each group, which are along ``axis``."""
        total = np.zeros((self.count, *np.delete(values.shape, axis)))
        for group, vms in self.members(values.shape[axis]):
            own = values if self.count == 1 else values.take(vms, axis=axis)
            total[group] = own.sum(axis=axis, dtype=np.float64)
        return total

    def left_behind(self, values: NDArray[Any], rows: IntArray, axis: int) -> FloatArray:
        """Sum (group, ...) over the VMs of each group that are not in ``rows``."""
        if self.count == 1:
            return left_behind(values, rows, axis)[None]
        others = np.delete(np.arange(values.shape[axis]), rows[rows < values.shape[axis]])
        of = self.of(values.shape[axis])[others]
        parts = [values.take(others[of == group], axis=axis) for group in range(self.count)]
        return np.stack([part.sum(axis=axis, dtype=np.float64) for part in parts])

    def spread(self, values: NDArray[Any], vms: int, axis: int) -> NDArray[Any]:
        """Give each VM what its group has: ``values`` (group, ...) with VMs along ``axis`` (or what stands for all)."""
        if self.count == 1:
            return np.expand_dims(values[0], axis)
        return np.moveaxis(values[self.of(vms)], 0, axis)

    def room(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` (group, ...) with rows of nothing for groups that are new."""
        new = self.count - len(values)
        return np.pad(values, ((0, new), *[(0, 0)] * (values.ndim - 1))) if new > 0 else values

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing). After all who learn have done so, for they ask."""
        self._of = retained(self._of, rows, 0)
