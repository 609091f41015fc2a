"""Why a VM holds what it holds: one decision with everything that led to it, in values and in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forestall.demand.core import Cycle
from forestall.demand.settings import DemandSettings
from forestall.learning.waterfill import Claims
from forestall.model.decision import Decision, Ruling
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

_SAME = 1e-9


def ruling_of(cycle: Cycle, vm: int, budget: int) -> tuple[Ruling, str]:
    """What the arbiter did to a VM's claim at one step, and why."""
    needed, wanted, allocated = (float(a[budget, vm]) for a in (cycle.needed, cycle.wanted, cycle.allocated))
    conditions = cycle.conditions
    floor = conditions.floor[vm]
    if allocated < wanted * (1 - _SAME):
        price = cycle.price[budget, conditions.host_of_vm[vm]]
        return Ruling.CLIPPED, f"the pool is tight: risk costs {price:.4g} there"
    if cycle.cold[vm]:
        return Ruling.ACCEPTED, "seen too short a time: counts at its limit"
    if wanted != needed:
        kept = f"a move to {needed:.6g} is not worth a change, or not allowed yet; kept what is in force"
        return Ruling.REJECTED, kept
    if needed <= floor * (1 + _SAME) and floor > 0:
        return Ruling.CLIPPED, "its floor: the policy's, or for reads that are foreseen"
    if needed >= conditions.ceiling[vm]:
        return Ruling.CLIPPED, "the limit or the policy's ceiling"
    if cycle.burning[budget, vm]:
        return Ruling.ACCEPTED, "ran short far too often in the last hour: holds at least what it used in the last two"
    return Ruling.ACCEPTED, "what its promise asks for now"


def decision_of(
    cycle: Cycle,
    vm: int,
    vm_id: str,
    resource: Resource,
    settings: DemandSettings,
    *,
    budget: int = 0,
    trust: dict[str, float] | None = None,
    policies: Sequence[str] = (),
) -> Decision:
    """The decision of one cycle about one VM, as the journal and ``explain`` want it."""
    ruling, reason = ruling_of(cycle, vm, budget)
    conditions = cycle.conditions
    return Decision(
        vm_id=vm_id,
        resource=resource,
        decided_at=cycle.at,
        in_force_at=cycle.at + settings.lead_steps * settings.step_seconds,
        allocated=float(cycle.allocated[budget, vm]),
        previous=float(cycle.previous[budget, vm]),
        limit=float(cycle.limit[vm]),
        quantiles=tuple(zip(settings.levels, (float(q) for q in cycle.decided[vm]), strict=True)),
        risk=float(cycle.risk[-1, 0, vm]),
        price=float(cycle.price[budget, conditions.host_of_vm[vm]]),
        weight=float(conditions.weight[vm]),
        floor=float(cycle.floor[budget, vm]),
        ceiling=float(conditions.ceiling[vm]),
        budget=float(conditions.budget[budget, vm]),
        probability=float(cycle.probability[budget, vm]),
        wanted=float(cycle.wanted[budget, vm]),
        ruling=ruling,
        reason=reason,
        policies=tuple(policies),
        experts=dict(trust or {}),
    )


def reproduce(decision: Decision) -> float:
    """The allocation that forecast, λ, weight, floor and what was wanted give: :math:`Q(1 - \\max(p, λ/w))`, clipped.

    It is what was allocated, for every decision; ``explain`` prints it beside the amount in force.
    """
    if np.isnan([value for _, value in decision.quantiles]).any():
        return decision.wanted
    claims = Claims(
        quantiles=_row([value for _, value in decision.quantiles]),
        levels=np.array([level for level, _ in decision.quantiles]),
        probability=np.array([decision.probability]),
        wanted=np.array([decision.wanted]),
        weight=np.array([decision.weight]),
        floor=np.array([min(decision.floor, decision.wanted)]),
    )
    return float(claims.at_price(np.array([[decision.price]]))[0, 0])


def _row(values: Sequence[float]) -> FloatArray:
    return np.asarray(values, dtype=np.float64)[None, :]
