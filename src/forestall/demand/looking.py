"""What the live loop sees of a host in one cycle, and what is kept of it between cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from forestall.demand.safekeeping import Note
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Observation
from forestall.ports.hypervisor import Capability, EventKind, Hypervisor, Inventory, VmEvent

CAPABILITY_CYCLES = 60
"""What can be moved on a VM is asked again after so many cycles, and when something happens to it."""
_QUIET = (EventKind.BALLOON,)


@runtime_checkable
class KnowsThrottling(Protocol):
    """A hypervisor that knows more than it must: for which share of the interval each VM's CPU was held back."""

    def throttled(self) -> Mapping[str, float]:
        """Share in [0, 1] by VM, over the interval last observed; NaN where it is not known."""
        ...


@runtime_checkable
class KnowsLeadTimes(Protocol):
    """A hypervisor that measures how long each of its means takes to have effect."""

    def lead_seconds(self) -> Mapping[str, float]:
        """Seconds by name of the means, of those that were used."""
        ...


@dataclass(frozen=True)
class Sight:
    """One look at the host.

    Attributes
    ----------
    seen
        The observation, its axis 1 in ``axes``.
    running
        VMs that run now.
    held
        What is in force, by VM; VMs that were gone before they could be asked are left out.
    capabilities
        What can be moved, by VM.
    inventory
        What the host has.
    events
        What happened since the last look.
    throttled
        For which share of the interval a VM's CPU was held back, by VM, where the host knows.
    """

    seen: Observation
    axes: tuple[Resource, ...]
    running: tuple[str, ...]
    held: Mapping[str, Mapping[Resource, float]]
    capabilities: Mapping[str, Mapping[Resource, Capability]]
    inventory: Mapping[Resource, Inventory]
    events: tuple[VmEvent, ...]
    throttled: Mapping[str, float] = field(default_factory=dict)

    def throttling(self, vm_ids: tuple[str, ...], resource: Resource) -> FloatArray | None:
        """Shares (vm,) for which VMs were held back, NaN where it is not known; None for all but CPU."""
        if resource is not Resource.CPU or not self.throttled:
            return None
        return np.array([self.throttled.get(vm_id, np.nan) for vm_id in vm_ids], dtype=np.float64)

    def amounts(self, vm_ids: tuple[str, ...], resource: Resource) -> FloatArray:
        """What is in force (vm,) of one resource; NaN where nothing is known."""
        nothing: Mapping[Resource, float] = {}
        values = [self.held.get(vm_id, nothing).get(resource, np.nan) for vm_id in vm_ids]
        return np.array(values, dtype=np.float64)


class Lookout:
    """Looks at a host, once a cycle.

    Parameters
    ----------
    host
        The host.
    note
        Told when contact is lost and regained.
    """

    def __init__(self, host: Hypervisor, note: Note) -> None:
        self._host, self._note = host, note
        self._capabilities: dict[str, tuple[int, Mapping[Resource, Capability]]] = {}
        self._count = 0
        self.lost = ""

    def look(self) -> Sight | None:
        """Look; None when contact is lost, and ``lost`` says why."""
        self._count += 1
        try:
            sight = self._look()
        except HypervisorError as error:
            if not self.lost:
                self._note(f"contact lost: {error}")
            self.lost = str(error)
            return None
        if self.lost:
            self._note("contact regained")
        self.lost = ""
        return sight

    def lead_seconds(self) -> Mapping[str, float]:
        """How long each means of changing a VM takes, as measured; empty where the host does not tell."""
        return dict(self._host.lead_seconds()) if isinstance(self._host, KnowsLeadTimes) else {}

    def _look(self) -> Sight:
        events = tuple(self._host.events())
        for event in events:
            if event.kind not in _QUIET:
                self._capabilities.pop(event.vm_id, None)
        seen, running = self._host.observe(), self._host.vm_ids()
        held: dict[str, Mapping[Resource, float]] = {}
        capabilities: dict[str, Mapping[Resource, Capability]] = {}
        for vm_id in running:
            try:
                held[vm_id] = self._host.in_force(vm_id)
                capabilities[vm_id] = self._can(vm_id)
            except HypervisorError as error:
                # One that went meanwhile; were it the whole host, observing it would have failed.
                self._note(f"{vm_id}: {error}")
                held.pop(vm_id, None)
        for vm_id in self._capabilities.keys() - set(running):
            del self._capabilities[vm_id]
        inventory = self._host.inventory()
        throttled = self._host.throttled() if isinstance(self._host, KnowsThrottling) else {}
        axes = tuple(self._host.resources())
        return Sight(seen, axes, running, held, capabilities, inventory, events, throttled)

    def _can(self, vm_id: str) -> Mapping[Resource, Capability]:
        asked = self._capabilities.get(vm_id)
        if asked is None or self._count - asked[0] >= CAPABILITY_CYCLES:
            asked = self._count, self._host.capabilities(vm_id)
            self._capabilities[vm_id] = asked
        return asked[1]
