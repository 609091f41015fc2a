"""Staging of memory on a live host: look, decide, populate; and give back.

It speaks to ports only. A beat looks at every VM: what it took since the last one goes to the core (staging/memory),
what the core wants is populated, what was not touched within its horizon is given back. Everything happens off the
guests' path, within a share of a core; only giving back lets a VM stand still, for about a millisecond, seldom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from forestall.model.errors import ForestallError, HypervisorError
from forestall.model.samples import IntArray
from forestall.ports.access_log import MEMORY, PAGE, UNIT_BYTES, Source
from forestall.ports.guest_pages import GuestPages
from forestall.staging.area import NO_MEMORY, NO_ROOM, ShadowSettings, StagingArea
from forestall.staging.asked import NO_MORE, NOT_ALLOWED, AskedView, Held, program_of
from forestall.staging.budget import CoreBudget
from forestall.staging.ledger import Group, GroupView
from forestall.staging.memory import MemoryMoves, MemoryStaging
from forestall.staging.shadow import Shadow
from forestall.staging.usage import Usage, UsedMemory
from forestall.staging.waiting import Waiting
from forestall.staging.watched import Place, Watched, runs
from forestall.staging.written import Written

STILL_BUSY_SECONDS = 1.0
LEAVE_SECONDS = 3.0
"""So long it is tried to give back what is staged for VMs that are left alone, all of them together."""
LEAST_LOOK_OVER_SECONDS, LOOKS_A_HORIZON = 0.1, 20.0


@dataclass(frozen=True)
class ShadowStatus:
    """What is so; :class:`~forestall.staging.ledger.GroupView` says what of a group,
    :class:`~forestall.staging.asked.AskedView` of what was asked for, and
    :class:`~forestall.staging.usage.UsedMemory` of what a VM used."""

    vms: tuple[str, ...] = ()
    staged_bytes: int = 0
    most_bytes: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    core_ratio: float = 0.0
    held_back_seconds: float = 0.0
    groups: Mapping[str, GroupView] = field(default_factory=dict)
    asked: Mapping[str, AskedView] = field(default_factory=dict)
    used: Mapping[str, UsedMemory] = field(default_factory=dict)


class ShadowDriver:
    """Shadows the memory of VMs.

    Parameters
    ----------
    open_pages
        Pages of the VM in a process; what it raises is why that VM is not shadowed.
    free_bytes
        Free memory of the host.
    now, cpu_seconds
        Monotonic time, and CPU time of this process.
    settings
        How.
    note
        Takes one line for the operator.
    written
        Where it is written down what VMs took.
    past
        What VMs of a trust group took before this process began: names of VMs, and blocks, in their order.
    """

    def __init__(
        self,
        open_pages: Callable[[int], GuestPages],
        free_bytes: Callable[[], int],
        now: Callable[[], float],
        cpu_seconds: Callable[[], float],
        settings: ShadowSettings,
        note: Callable[[str], None],
        written: Written,
        past: Callable[[Group], Iterable[tuple[str, int]]],
    ) -> None:
        self._written, self._past = written, past
        self._open_pages, self._now, self._cpu_seconds, self._note = open_pages, now, cpu_seconds, note
        self.settings = settings
        self._core = MemoryStaging(settings.staged_bytes // settings.block_bytes)
        MemoryStaging(1).touch(0, 0, 0)  # loads what is compiled
        self._spent, self._learning_seconds = cpu_seconds(), 0.0
        self._coming: dict[str, Place] = {}
        self._vms: dict[str, Watched] = {}
        self._by_number: dict[int, Watched] = {}
        self._groups: dict[Group, int] = {}
        self._numbers = self._group_numbers = 0
        self._area = StagingArea(self._by_number, settings, free_bytes, now, self._core.let_go)
        self._waiting: Waiting[tuple[int, int]] = Waiting((NO_ROOM, NO_MEMORY), lambda block: self._core.let_go(*block))
        self._budget = CoreBudget(settings.quick_seconds, settings.calm_seconds, settings.tired_seconds)
        self._usage = Usage(cpu_seconds, settings.core_ratio_per_ten_vms / 10)
        self._busy_until = 0.0
        self._began = now()

    def attach(self, places: Sequence[Place]) -> None:
        """Shadow these VMs and no others; whose staging has ended gets back what the host holds for it.

        VMs that are new are begun with one by one, at the next beats.
        """
        wanted, until = {place.vm_id: place for place in places}, self._now() + LEAVE_SECONDS
        for vm_id, vm in list(self._vms.items()):
            place = wanted.get(vm_id)
            if place is None or place.incarnation != vm.place.incarnation:
                self._leave(vm, until if place is None else None)
            else:
                with self._area.losing(vm):
                    self._change(vm, place, until)
        for group in {_group_of(place) for place in places}:
            self._group(group)
        self._usage.keep(wanted)
        self._area.refusals = {vm_id: why for vm_id, why in self._area.refusals.items() if vm_id in wanted}
        self._coming = {vm_id: place for vm_id, place in wanted.items() if vm_id not in self._vms}

    def _begin(self, place: Place) -> None:
        try:
            pages = self._open_pages(place.pid)
        except HypervisorError as error:
            self._area.refusals[place.vm_id] = str(error)
            return
        self._area.refusals.pop(place.vm_id, None)
        size = max(self.settings.block_bytes // pages.page_bytes, pages.grain_pages, 1)
        self._numbers += 1
        shadow = Shadow(pages.pages, size)
        vm = Watched(place, self._numbers, self._group(_group_of(place)), pages, shadow)
        try:
            self._core.know(vm.number, vm.begin(self._now()))
        except HypervisorError as error:
            pages.close()
            self._area.refusals[place.vm_id] = str(error)
            return
        self._vms[place.vm_id] = self._by_number[vm.number] = vm
        self._take_up(vm)

    def _group(self, group: Group) -> int:
        """Number of a trust group; one of another generation has nothing of those of its name before."""
        if group not in self._groups:
            for old in [old for old in self._groups if old.name == group.name]:
                self._core.forget_group(self._groups.pop(old))
                self._area.ledger.forget(old)
            self._group_numbers += 1
            self._groups[group] = self._group_numbers
            self._area.ledger.of(group)
            self._remember(group)
        return self._groups[group]

    def _remember(self, group: Group) -> None:
        """Know of a group what is known from before."""
        began = self._cpu_seconds()
        try:
            self._core.remember(self._groups[group], self._past(group))
        except ForestallError as error:
            self._note(f"what VMs of {group.name!r} took before is not known: {error}")
        self._learning_seconds += self._cpu_seconds() - began  # which is no VM's doing

    def _change(self, vm: Watched, place: Place, until: float) -> None:
        """Take up what is new of a VM: one that goes to another trust group begins anew there."""
        moves, ends = _group_of(place) != _group_of(vm.place), vm.place.acting and not place.acting
        if moves or ends:
            self._give_all_back(vm, until)
        begins = place.acting and not vm.place.acting
        vm.place = place
        if moves:
            vm.drain()
            vm.group = self._group(_group_of(place))
            self._core.leave_group(vm.number)
        if begins:
            vm.adopt(self._now())
        self._take_up(vm)

    def _leave(self, vm: Watched, until: float | None) -> None:
        """Stage for a VM no more; until then it is tried to give back what is staged, None: it is gone."""
        if until is not None:
            self._give_all_back(vm, until)
        del self._vms[vm.place.vm_id], self._by_number[vm.number]
        self._core.forget([vm.number])
        self._waiting.forget(lambda block: block[0] == vm.number)
        vm.pages.close()

    def _give_all_back(self, vm: Watched, until: float) -> None:
        """Give everything back that is staged for a VM, or say what remains."""
        self._waiting.forget(lambda block: block[0] == vm.number)
        for block in vm.shadow.staged_blocks().tolist():
            vm.shadow.release(block)
            self._core.let_go(vm.number, block)
        vm.held.clear()
        if left := self._area.give_all_back(vm, until):
            self._note(
                f"{left >> 10} KiB that were staged for {vm.place.vm_id} could not be given back, and stay with it"
            )

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        now = self._now()
        self._area.begin_beat()
        if self._coming:
            self._begin(self._coming.pop(next(iter(self._coming))))
            self._busy_until = now + STILL_BUSY_SECONDS
        for vm in list(self._vms.values()):
            with self._area.losing(vm):
                if vm.moved():
                    self._busy_until = now + STILL_BUSY_SECONDS
                    vm.search(self._now)
                if vm.has_news:
                    self._take_in(vm)
                self._carry_on(vm)
                self._let_the_overdue_go(vm)
                if not vm.place.left_alone:
                    self._usage.look(vm.place.vm_id, vm.pages, now)
                self._area.give_back(vm)
        self._waiting.settle(now, self._try_again)
        self._written.pass_time()
        for vm_id in self._area.lost & self._vms.keys():
            self._leave(self._vms[vm_id], None)
        self._area.lost.clear()
        ratio = self.settings.core_ratio_per_ten_vms * math.ceil(max(len(self._vms), 1) / 10)
        spent = self._spent_seconds() - self._learning_seconds
        return self._budget.next_seconds(self._now(), spent, ratio, busy=now < self._busy_until)

    def _take_in(self, vm: Watched) -> None:
        """What the VM took, to the core; what the core wants, to the host."""
        seen, account = vm.drain(), self._area.account(vm)
        account.took(seen)
        self._core.leave(vm.number, seen.left.tolist())
        if len(seen.opened):
            self._write_down(vm, seen.opened)
        for run in runs(seen.opened):
            for k, block in enumerate(run.tolist(), start=1):
                at_once = k if k == len(run) else 1
                moves = self._core.touch(vm.number, vm.group, block, account.worth.threshold, at_once)
                self._carry_out(vm, block, moves)

    def _write_down(self, vm: Watched, blocks: IntArray) -> None:
        """Blocks of which the VM has touched a page for the first time: whatever it did, it has them now."""
        size_bytes = vm.shadow.block_pages * vm.pages.page_bytes
        source = Source(vm.place.vm_id, *_group_of(vm.place), PAGE, MEMORY, program_of(vm.place.asked))
        same = np.full(len(blocks), size_bytes)
        self._written.add(source, blocks * (size_bytes // UNIT_BYTES), same, np.ones(len(blocks), np.bool_))

    def _carry_out(self, vm: Watched, block: int, moves: MemoryMoves) -> None:
        now, acts = self._now(), self._area.acts(vm)
        for number, other in moves.let_go:
            owner = self._by_number.get(number)
            # What was asked for stays, and nothing that is real makes room for what is only followed.
            if owner and not owner.shadow.is_kept(other, now) and (acts or not owner.shadow.is_real(other)):
                owner.going[other] = True
        for other in (block, *moves.stage):  # what is left of the block that was touched, first
            if other < vm.shadow.blocks:
                self._ask(vm, other)
            else:
                self._core.let_go(vm.number, other)

    def _ask(self, vm: Watched, block: int) -> None:
        """Stage a block, or have it wait."""
        if (why := self._area.stage(vm, block)) is not None:
            self._waiting.add((vm.number, block), self._now() + vm.place.horizon_seconds, why)

    def _try_again(self, block: tuple[int, int]) -> str | None:
        if (vm := self._by_number.get(block[0])) is not None:
            with self._area.losing(vm):
                return self._area.stage(vm, block[1])
        return None

    def _take_up(self, vm: Watched) -> None:
        """Begin with what is newly asked for; what is no longer asked for is given back."""
        asked = {one.name: one for one in vm.place.asked if one.kind == PAGE}
        for name in vm.held.keys() - asked.keys():
            for block in vm.blocks_of(vm.held.pop(name)):
                vm.shadow.release(block)
                vm.going[block] = False
        for name in [name for name in asked if name not in vm.held]:
            wanted = math.ceil(asked[name].size_bytes / vm.pages.page_bytes)
            blocks, room = vm.ahead(wanted, self._core.expected(vm.number, vm.shadow.blocks))
            why = NO_MORE if room < wanted else ""
            if not vm.may_act:
                blocks, why = [], NOT_ALLOWED
            vm.held[name] = Held(asked[name], wanted, blocks, vm.taken_pages, why)

    def _carry_on(self, vm: Watched) -> None:
        """Stage what is still to be staged of what was asked for."""
        for held in vm.held.values():
            while held.blocks and vm.may_act:
                block = held.blocks[0]
                why = self._area.stage(vm, block, until=self._now() + held.asked.hold_seconds)
                if why is not None:
                    held.why = why
                    break
                held.blocks.pop(0)
                held.why = held.why if held.why == NO_MORE else ""
                held.pages.append(vm.shadow.staged_in(block))
            if held.blocks and not vm.may_act:
                held.why = NOT_ALLOWED

    def _let_the_overdue_go(self, vm: Watched) -> None:
        """What was not touched within the horizon is to be given back; looked at now and then."""
        now, horizon = self._now(), vm.place.horizon_seconds
        if now < vm.look_over_at:
            return
        vm.look_over_at = now + max(horizon / LOOKS_A_HORIZON, LEAST_LOOK_OVER_SECONDS)
        for block in vm.shadow.overdue(now - horizon, now).tolist():
            if block not in vm.going:
                self._core.let_go(vm.number, block)
                vm.going[block] = True

    def stop(self) -> None:
        """Give back everything that is staged, and let go of all VMs."""
        until = self._now() + LEAVE_SECONDS
        for vm in list(self._vms.values()):
            self._leave(vm, until)
        self._written.close()

    def _spent_seconds(self) -> float:
        """CPU time since the loop began."""
        return self._cpu_seconds() - self._spent

    def status(self) -> ShadowStatus:
        """What is so now."""
        elapsed = max(self._now() - self._began, 1e-9)
        return ShadowStatus(
            vms=tuple(sorted(self._vms)),
            staged_bytes=self._area.staged_bytes(),
            most_bytes=self.settings.staged_bytes,
            waiting=len(self._waiting),
            dropped=dict(self._waiting.dropped),
            refusals=dict(self._area.refusals),
            cpu_seconds=self._spent_seconds(),
            core_ratio=self._spent_seconds() / elapsed,
            held_back_seconds=self._budget.held_back_seconds,
            groups=self._area.ledger.views(_by_group(self._vms.values())),
            asked={name: vm.view_of(held) for vm in self._vms.values() for name, held in vm.held.items()},
            used=self._usage.used,
        )


def _group_of(place: Place) -> Group:
    """The trust group of a VM."""
    return Group(place.group, place.generation)


def _by_group(vms: Iterable[Watched]) -> dict[Group, list[int]]:
    """Bytes that are really staged for each VM, by group."""
    found: dict[Group, list[int]] = {}
    for vm in vms:
        found.setdefault(_group_of(vm.place), []).append(vm.shadow.real_pages * vm.pages.page_bytes)
    return found
