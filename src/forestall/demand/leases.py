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


class LeaseBook:
    """Until when each change holds without being renewed, by VM and resource, in seconds of a monotonic clock.

    Parameters
    ----------
    lease_seconds
        How long a grant holds.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._until: dict[tuple[str, Resource], float] = {}

    def grant(self, vm_id: str, resource: Resource, steady: float) -> None:
        """Something was changed: it holds for a lease from now."""
        self._until[vm_id, resource] = steady + self.lease_seconds

    def renew(self, vm_id: str, resource: Resource, steady: float) -> None:
        """What is in force is still wanted; nothing if nothing was changed."""
        if (vm_id, resource) in self._until:
            self.grant(vm_id, resource, steady)

    def expired(self, steady: float) -> tuple[str, ...]:
        """VMs with a change that was not renewed in time, by name."""
        return tuple(sorted({vm_id for (vm_id, _), until in self._until.items() if until <= steady}))

    def drop(self, vm_id: str) -> None:
        """Forget a VM's leases: it was put back, or is gone."""
        for key in [key for key in self._until if key[0] == vm_id]:
            del self._until[key]

    def left_seconds(self, vm_id: str, resource: Resource, steady: float) -> float | None:
        """How long a change still holds; None if nothing was changed."""
        until = self._until.get((vm_id, resource))
        return None if until is None else until - steady
