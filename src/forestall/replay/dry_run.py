"""What other policies would have done: the demand loop on the same recorded history under both, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from forestall.demand.policy import PolicySet
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray, Trace
from forestall.ports.workers import Progress
from forestall.replay.demand_replay import ReplayOutcome, ReplaySettings, replay_demand
from forestall.replay.demand_run import ResourceRun
from forestall.replay.hosts import Host, Placement
from forestall.replay.scores.totals import VmTotals, vm_totals

MOST_VMS = 1_000
CHANGED_RATIO = 0.001


def dry_run(
    trace: Trace,
    before: PolicySet | None,
    after: PolicySet | None,
    settings: ReplaySettings,
    capacity: Mapping[Resource, float],
    progress: Progress = lambda name, done, steps: None,
) -> dict[str, Any]:
    """Replay a trace under two policies.

    Parameters
    ----------
    trace
        What was recorded.
    before, after
        The policies in force, and those that are looked at.
    settings
        Budget, and from when on decisions count; everything before is learned from.
    capacity
        What the VMs share, in the unit of each resource; one that is not named has no end.

    Returns
    -------
    dict
        ``since``, ``until``, ``step_seconds``, ``vms``, ``budget``; ``resources``: for each what was allocated under
        both on average, what was demanded, and how often VMs fell short; ``changed``: the same for each VM and resource
        of which more than a thousandth changes, the most changed first; ``more`` says how many were left out; and
        ``notes``. Amounts are in the unit of the resource.
    """
    amounts = {f"{resource.value}_{resource.unit}": amount for resource, amount in capacity.items()}
    placement = Placement((Host("host", ["*"], **amounts),)) if amounts else Placement()
    begun = max(settings.evaluate_from or trace.grid.start, trace.grid.start)
    settings = replace(settings, evaluate_from=begun, placement=placement)
    outcomes = [replay_demand(trace, replace(settings, policies=each), progress) for each in (before, after)]
    resources, rows = [], []
    for run, other in zip(*(outcome.runs for outcome in outcomes), strict=True):
        mine, theirs = _totals(run), _totals(other)
        resources.append(_side_by_side(run, mine, theirs))
        rows += _changed(run, mine, theirs)
    rows.sort(key=lambda row: -row.pop("change"))
    return {
        "since": begun,
        "until": trace.grid.at(trace.grid.steps),
        "step_seconds": trace.grid.step_seconds,
        "vms": len(trace.vm_ids),
        "budget": settings.budgets[0],
        "resources": resources,
        "changed": rows[:MOST_VMS],
        "more": max(len(rows) - MOST_VMS, 0),
        "notes": _notes(*outcomes),
    }


def _totals(run: ResourceRun) -> VmTotals:
    rows = slice(run.settings.evaluate_index, None)
    return vm_totals(run.trace.demand[rows], run.trace.limit[rows], run.in_force(0), run.trace.grid.step_seconds)


def _side_by_side(run: ResourceRun, before: VmTotals, after: VmTotals) -> dict[str, Any]:
    """All VMs together: what they had at the same time on average, and how often one of them fell short."""
    times = max(run.trace.grid.steps - run.settings.evaluate_index, 1)
    there = before.intervals / times  # how much of the time each VM was seen
    both = {
        name: {
            "allocated": float(np.sum(_mean(totals.allocated, totals.covered) * there)),
            "short_share": float(totals.violations.sum()) / max(int(totals.intervals.sum()), 1),
            "unmet_share": float(totals.unmet.sum()) / max(float(totals.demand.sum()), 1e-300),
        }
        for name, totals in (("before", before), ("after", after))
    }
    resource, limited = run.trace.resource, bool(before.limited.any())
    return {
        "resource": resource.value,
        "unit": resource.unit,
        "demanded": float(before.demand.sum()) / times,
        "limit": float(np.sum(_mean(before.limit, before.limited) * there)) if limited else None,
        **both,
    }


def _changed(run: ResourceRun, before: VmTotals, after: VmTotals) -> list[dict[str, Any]]:
    """VMs to which another amount would have been given, or that would have fallen short more or less often."""
    resource = run.trace.resource
    given = np.stack([_mean(each.allocated, each.covered) for each in (before, after)])
    short = np.stack([_mean(each.violations, each.intervals) for each in (before, after)])
    demanded = _mean(before.demand, before.intervals)
    change = np.abs(given[1] - given[0]) / np.maximum(given.max(axis=0), 1e-300) + np.abs(short[1] - short[0])
    return [
        {
            "vm": run.trace.vm_ids[k],
            "resource": resource.value,
            "unit": resource.unit,
            "demanded": float(demanded[k]),
            "before": {"allocated": float(given[0, k]), "short_share": float(short[0, k])},
            "after": {"allocated": float(given[1, k]), "short_share": float(short[1, k])},
            "change": float(change[k]),
        }
        for k in np.flatnonzero(change > CHANGED_RATIO).tolist()
    ]


def _mean(total: FloatArray | IntArray, count: IntArray) -> FloatArray:
    """Of what there is; 0 where there is nothing."""
    found: FloatArray = np.asarray(total, dtype=np.float64) / np.maximum(count, 1)
    return found


def _notes(before: ReplayOutcome, after: ReplayOutcome) -> list[str]:
    """What whoever reads it must know."""
    said = list(dict.fromkeys((*before.notes, *after.notes)))
    return [
        *said,
        "demand is as it was measured: where a VM was held back at its allocation, it would have wanted more",
    ]
