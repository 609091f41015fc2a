"""The hypervisor: which VMs there are, what they use, and how their share is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from forestall.model.decision import Action, Outcome
from forestall.model.resources import Resource
from forestall.model.samples import Observation
from forestall.ports.traffic import Taps


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


class EventKind(StrEnum):
    """What can happen to a VM."""

    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"
    REBOOTED = "rebooted"
    MIGRATED = "migrated"
    BALLOON = "balloon"
    DEVICE = "device"


@dataclass(frozen=True)
class VmEvent:
    """Something that happened to a VM at an instant, seconds; ``detail`` says more, in words."""

    vm_id: str
    kind: EventKind
    at: float
    detail: str = ""


@dataclass(frozen=True)
class VmSettings:
    """How a VM is set: everything that :meth:`Hypervisor.apply` might change on it.

    ``incarnation`` names this run of this VM: a VM that was shut down and started, or defined anew under the same
    name, is another one, and has the settings of its definition again. ``values`` are plain JSON values that only
    the adapter understands.
    """

    vm_id: str
    incarnation: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class VmProcess:
    """The process of the host that a VM runs in; ``incarnation`` as in :class:`VmSettings`."""

    pid: int
    incarnation: str


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

    def guest_addresses(self) -> Mapping[str, str]:
        """For each VM of the last observation that has a port for our agent, the host's end of it."""
        ...

    def taps(self) -> Mapping[str, Taps]:
        """Taps of each VM of the last observation whose traffic can be heard on this machine."""
        ...

    def processes(self) -> Mapping[str, VmProcess]:
        """Process of each VM of the last observation that runs on this machine."""
        ...

    def in_force(self, vm_id: str) -> Mapping[Resource, float]:
        """Allocation that is in force for a VM now."""
        ...

    def apply(self, actions: Sequence[Action]) -> list[Outcome]:
        """Carry out actions, each verified by reading back; one failing action does not stop the others."""
        ...

    def follow_up(self) -> list[Outcome]:
        """Outcomes of slow actions (reported as pending) that have ended since the last call."""
        ...

    def settings(self, vm_id: str) -> VmSettings:
        """How a VM is set now; what must be kept before it is changed for the first time."""
        ...

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Set a VM as it was, as far as it is not; an outcome for each resource that was not.

        Empty where nothing differs, and for a VM that is gone or runs as another incarnation. Safe to repeat.
        """
        ...

    def events(self) -> list[VmEvent]:
        """What happened to VMs since the last call, in order."""
        ...

    def close(self) -> None:
        """Let go of the host; what is in force stays in force."""
        ...
