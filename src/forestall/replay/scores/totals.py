"""Per-VM totals of an allocation against demand: the statistics that every allocation score is made of.

They are sums, so that parts of a trace can be added, VMs can be resampled, and nothing of shape (time, vm)
needs to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.scores.churn import count_moves

TOLERANCE = 1e-9
"""Demand above the allocation by no more than this is rounding, not a violation."""
MATERIAL_RATIO = 0.01
"""A violation by more than this share of the limit is material."""
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class VmTotals:
    """Sums over the observed intervals of each VM; every array is (vm,).

    Attributes
    ----------
    intervals
        Observed intervals.
    violations, material
        Intervals with demand above the allocation, and by more than 1 % of the limit.
    unmet
        Σ max(demand − allocation, 0), unit × intervals.
    demand
        Σ demand, capped at the limit, unit × intervals.
    covered
        Intervals that have an amount (all, unless a resource without limit has no allocation).
    allocated, covered_demand
        Σ allocation and Σ demand over these.
    limited_allocated, limit
        Σ allocation and Σ limit over the intervals with a limit.
    limited
        Intervals with a limit.
    changes, reversals
        Moves of more than 1 %, and those that undo a move of the last 10 minutes.
    """

    intervals: IntArray
    violations: IntArray
    material: IntArray
    unmet: FloatArray
    demand: FloatArray
    covered: IntArray
    allocated: FloatArray
    covered_demand: FloatArray
    limited_allocated: FloatArray
    limit: FloatArray
    limited: IntArray
    changes: IntArray
    reversals: IntArray

    def of(self, members: BoolArray) -> VmTotals:
        """Totals of some of the VMs, chosen by a mask (vm,)."""
        return VmTotals(**{f.name: getattr(self, f.name)[members] for f in fields(self)})


def vm_totals(demand: FloatArray, limit: FloatArray, allocated: FloatArray, step_seconds: float) -> VmTotals:
    """Total an allocation for each VM; see :func:`forestall.replay.scores.allocation.score_allocation`.

    Works through blocks of VMs, so that its memory does not grow with the trace.
    """
    steps, vms = demand.shape
    width = max(1, _BLOCK_CELLS // max(steps, 1))
    blocks = [
        _block_totals(demand[:, i : i + width], limit[:, i : i + width], allocated[:, i : i + width], step_seconds)
        for i in range(0, max(vms, 1), width)
    ]
    names = [f.name for f in fields(VmTotals)]
    return VmTotals(**{name: np.concatenate([getattr(b, name) for b in blocks]) for name in names})


def effective(
    demand: FloatArray, limit: FloatArray, allocated: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Demand capped at the limit, the limit (inf where unknown), and what the VM could really use.

    An allocation above the limit counts as the limit; no allocation counts as the static limit, which is
    inf for a resource without one. Unobserved intervals are NaN in all three.
    """
    observed = ~np.isnan(demand)
    ceiling = np.where(observed, np.where(np.isnan(limit), np.inf, limit), np.nan)
    amount = np.minimum(np.where(np.isnan(allocated), np.inf, allocated), ceiling)
    return np.minimum(demand, ceiling), ceiling, amount


def _block_totals(demand: FloatArray, limit: FloatArray, allocated: FloatArray, step_seconds: float) -> VmTotals:
    need, ceiling, amount = effective(demand, limit, allocated)
    given, limited = np.isfinite(amount), np.isfinite(ceiling)
    unmet = np.fmax(need - amount, 0.0)
    violated = unmet > TOLERANCE
    changes, reversals = count_moves(amount, ceiling, step_seconds)
    return VmTotals(
        intervals=(~np.isnan(demand)).sum(axis=0),
        violations=violated.sum(axis=0),
        material=(violated & (unmet > MATERIAL_RATIO * ceiling)).sum(axis=0),
        unmet=_total(unmet, violated),
        demand=_total(need, ~np.isnan(need)),
        covered=given.sum(axis=0),
        allocated=_total(amount, given),
        covered_demand=_total(need, given),
        limited_allocated=_total(amount, limited),
        limit=_total(ceiling, limited),
        limited=limited.sum(axis=0),
        changes=changes,
        reversals=reversals,
    )


def _total(values: FloatArray, where: BoolArray) -> FloatArray:
    total: FloatArray = np.sum(values, axis=0, where=where)
    return total
