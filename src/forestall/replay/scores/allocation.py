"""How well an allocation fits demand: violations, severity, slack, spread over VMs, churn, fairness."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.scores.totals import VmTotals, vm_totals


@dataclass(frozen=True)
class AllocationScores:
    """Scores of one policy at one setting on one resource. NaN where a score has no meaning.

    Attributes
    ----------
    intervals
        Observed VM-intervals.
    violation_share, material_share
        Share of VM-intervals with demand above the allocation, and by more than 1 % of the limit (of those
        with a limit).
    severity
        Unmet demand over demand.
    slack
        (Σ allocation − Σ demand) / Σ demand.
    reclaimed_share
        Share of the static limit that the policy did not allocate.
    p95_vm_share, worst_vm_share
        Violation share of the VM at the 95th percentile, and of the worst VM.
    budget, over_twice_share
        The budget asked for, and the share of VMs that violate more than twice as often.
    changes_per_vm_hour, reversals_per_vm_hour
        Moves of more than 1 %; moves that undo one of the last 10 minutes.
    fairness
        Jain's index over VMs of the share of demand that was met: 1 is equal for all, 1/n all for one.
    per_vm
        What the scores were computed from, for resampling.
    """

    intervals: int
    violation_share: float
    material_share: float
    severity: float
    slack: float
    reclaimed_share: float
    p95_vm_share: float
    worst_vm_share: float
    budget: float
    over_twice_share: float
    changes_per_vm_hour: float
    reversals_per_vm_hour: float
    fairness: float
    per_vm: VmTotals = field(repr=False, compare=False)


def score_allocation(
    demand: FloatArray,
    limit: FloatArray,
    allocated: FloatArray,
    step_seconds: float,
    *,
    budget: float = 0.01,
) -> AllocationScores:
    """Score an allocation of one resource.

    Only observed intervals count. Demand is capped at its interval's limit, an allocation above the limit
    counts as the limit, and an interval without an allocation counts as the static limit. Where there is no
    limit (inf, or NaN: unknown), an interval without an allocation is never violated and stays out of the
    slack; it still counts as an interval.

    Parameters
    ----------
    demand, limit, allocated
        Arrays (time, vm) in the unit of the resource. Demand is NaN where nothing was observed.
    step_seconds
        Length of an interval.
    budget
        Share of its intervals in which each VM may be in violation.
    """
    return aggregate(vm_totals(demand, limit, allocated, step_seconds), step_seconds, budget)


def aggregate(totals: VmTotals, step_seconds: float, budget: float) -> AllocationScores:
    """Scores over a fleet from the totals of its VMs."""
    seen = totals.intervals > 0
    intervals = int(totals.intervals.sum())
    vm_hours = intervals * step_seconds / 3600.0
    shares = totals.violations[seen] / totals.intervals[seen]
    covered, demand = float(totals.covered_demand.sum()), float(totals.demand.sum())
    return AllocationScores(
        intervals=intervals,
        violation_share=ratio(totals.violations.sum(), intervals),
        material_share=ratio(totals.material.sum(), totals.limited.sum()),
        severity=ratio(totals.unmet.sum(), demand),
        slack=ratio(totals.allocated.sum() - covered, covered),
        reclaimed_share=ratio(totals.limit.sum() - totals.limited_allocated.sum(), totals.limit.sum()),
        p95_vm_share=float(np.quantile(shares, 0.95)) if len(shares) else float("nan"),
        worst_vm_share=float(shares.max()) if len(shares) else float("nan"),
        budget=budget,
        over_twice_share=float((shares > 2 * budget).mean()) if len(shares) else float("nan"),
        changes_per_vm_hour=ratio(totals.changes.sum(), vm_hours),
        reversals_per_vm_hour=ratio(totals.reversals.sum(), vm_hours),
        fairness=jain(met_share(totals)[seen]),
        per_vm=totals,
    )


def ratio(part: float, whole: float) -> float:
    """``part / whole``; NaN over nothing."""
    return float(part / whole) if whole > 0 else float("nan")


def met_share(totals: VmTotals) -> FloatArray:
    """Share (vm,) of each VM's demand that its allocation met; 1 for a VM that wanted nothing."""
    wanted = totals.demand > 0
    return np.where(wanted, 1.0 - totals.unmet / np.where(wanted, totals.demand, 1.0), 1.0)


def jain(values: FloatArray) -> float:
    """Jain's fairness index, (Σx)² / (n Σx²), in [1/n, 1] (Jain, Chiu & Hawe, DEC-TR-301, 1984)."""
    return ratio(float(values.sum()) ** 2, len(values) * float((values**2).sum()))
