"""Who lends and who borrows cores, as the daemon tells the process of the burst loop after each cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from forestall.burst.place import Place
from forestall.demand.policy import PolicySet
from forestall.demand.view import VmView
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.cores import Guest, Part
from forestall.ports.hypervisor import VmProcess
from forestall.service.burst_messages import Roster, roster_line
from forestall.service.kept_process import Child, KeptProcess

Note = Callable[[str], None]
WHOLE_HOST_CORES = 1e6


class Loop(Protocol):
    """What is asked of the demand loop."""

    @property
    def policies(self) -> PolicySet | None:
        """The policies in force."""
        ...

    def views(self) -> list[VmView]:
        """The VMs at the last cycle."""
        ...

    def may_act(self, vm_id: str) -> bool:
        """Whether a VM may be changed now."""
        ...


class CoreLending:
    """Keeps the process of the burst loop up and told; see :class:`~forestall.service.daemon.Beside`.

    Parameters
    ----------
    loop
        The demand loop, whose allocations are the frame.
    processes
        Processes of the VMs.
    child
        The process of the burst loop; started when the first borrower is there.
    sweep
        Puts back whom a process has left limited that is gone, with its guard; those that it could not, and why.
    lease_seconds
        A roster is told again well within so long, or everybody is put back.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        loop: Loop,
        processes: Callable[[], Mapping[str, VmProcess]],
        child: Child,
        sweep: Callable[[], Mapping[str, str]],
        lease_seconds: float,
        note: Note,
    ) -> None:
        self._loop, self._processes, self._note = loop, processes, note
        self._kept = KeptProcess(child, "the burst loop", "its guard puts everything back", note)
        self._sweep, self._lease_seconds = sweep, lease_seconds
        self._told: Roster | None = None
        self._swept = False

    def turn(self) -> None:
        """Tell the process who there is; start it if it is needed, and again if it has died or hangs."""
        if not self._swept:
            self._put_leftovers_back()
        roster = self._roster()
        if not any(place.guest.part is Part.BORROWER for place in roster.places):
            self.close()
            return
        self._kept.tell(roster_line(roster))
        self._told = roster

    def status(self) -> dict[str, Any]:
        """What the burst loop last said; empty while it does not run."""
        return self._kept.status()

    def close(self) -> None:
        """End the process; everything is put back."""
        if not self._kept.started:
            return
        if self._kept.end() == 1:
            self._note("some borrowers of cores are not as they were; forestall restore tries again")
        self._told = None
        self._put_leftovers_back()

    def _put_leftovers_back(self) -> None:
        self._swept = True
        for vm_id, reason in self._sweep().items():
            self._swept = False
            self._note(f"{vm_id} is not as it was before it borrowed cores: {reason}")

    def _roster(self) -> Roster:
        """Every VM that lends or borrows and has a process here."""
        policies = self._loop.policies
        views = {view.vm_id: view for view in self._loop.views() if view.resource is Resource.CPU}
        if policies is None or not policies.borrowers:
            return Roster(())
        try:
            processes = self._processes()
        except HypervisorError as error:
            self._note(f"the burst loop keeps to the VMs that it knows: {error}")
            return self._told or Roster((), 0.0, self._lease_seconds)
        vm_ids = tuple(views)
        borrows, lends = policies.borrowing(vm_ids), policies.lending(vm_ids)
        told = {place.guest for place in self._told.places} if self._told else set()
        places, elsewhere = [], 0.0
        for vm_id, borrower, lender in zip(vm_ids, borrows, lends, strict=True):
            view, process = views[vm_id], processes.get(vm_id)
            place = self._place(view, process, Part.BORROWER if borrower else Part.LENDER) if process else None
            # Before a VM borrows the demand loop must have let go of its CPU, or that limit would be taken for the VM's
            # own; from then on what is in force is the burst loop's.
            free = place is not None and (place.guest in told or not view.in_force < view.limit)
            if place is not None and (lender or (borrower and free)):
                places.append(place)
            elif not borrower:
                elsewhere += _frame(view)
        return Roster(tuple(places), elsewhere, self._lease_seconds)

    def _place(self, view: VmView, process: VmProcess, part: Part) -> Place:
        """A VM within its frame: what it holds and, for one that borrows, what it is provisioned with."""
        frame = view.limit if part is Part.BORROWER and math.isfinite(view.limit) else _frame(view)
        guest = Guest(view.vm_id, process.incarnation, process.pid, part)
        return Place(guest, frame, acting=self._loop.may_act(view.vm_id))


def _frame(view: VmView) -> float:
    """What a VM may use at most, cores; a whole host where nothing is known."""
    return min((a for a in (view.in_force, view.limit) if math.isfinite(a) and a > 0), default=WHOLE_HOST_CORES)
