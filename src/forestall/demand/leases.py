"""Grants are leases: what a cycle decided, as actions for a hypervisor that expire by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forestall.demand.core import Cycle
from forestall.model.decision import Action, Lease
from forestall.model.resources import Resource


def leases_of(
    cycle: Cycle, vm_ids: Sequence[str], resource: Resource, *, duration_seconds: int, budget: int = 0
) -> list[Lease]:
    """One lease for each VM of which enough is known.

    Parameters
    ----------
    cycle
        What was decided.
    vm_ids
        The roster of the cycle.
    duration_seconds
        How long a grant holds without being renewed; then the VM falls back to its limit.
    """
    return [
        Lease(
            vm_id=vm_id,
            resource=resource,
            amount=float(amount),
            granted_at=cycle.at,
            expires_at=cycle.at + duration_seconds,
            fallback=float(limit),
        )
        for vm_id, amount, limit in zip(vm_ids, cycle.allocated[budget], cycle.limit, strict=True)
        if np.isfinite(amount)
    ]


def actions_of(leases: Sequence[Lease], now: int) -> list[Action]:
    """What the hypervisor must be told at ``now``: every lease's amount, or its fallback once it has expired."""
    return [
        Action(lease.vm_id, lease.resource, amount) for lease in leases if np.isfinite(amount := lease.in_force(now))
    ]
