"""The hypervisor: which VMs there are, what they use, and how their share is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from forestall.model.decision import Action, Outcome
from forestall.model.resources import Resource
from forestall.model.samples import Observation


@dataclass(frozen=True)
class Capability:
    """What can be moved on a VM while it runs.

    ``step`` is the smallest move in the resource's unit, ``lead_seconds`` how long a move takes to have
    effect. ``refusal`` says why the resource cannot be moved; empty when it can.
    """

    step: float
    lead_seconds: float
    refusal: str = ""


@dataclass(frozen=True)
class Inventory:
    """What a host has of one resource.

    ``total`` and ``reserved`` (kept back for the host itself) are in the resource's unit;
    ``allocation_ratio`` is how much may be promised for each unit there is (>= 1 overcommits).
    """

    total: float
    reserved: float = 0.0
    allocation_ratio: float = 1.0

    @property
    def capacity(self) -> float:
        """What may be allocated in all."""
        return (self.total - self.reserved) * self.allocation_ratio


class Hypervisor(Protocol):
    """One virtualisation host. Errors are :class:`~forestall.model.errors.HypervisorError`."""

    def vm_ids(self) -> tuple[str, ...]:
        """VMs that run now."""
        ...

    def resources(self) -> tuple[Resource, ...]:
        """What is observed, in the order of axis 1 of an observation's arrays."""
        ...

    def capabilities(self, vm_id: str) -> Mapping[Resource, Capability]:
        """What can be moved on a VM; an unknown VM is an error."""
        ...

    def inventory(self) -> Mapping[Resource, Inventory]:
        """What the host has."""
        ...

    def observe(self) -> Observation:
        """Demand and limit of every VM over the last sampling step."""
        ...

    def in_force(self, vm_id: str) -> Mapping[Resource, float]:
        """Allocation that is in force for a VM now."""
        ...

    def apply(self, actions: Sequence[Action]) -> list[Outcome]:
        """Carry out actions, each verified by reading back; one failing action does not stop the others."""
        ...
