"""What policies and pools say at one step, as the decision core wants it; live and replay ask the same function."""

from __future__ import annotations

import numpy as np

from forestall.demand.core import Conditions
from forestall.demand.policy import PolicySet
from forestall.demand.policy_matching import BUILT_IN_ENTRY
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray

RuleNames = tuple[tuple[str, ...], ...]
"""For each VM the names of the rules that gave it a value; empty without policies."""


def conditions_of(
    policies: PolicySet | None,
    vm_ids: tuple[str, ...],
    resource: Resource,
    limit: FloatArray,
    now: int,
    *,
    budgets: tuple[float, ...],
    host_of_vm: IntArray,
    capacity: FloatArray,
    calendar: bool = True,
    least: FloatArray | None = None,
    anomalous: BoolArray | None = None,
    foreseen: FloatArray | None = None,
) -> tuple[Conditions, RuleNames]:
    """Resolve policies for one resource.

    Parameters
    ----------
    policies
        The operator's; None: equal weights, no floors.
    vm_ids
        The roster, axis 0 of all arrays (vm,).
    limit
        Array (vm,) in the resource's unit; NaN where it is not known, inf where there is none.
    now
        Start of the newest interval, seconds.
    budgets
        Violation budgets; they hold where no rule and no default of the policy file sets one.
    host_of_vm, capacity
        Index (vm,) of each VM's pool, and what each pool has (host,), inf without an end.
    calendar
        Whether ``now`` is a real date.
    least
        Array (vm,): floors that hold whatever the policies say; None: none.
    anomalous
        Array (vm,): VMs that behave anomalously are held to their anomaly ceiling; None: none do.
    foreseen
        Array (vm,): floors for what VMs are about to do, within the ceilings; 0 or None: nothing is foreseen.
    """
    default = Conditions.default(limit, budgets)
    weight, floor, ceiling, budget = default.weight, default.floor, default.ceiling, default.budget
    names: RuleNames = ()
    if policies is not None:
        table = policies.resolve(vm_ids, (resource,), default.ceiling[:, None], now, calendar=calendar)
        weight, floor, names = table.weight[:, 0], table.floor[:, 0], table.names
        ceiling = np.minimum(ceiling, table.ceiling[:, 0])
        if anomalous is not None:
            ceiling = np.where(anomalous, np.minimum(ceiling, table.anomaly_ceiling[:, 0]), ceiling)
        stated = table.source["violation_budget"][:, 0] > BUILT_IN_ENTRY
        budget = np.where(stated, table.budget[:, 0], budget)
    if least is not None:
        floor = np.minimum(np.maximum(floor, least), default.ceiling)
        ceiling = np.maximum(ceiling, floor)
    if foreseen is not None:
        floor = np.maximum(floor, np.minimum(foreseen, ceiling))
    return Conditions(weight, floor, ceiling, budget, host_of_vm, capacity), names
