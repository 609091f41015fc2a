"""Who lends and who borrows cores, as the daemon tells the process of the burst loop after each cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from forestall.burst.driver import Place
from forestall.demand.policy import PolicySet
from forestall.demand.view import VmView
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.cores import Guest, Part
from forestall.ports.hypervisor import VmProcess
from forestall.service.burst_messages import Roster, roster_line

Note = Callable[[str], None]


class Child(Protocol):
    """The process of the burst loop."""

    def begin(self) -> None:
        """Start it, in place of one that has ended."""
        ...

    def alive(self) -> bool:
        """Whether it runs."""
        ...

    def tell(self, line: bytes) -> None:
        """Send a roster."""
        ...

    def flush(self) -> None:
        """Send what is waiting."""
        ...

    def status(self) -> dict[str, Any]:
        """The newest that it has said."""
        ...

    def end(self) -> int | None:
        """Let it put everything back and end."""
        ...


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
    note
        Takes one line for the operator.
    """

    def __init__(self, loop: Loop, processes: Callable[[], Mapping[str, VmProcess]], child: Child, note: Note) -> None:
        self._loop, self._processes, self._child, self._note = loop, processes, child, note
        self._told: Roster | None = None
        self._started = False

    def turn(self) -> None:
        """Tell the process who there is; start it if it is needed, and again if it has died."""
        roster = self._roster()
        if not any(place.guest.part is Part.BORROWER for place in roster.places):
            self.close()
            return
        if not self._child.alive():
            if self._started:
                self._note("the burst loop has ended and is started anew; its guard has put everything back")
            self._child.begin()
            self._started, self._told = True, None
        if roster != self._told:
            self._child.tell(roster_line(roster))
            self._told = roster
        self._child.flush()

    def status(self) -> dict[str, Any]:
        """What the burst loop last said; empty while it does not run."""
        return self._child.status() if self._started and self._child.alive() else {}

    def close(self) -> None:
        """End the process; everything is put back."""
        if self._started and self._child.end() == 1:
            self._note("some borrowers of cores are not as they were; forestall restore tries again")
        self._started, self._told = False, None

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
            return self._told or Roster(())
        vm_ids = tuple(vm_id for vm_id in views if vm_id in processes)
        borrows, lends = policies.borrowing(vm_ids), policies.lending(vm_ids)
        return Roster(
            tuple(
                self._place(views[vm_id], processes[vm_id], Part.BORROWER if borrower else Part.LENDER)
                for vm_id, borrower, lender in zip(vm_ids, borrows, lends, strict=True)
                if borrower or lender
            )
        )

    def _place(self, view: VmView, process: VmProcess, part: Part) -> Place:
        """A VM within its frame: what it holds and, for one that borrows, what it is provisioned with."""
        amounts = [view.limit] if part is Part.BORROWER else [view.in_force, view.limit]
        frame = min((amount for amount in amounts if math.isfinite(amount) and amount > 0), default=1.0)
        guest = Guest(view.vm_id, process.incarnation, process.pid, part)
        return Place(guest, frame, acting=self._loop.may_act(view.vm_id))
