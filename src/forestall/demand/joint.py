"""The pool's own risk is joint: VMs peak together, or they do not.

The chance that a host runs out in the next interval is computed from what its VMs did **together**: the errors of all
VMs in the same past interval, in units of each VM's forecast, are replayed onto the present forecast (a residual
bootstrap that keeps the dependence between VMs; Efron & Tibshirani, *An Introduction to the Bootstrap*, 9.4). Single
risks added up would say too much when VMs balance each other, and too little when they peak together.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.window import grown, retained


class JointRisk:
    """Past errors (time, vm) in units of the spread of each VM's forecast.

    Parameters
    ----------
    memory_steps
        Past intervals that are kept and replayed.
    """

    def __init__(self, memory_steps: int = 288) -> None:
        self._errors: Float32Array = np.zeros((memory_steps, 0), np.float32)
        self._count = 0

    def learn(self, actual: FloatArray, median: FloatArray, spread: FloatArray) -> None:
        """Remember one interval: arrays (vm,); a VM without a sample erred by nothing."""
        self._errors = grown(self._errors, len(actual), 1, 0.0)  # type: ignore[assignment]
        error = (actual - median) / np.where(spread > 0, spread, 1.0)
        row = self._errors[self._count % len(self._errors)]
        row[:] = 0.0
        row[: len(actual)] = np.nan_to_num(error, nan=0.0, posinf=0.0, neginf=0.0)
        self._count += 1

    def keep(self, rows: IntArray) -> None:
        """Forget the errors of all VMs but those of ``rows``."""
        self._errors = retained(self._errors, rows, 1)

    def overload(
        self,
        median: FloatArray,
        spread: FloatArray,
        cap: FloatArray,
        host_of_vm: IntArray,
        capacity: FloatArray,
    ) -> FloatArray:
        """Probability (host,) that the VMs of a host together demand more than it has.

        Parameters
        ----------
        median, spread
            Arrays (vm,) of the present forecast; the spread is that of the errors learned.
        cap
            Array (vm,): no VM can use more than its limit.

        Returns
        -------
        FloatArray
            NaN before anything was learned, or where no pool has an end.
        """
        kept = min(self._count, len(self._errors))
        if kept == 0 or not np.isfinite(capacity).any():
            return np.full(len(capacity), np.nan)
        vms = len(median)
        self._errors = grown(self._errors, vms, 1, 0.0)  # type: ignore[assignment]
        demand = np.clip(median + self._errors[:kept, :vms] * spread, 0.0, cap)
        demand = np.nan_to_num(demand, nan=0.0, posinf=0.0)
        totals = np.stack([np.bincount(host_of_vm, weights=row, minlength=len(capacity)) for row in demand])
        over: FloatArray = (totals > capacity).mean(axis=0)
        return over
