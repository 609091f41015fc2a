"""Whose memory is shadowed, as the daemon tells the process that does it after each cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from forestall.model.errors import HypervisorError, WrongUse
from forestall.ports.hypervisor import VmProcess
from forestall.service.kept_process import Child, KeptProcess
from forestall.service.preallocation import Preallocations
from forestall.service.shadow_messages import ShadowRoster, roster_line
from forestall.service.trust_groups import TrustGroups
from forestall.staging.driver import ShadowStatus
from forestall.staging.ledger import GroupView
from forestall.staging.watched import Place


class Loop(Protocol):
    """What is asked of the demand loop."""

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        """Trust group of each VM."""
        ...

    def may_act(self, vm_id: str) -> bool:
        """Whether a VM may be changed now."""
        ...


class Shadowing:
    """Keeps the process that stages memory up and told; see :class:`~forestall.service.daemon.Beside`.

    Parameters
    ----------
    loop
        The demand loop.
    groups
        Which trust groups are staged for.
    processes
        Processes of the VMs.
    child
        The process; started when the first VM is there.
    horizon_seconds
        Where nothing else was said.
    lease_seconds
        A roster is told again well within so long, or everything is given back.
    note
        Takes one line for the operator.
    preallocations
        What was asked for.
    """

    def __init__(
        self,
        loop: Loop,
        groups: TrustGroups,
        processes: Callable[[], Mapping[str, VmProcess]],
        child: Child,
        horizon_seconds: float,
        lease_seconds: float,
        note: Callable[[str], None],
        preallocations: Preallocations,
    ) -> None:
        self._loop, self._groups, self._processes, self._note = loop, groups, processes, note
        after = "what it had staged stays where it is until it is staged for that VM again"
        self._kept = KeptProcess(child, "the staging of memory", after, note)
        self._horizon_seconds, self._lease_seconds = horizon_seconds, lease_seconds
        self.preallocations = preallocations
        self._known: dict[str, VmProcess] = {}
        self._told: tuple[Place, ...] = ()
        self._refused: dict[str, tuple[str, bool]] = {}

    def turn(self) -> None:
        """Tell the process who there is; start it if it is needed, and again if it has died or hangs."""
        self._told = self._places()
        if not self._told:
            self.close()
            return
        self._kept.tell(roster_line(ShadowRoster(self._told, self._lease_seconds)))
        refused = dict(self.status().get("refusals", {}))
        for vm_id, why in refused.items():
            seen, told = self._refused.get(vm_id, ("", False))
            if seen == why and not told:  # for longer than a VM takes to end
                self._note(f"memory of {vm_id} is not staged: {why}")
            self._refused[vm_id] = why, seen == why
        self._refused = {vm_id: self._refused[vm_id] for vm_id in refused}

    def look(self) -> None:
        """See what has become of what was asked for."""
        status = self.status()
        if self.preallocations.look(status.get("asked", {}), status.get("refusals", {})):
            self.turn()

    def request(self, vm_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Have memory staged for a VM that a VM manager asks for.

        Raises
        ------
        WrongUse
            Nothing is staged for the VM, or the request cannot be meant.
        """
        group = self._loop.trust_groups((vm_id,))[0]
        if not group or not self._groups.terms(group).shadowing:
            why = f"shadowing of its trust group {group!r} is not enabled" if group else "it is in no trust group"
            raise WrongUse(f"no memory is staged for {vm_id!r}: {why}")
        made = self.preallocations.request(vm_id, group, wanted)
        self.turn()
        return asdict(made)

    def cancel(self, name: str) -> dict[str, Any]:
        """Take a request back; what is staged for it and was not touched is given back."""
        cancelled = self.preallocations.cancel(name)
        self.turn()
        return asdict(cancelled)

    def status(self) -> dict[str, Any]:
        """What the process last said; empty while it does not run."""
        return self._kept.status()

    def statistics(self, least_vms: int, group: str | None = None) -> dict[str, Any]:
        """What staging has brought, and costs: all of it, or of one trust group.

        Above 1 ``least_vms`` leaves smaller groups out, and names of VMs.

        Raises
        ------
        WrongUse
            Shadowing of that group is not enabled.
        """
        found = asdict(ShadowStatus()) | self.status()
        of = {place.vm_id: place.group for place in self._told}
        found["groups"] = {name: asdict(GroupView()) for name in of.values()} | found["groups"]
        if group is not None:
            if group not in found["groups"]:
                raise WrongUse(f"shadowing of a trust group {group!r} is not enabled, or none of its VMs runs here")
            found["groups"] = {group: found["groups"][group]}
            found["vms"] = [vm_id for vm_id in found["vms"] if of.get(vm_id) == group]
            found["refusals"] = {vm_id: why for vm_id, why in found["refusals"].items() if of.get(vm_id) == group}
        if least_vms > 1:
            groups = {name: view for name, view in found["groups"].items() if view["vms"] >= least_vms}
            found |= {"groups": groups, "vms": [], "refusals": {}, "asked": {}}
        return found

    def close(self) -> None:
        """End the process; what is staged is given back."""
        self._kept.end()

    def _places(self) -> tuple[Place, ...]:
        try:
            self._known = dict(self._processes())
        except HypervisorError as error:
            self._note(f"the staging of memory keeps to the VMs that it knows: {error}")
        places, processes = [], self._known
        for vm_id, group in zip(processes, self._loop.trust_groups(tuple(processes)), strict=True):
            terms = self._groups.terms(group)
            if group and terms.shadowing:
                process, horizon = processes[vm_id], terms.horizon_seconds or self._horizon_seconds
                acting, asked = self._loop.may_act(vm_id), self.preallocations.asked(vm_id)
                run, generation = (process.incarnation, process.pid), terms.generation
                places.append(Place(vm_id, *run, group, horizon, acting, asked, generation))
        return tuple(places)
