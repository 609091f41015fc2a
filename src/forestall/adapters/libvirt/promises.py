"""That no raise promises more than the host has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from forestall.model.resources import Resource
from forestall.ports.hypervisor import Inventory

_ROUNDING = 1e-9


class Promises:
    """What all VMs hold together while a batch of actions is carried out; asked for once, at the first raise.

    The operator's own overcommitment of vCPUs stands: where VMs are defined with more vCPUs than the host has cores,
    a VM may get its own back. Memory cannot be shared in time, and has no such exception.

    Parameters
    ----------
    inventory
        What the host has.
    held
        What every VM holds, or is on its way to, of a resource.
    defined
        What the VMs were defined with of a resource in all; 0 where that gives no right.
    """

    def __init__(
        self,
        inventory: Mapping[Resource, Inventory],
        held: Callable[[Resource], Iterable[float]],
        defined: Callable[[Resource], float],
    ) -> None:
        self._inventory, self._held, self._defined = inventory, held, defined
        self._promised: dict[Resource, float] = {}
        self._bound: dict[Resource, float] = {}

    def refusal(self, resource: Resource, now: float, amount: float, own: float) -> str:
        """Why a VM that holds ``now``, and was defined with ``own``, cannot have ``amount``; empty if it can."""
        if resource not in self._inventory or amount <= now * (1 + _ROUNDING):
            return ""
        capacity = self._inventory[resource].capacity
        self._promised.setdefault(resource, sum(self._held(resource)))
        self._bound.setdefault(resource, max(capacity, self._defined(resource)))
        if amount > max(capacity, own) * (1 + _ROUNDING):
            return f"above inventory: {amount:g} of {capacity:g} {resource.unit} would be allocated to one VM"
        total = self._promised[resource] - now + amount
        if total > self._bound[resource] * (1 + _ROUNDING):
            return f"above inventory: {total:g} of {capacity:g} {resource.unit} would be allocated"
        return ""

    def moved(self, resource: Resource, before: float, after: float) -> None:
        """A VM was given another amount."""
        if resource in self._promised:
            self._promised[resource] += after - before
