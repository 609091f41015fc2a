"""Whose memory and disks are shadowed, as the daemon tells the processes that do it after each cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from forestall.model.errors import HypervisorError, WrongUse
from forestall.ports.access_log import BLOCK, PAGE
from forestall.ports.hypervisor import VmProcess
from forestall.service.kept_process import Child, KeptProcess
from forestall.service.preallocation import Preallocations
from forestall.service.shadow_messages import ShadowRoster, roster_line
from forestall.service.trust_groups import TrustGroups
from forestall.staging.block_group import BlockView
from forestall.staging.block_vms import BlockStatus
from forestall.staging.driver import ShadowStatus
from forestall.staging.ledger import GroupView
from forestall.staging.watched import Place

MEMORY, BLOCKS = "memory", "blocks"
_OF_VMS = {"vms", "refusals", "asked", "resting", "used", "reading"}
"""What a status says of single VMs."""
_KINDS = {MEMORY: PAGE, BLOCKS: BLOCK}
_AFTER = {
    MEMORY: "what it had staged stays where it is until it is staged for that VM again",
    BLOCKS: "what it had brought stays in the page cache, and VMs are traced on for nothing until it runs again",
}
_SILENT_SECONDS = {MEMORY: 10.0, BLOCKS: 60.0}
"""libvirt lets who asks for a VM that is busy wait for half a minute."""
_NOTHING: dict[str, tuple[Any, Any]] = {MEMORY: (ShadowStatus(), GroupView()), BLOCKS: (BlockStatus(), BlockView())}
"""What a loop says, of all and of a group, that has not said anything yet."""


class Loop(Protocol):
    """What is asked of the demand loop."""

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        """Trust group of each VM."""
        ...

    def may_act(self, vm_id: str) -> bool:
        """Whether a VM may be changed now."""
        ...

    def is_left_alone(self, vm_id: str) -> bool:
        """Whether an operator has had a VM restored, and not resumed since."""
        ...

    def foresee_reads(self, vm_ids: Iterable[str]) -> None:
        """VMs that are about to read much from their disks, and no others."""
        ...


class Shadowing:
    """Keeps the processes that stage up and told; see :class:`~forestall.service.daemon.Beside`.

    Parameters
    ----------
    loop
        The demand loop.
    groups
        Which trust groups are staged for.
    processes
        Processes of the VMs.
    children
        The processes, by what they stage; started when the first VM is there.
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
        children: Mapping[str, Child],
        horizon_seconds: float,
        lease_seconds: float,
        note: Callable[[str], None],
        preallocations: Preallocations,
    ) -> None:
        self._loop, self._groups, self._processes, self._note = loop, groups, processes, note
        self._kept = {
            what: KeptProcess(child, f"the staging of {what}", _AFTER[what], note, _SILENT_SECONDS[what])
            for what, child in children.items()
        }
        self._horizon_seconds, self._lease_seconds = horizon_seconds, lease_seconds
        self.preallocations = preallocations
        self._known: dict[str, VmProcess] = {}
        self._told: tuple[Place, ...] = ()
        self._refused: dict[tuple[str, str], tuple[str, bool]] = {}

    def turn(self) -> None:
        """Tell the processes who there is; start one if it is needed, and again if it has died or hangs."""
        self._told = self._places()
        self._loop.foresee_reads(self.status(BLOCKS).get("reading", ()))
        if not self._told:
            self.close()
            return
        roster = roster_line(ShadowRoster(self._told, self._lease_seconds))
        for kept in self._kept.values():
            kept.tell(roster)
        refused = {
            (what, vm_id): why for what in self._kept for vm_id, why in self.status(what).get("refusals", {}).items()
        }
        for (what, vm_id), why in refused.items():
            seen, told = self._refused.get((what, vm_id), ("", False))
            if seen == why and not told:  # for longer than a VM takes to end
                self._note(f"{what} of {vm_id} {'is' if what == MEMORY else 'are'} not staged: {why}")
            self._refused[what, vm_id] = why, seen == why
        self._refused = {key: self._refused[key] for key in refused}

    def look(self) -> None:
        """See what has become of what was asked for."""
        asked, refusals = dict[str, Any](), dict[tuple[str, str], str]()
        for what, kind in _KINDS.items():
            status = self.status(what)
            asked |= status.get("asked", {})
            refusals |= {(kind, vm_id): why for vm_id, why in status.get("refusals", {}).items()}
        if self.preallocations.look(asked, refusals):
            self.turn()

    def request(self, vm_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Have memory or blocks staged for a VM that a VM manager asks for.

        Raises
        ------
        WrongUse
            Nothing is staged for the VM, or the request cannot be meant.
        """
        what = BLOCKS if wanted.get("type") == BLOCK else MEMORY
        if what not in self._kept:
            raise WrongUse(f"no {what} {'are' if what == BLOCKS else 'is'} staged here: [staging] {what} is off")
        group = self._loop.trust_groups((vm_id,))[0]
        if not group or not self._groups.terms(group).shadowing:
            why = f"shadowing of its trust group {group!r} is not enabled" if group else "it is in no trust group"
            raise WrongUse(f"no {what} {'are' if what == BLOCKS else 'is'} staged for {vm_id!r}: {why}")
        made = self.preallocations.request(vm_id, group, wanted)
        self.turn()
        return asdict(made)

    def cancel(self, name: str) -> dict[str, Any]:
        """Take a request back; what is staged for it and was not touched is given back."""
        cancelled = self.preallocations.cancel(name)
        self.turn()
        return asdict(cancelled)

    def status(self, what: str = MEMORY) -> dict[str, Any]:
        """What a process last said; empty while it does not run."""
        return self._kept[what].status() if what in self._kept else {}

    def statistics(self, least_vms: int, group: str | None = None) -> dict[str, Any]:
        """What staging has brought, and costs: all of it, or of one trust group; of blocks under that name.

        Above 1 ``least_vms`` leaves smaller groups out, and names of VMs.

        Raises
        ------
        WrongUse
            Shadowing of that group is not enabled.
        """
        if group is not None and group not in {place.group for place in self._told}:
            raise WrongUse(f"shadowing of a trust group {group!r} is not enabled, or none of its VMs runs here")
        blocks = {BLOCKS: self._statistics(BLOCKS, least_vms, group)} if BLOCKS in self._kept else {}
        return self._statistics(MEMORY, least_vms, group) | blocks

    def _statistics(self, what: str, least_vms: int, group: str | None) -> dict[str, Any]:
        everything, of_group = _NOTHING[what]
        found = asdict(everything) | self.status(what)
        of = {place.vm_id: place.group for place in self._told}
        found["groups"] = {name: asdict(of_group) for name in of.values()} | found["groups"]
        if group is not None:
            found["groups"] = {group: found["groups"][group]}
            for key in {"vms", "reading"} & found.keys():
                found[key] = [vm_id for vm_id in found[key] if of.get(vm_id) == group]
            for key in {"refusals", "used"} & found.keys():
                found[key] = {vm_id: said for vm_id, said in found[key].items() if of.get(vm_id) == group}
        if least_vms > 1:
            groups = {name: view for name, view in found["groups"].items() if view["vms"] >= least_vms}
            found |= {"groups": groups} | {key: type(found[key])() for key in _OF_VMS & found.keys()}
        return found

    def close(self) -> None:
        """End the processes; what is staged of memory is given back."""
        for kept in self._kept.values():
            kept.end()

    def _places(self) -> tuple[Place, ...]:
        try:
            self._known = dict(self._processes())
        except HypervisorError as error:
            self._note(f"staging keeps to the VMs that it knows: {error}")
        places, processes = [], self._known
        for vm_id, group in zip(processes, self._loop.trust_groups(tuple(processes)), strict=True):
            terms = self._groups.terms(group)
            if group and terms.shadowing:
                process, horizon = processes[vm_id], terms.horizon_seconds or self._horizon_seconds
                acting, asked = self._loop.may_act(vm_id), self.preallocations.asked(vm_id)
                run, generation = (process.incarnation, process.pid), terms.generation
                alone = self._loop.is_left_alone(vm_id)
                places.append(Place(vm_id, *run, group, horizon, acting, asked, generation, alone))
        return tuple(places)
