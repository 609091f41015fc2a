"""Why a VM holds what it holds: one decision with everything that led to it, in values and in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forestall.demand.core import Cycle
from forestall.demand.settings import DemandSettings
from forestall.demand.waterfill import Claims
from forestall.model.decision import Decision, Ruling
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

_SAME = 1e-9


def ruling_of(cycle: Cycle, budget: int) -> tuple[list[Ruling], list[str]]:
    """What the arbiter did to each VM's claim at one step, and why; lists (vm,)."""
    needed, wanted, allocated = cycle.needed[budget], cycle.wanted[budget], cycle.allocated[budget]
    conditions = cycle.conditions
    price = cycle.price[budget][conditions.host_of_vm]
    rulings, reasons = [], []
    for i in range(len(needed)):
        if allocated[i] < wanted[i] * (1 - _SAME):
            rulings.append(Ruling.CLIPPED)
            reasons.append(f"the pool is tight: risk costs {price[i]:.4g} there")
        elif cycle.cold[i]:
            rulings.append(Ruling.ACCEPTED)
            reasons.append("seen too short a time: counts at its limit")
        elif wanted[i] != needed[i]:
            rulings.append(Ruling.REJECTED)
            reasons.append(
                f"a move to {needed[i]:.6g} is not worth a change, or not allowed yet; kept what is in force"
            )
        elif needed[i] <= conditions.floor[i] * (1 + _SAME) and conditions.floor[i] > 0:
            rulings.append(Ruling.CLIPPED)
            reasons.append("the policy's floor")
        elif needed[i] >= conditions.ceiling[i]:
            rulings.append(Ruling.CLIPPED)
            reasons.append("the limit or the policy's ceiling")
        else:
            rulings.append(Ruling.ACCEPTED)
            reasons.append("what its promise asks for now")
    return rulings, reasons


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
    rulings, reasons = ruling_of(cycle, budget)
    conditions = cycle.conditions
    quantiles = cycle.quantiles[settings.targets.index(settings.decided_target), vm]
    return Decision(
        vm_id=vm_id,
        resource=resource,
        decided_at=cycle.at,
        in_force_at=cycle.at + settings.lead_steps * settings.step_seconds,
        allocated=float(cycle.allocated[budget, vm]),
        previous=float(cycle.previous[budget, vm]),
        limit=float(conditions.ceiling[vm]),
        quantiles=tuple(zip(settings.levels, (float(q) for q in quantiles), strict=True)),
        risk=float(cycle.risk[-1, 0, vm]),
        price=float(cycle.price[budget, conditions.host_of_vm[vm]]),
        weight=float(conditions.weight[vm]),
        floor=float(conditions.floor[vm]),
        ceiling=float(conditions.ceiling[vm]),
        budget=float(conditions.budget[budget, vm]),
        probability=float(cycle.probability[budget, vm]),
        wanted=float(cycle.wanted[budget, vm]),
        ruling=rulings[vm],
        reason=reasons[vm],
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
    return float(claims.at_price(np.array([decision.price]))[0])


def _row(values: Sequence[float]) -> FloatArray:
    return np.asarray(values, dtype=np.float64)[None, :]
