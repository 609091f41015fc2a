"""Carrying out actions: what is refused, what is done, what is looked after, and how all of it is put back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from forestall.adapters.libvirt.actuator import Actuator, Restored, Vm
from forestall.adapters.libvirt.capabilities import driver_refusal
from forestall.adapters.libvirt.connection import Handle
from forestall.adapters.libvirt.cpu import Cpu
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.libvirt.lead_times import LeadTimes
from forestall.adapters.libvirt.memory import Memory
from forestall.adapters.libvirt.pending import PendingMoves
from forestall.adapters.libvirt.promises import Promises
from forestall.model.decision import Action, Outcome, Result
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Capability, Inventory

_GROUPS = ("cpu", "memory", "disk", "network")


class Actuation:
    """Moves resources of VMs through their actuators.

    Parameters
    ----------
    actuators
        For CPU, memory, disk and network.
    off
        Resources that must not be moved.
    monotonic
        Clock that never goes back, seconds.
    patience_seconds
        How long a guest has to follow.
    lead_times
        How long each means takes; what is measured is noted there.
    """

    def __init__(
        self,
        actuators: Sequence[Actuator],
        off: Collection[Resource],
        monotonic: Callable[[], float],
        patience_seconds: float,
        lead_times: LeadTimes,
    ) -> None:
        self._actuators = dict(zip(_GROUPS, actuators, strict=True))
        self._by_resource = {r: actuator for actuator in actuators for r in actuator.resources}
        self._off, self._monotonic = frozenset(off), monotonic
        self.lead_times = lead_times
        self.pending = PendingMoves(monotonic, lead_times, patience_seconds)

    def is_on(self, resource: Resource) -> bool:
        """Whether a resource may be moved."""
        return resource not in self._off

    def refusal(self, vm: Vm, resource: Resource) -> str:
        """Why a resource of a VM cannot be moved; empty if it can."""
        if resource in self._off:
            return f"moving {resource} is switched off"
        return driver_refusal(vm.driver, resource) or self._by_resource[resource].refusal(vm)

    def capability(self, vm: Vm, resource: Resource) -> Capability:
        """What can be moved, in which steps and how fast."""
        actuator = self._by_resource[resource]
        lead_seconds = self.lead_times.seconds(actuator.means(vm))
        return Capability(actuator.step(vm), lead_seconds, self.refusal(vm, resource))

    def in_force(self, vm: Vm, resources: Iterable[Resource]) -> Mapping[Resource, float]:
        """What a VM has now."""
        wanted = tuple(resources)
        actuators = dict.fromkeys(self._by_resource[r] for r in wanted)
        amounts = {r: amount for actuator in actuators for r, amount in actuator.in_force(vm).items()}
        return {r: amounts[r] for r in wanted}

    def promises(self, inventory: Mapping[Resource, Inventory], running: Callable[[], Iterable[Handle]]) -> Promises:
        """What all VMs hold together, for one batch of actions."""

        def held(resource: Resource) -> Iterable[float]:
            return [self._held(domain, resource) for domain in running()]

        def defined(resource: Resource) -> float:
            return sum(map(_vcpus, running())) if resource is Resource.CPU else 0.0

        return Promises(inventory, held, defined)

    def carry_out(
        self, action: Action, find: Callable[[str], Vm], resources: Collection[Resource], promises: Promises
    ) -> Outcome:
        """Do one thing, and read it back; whatever goes wrong is in the outcome."""
        held: float | None = None
        try:
            vm = find(action.vm_id)
            if action.resource not in resources:
                return Outcome(action, Result.REFUSED, None, f"{action.resource} is not observed here")
            held = self.in_force(vm, (action.resource,))[action.resource]
            if reason := self._refusal(vm, action, held, promises):
                return Outcome(action, Result.REFUSED, held, reason)
            return self._moved(vm, action)
        except Unsupported as error:
            return Outcome(action, Result.REFUSED, held, str(error))
        except HypervisorError as error:
            gone = held is None
            return Outcome(action, Result.REFUSED if gone else Result.FAILED, held, str(error))

    def settings(self, vm: Vm) -> dict[str, Any]:
        """Settings of every kind, whether it may be moved or not; a kind that cannot be read is left out."""
        values = {}
        for group, actuator in self._actuators.items():
            try:
                values[group] = actuator.settings(vm)
            except HypervisorError:
                if any(self.is_on(r) and not self.refusal(vm, r) for r in actuator.resources):
                    raise
        return values

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Outcome]:
        """Everything as it was; what fails is told, and does not stop the rest."""
        self.pending.forget(vm.domain.name)
        outcomes = []
        for group, actuator in self._actuators.items():
            if group not in values:
                continue
            started_at = self._monotonic()
            try:
                restored = actuator.put_back(vm, values[group])
            except HypervisorError as error:
                action = Action(vm.domain.name, actuator.resources[0], float("nan"))
                outcomes.append(Outcome(action, Result.FAILED, None, str(error)))
                continue
            outcomes += [self._restored(vm, each, started_at) for each in restored]
        return outcomes

    def _refusal(self, vm: Vm, action: Action, held: float, promises: Promises) -> str:
        resource, amount = action.resource, action.amount
        if reason := self.refusal(vm, resource):
            return reason
        if not amount >= 0:
            return f"{amount:g} {resource.unit} is not an amount"
        target = self.pending.target(action.vm_id, resource)
        now, own = held if target is None else target, float(vm.domain.max_vcpus) if resource is Resource.CPU else 0.0
        if reason := promises.refusal(resource, now, amount, own):
            return reason
        ceiling = self._by_resource[resource].ceiling(vm)
        if amount > ceiling:
            return f"{amount:g} {resource.unit} is more than the {ceiling:g} that the VM may have"
        promises.moved(resource, now, amount)
        return ""

    def _moved(self, vm: Vm, action: Action) -> Outcome:
        actuator, started_at = self._by_resource[action.resource], self._monotonic()
        effect = actuator.set(vm, action.resource, action.amount)
        self.pending.begin(action, effect, started_at)
        if effect.watch is not None:
            return Outcome(action, Result.PENDING, effect.in_force, "the guest has been asked")
        if effect.shortfall:
            return Outcome(action, Result.FAILED, effect.in_force, effect.shortfall)
        self.lead_times.note(effect.means, self._monotonic() - started_at)
        return Outcome(action, Result.DONE, effect.in_force, effect.remark)

    def _restored(self, vm: Vm, restored: Restored, started_at: float) -> Outcome:
        action, effect = Action(vm.domain.name, restored.resource, restored.amount), restored.effect
        self.pending.begin(action, effect, started_at)
        if restored.refusal:
            return Outcome(action, Result.REFUSED, effect.in_force, restored.refusal)
        if effect.watch is not None:
            return Outcome(action, Result.PENDING, effect.in_force, "the guest has been asked")
        result = Result.FAILED if effect.shortfall else Result.DONE
        return Outcome(action, result, effect.in_force, effect.shortfall or effect.remark)

    def _held(self, domain: Handle, resource: Resource) -> float:
        """What a VM holds, or is on its way to; nothing if it is gone meanwhile."""
        target = self.pending.target(domain.name(), resource)
        if target is not None:
            return target
        actuator = self._by_resource[resource]
        try:
            return actuator.held(domain) if isinstance(actuator, (Cpu, Memory)) else 0.0
        except HypervisorError:
            return 0.0


def _vcpus(domain: Handle) -> float:
    """vCPUs that a VM is defined with; none if it is gone meanwhile."""
    try:
        with translated("cannot ask a VM for its vCPUs"):
            return float(domain.maxVcpus())
    except HypervisorError:
        return 0.0
