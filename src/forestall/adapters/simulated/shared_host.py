"""A simulated host whose VMs stay as they were set when the process that set them is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.shared_settings import SharedSettings
from forestall.model.decision import Action, Outcome, Result
from forestall.model.resources import Resource
from forestall.model.samples import Observation, Trace
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Capability, Inventory, VmEvent, VmSettings


class SharedHost(SimulatedHost):
    """A :class:`SimulatedHost` with what is set on its VMs in a file that several processes share.

    Parameters
    ----------
    trace, clock, inventory, capabilities, capped
        As of :class:`SimulatedHost`.
    shared
        The file.
    """

    def __init__(
        self,
        trace: Trace,
        clock: Clock,
        shared: SharedSettings,
        *,
        inventory: Mapping[Resource, Inventory] | None = None,
        capabilities: Mapping[Resource, Capability] | None = None,
        capped: bool = True,
    ) -> None:
        super().__init__(trace, clock, inventory=inventory, capabilities=capabilities, capped=capped)
        self._shared = shared
        self._take_over()

    def observe(self) -> Observation:
        """As of :class:`SimulatedHost`, with what others have set meanwhile."""
        self._take_over()
        return super().observe()

    def events(self) -> list[VmEvent]:
        """As of :class:`SimulatedHost`; the first call of a cycle, so here what others have set is taken over."""
        self._take_over()
        return super().events()

    def settings(self, vm_id: str) -> VmSettings:
        """As of :class:`SimulatedHost`, with what others have set meanwhile."""
        self._take_over()
        return super().settings(vm_id)

    def apply(self, actions: Sequence[Action]) -> list[Outcome]:
        """Carry out actions one after the other; each is in the file before the next is begun."""
        self._take_over()
        return [outcome for action in actions for outcome in self._apply_one(action)]

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Let a VM have what it had."""
        self._take_over()
        outcomes = super().put_back(settings)
        if any(outcome.result is not Result.FAILED for outcome in outcomes):
            self._shared.put_back(settings)
        return outcomes

    def _apply_one(self, action: Action) -> list[Outcome]:
        outcomes = super().apply([action])
        if outcomes[0].result in (Result.DONE, Result.PENDING):
            amount = self._target(action.vm_id, action.resource)
            with self._shared.changing() as content:
                content.amounts.setdefault(action.vm_id, {})[action.resource.value] = amount
        return outcomes

    def _take_over(self) -> None:
        """Make what is in the file what is in force."""
        amounts = self._shared.read().amounts
        for vm_id in self._trace.vm_ids:
            mine = amounts.get(vm_id, {})
            for resource in self._trace.resources:
                self._set(vm_id, resource, mine.get(resource.value))
