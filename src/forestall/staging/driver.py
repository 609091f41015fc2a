"""Staging of memory on a live host: look, decide, populate; and give back.

It speaks to ports only. A beat looks at every VM: what it took since the last one goes to the core (staging/memory),
what the core wants is populated, what was not touched within its horizon is given back. Everything happens off the
guests' path, within a share of a core; only giving back lets a VM stand still, for about a millisecond, seldom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.guest_pages import GuestPages
from forestall.staging.budget import CoreBudget
from forestall.staging.ledger import GroupView, Ledger
from forestall.staging.memory import MemoryMoves, MemoryStaging
from forestall.staging.shadow import NOTHING, Shadow
from forestall.staging.waiting import Waiting
from forestall.staging.watched import Place, Watched, runs

NO_ROOM, NO_MEMORY = "the staging area is full", "the host has too little free memory"
STANDING_SHARE = 0.005
"""A VM stands still for at most this share of the time, so that pages can be given back."""
ATTEMPTS, AGAIN_SECONDS = 3, 0.5
"""A VM that cannot be brought to rest is asked so often; then what it was about is left with the VM."""
AT_ONCE_BYTES = 4 << 20
"""So much is given back in one moment."""
STILL_BUSY_SECONDS = 1.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class ShadowSettings:
    """How memory is staged.

    Attributes
    ----------
    staged_bytes
        For all VMs together, at most.
    block_bytes
        Memory is staged in blocks of this size.
    keep_free_bytes
        Nothing is staged while the host has less free memory.
    least_precision
        A trust group of whose staged pages less are touched is not staged for.
    core_ratio_per_ten_vms
        Share of a core that the loop may use for ten VMs, or for a part of them.
    quick_seconds, calm_seconds, tired_seconds
        From one beat to the next; see :class:`~forestall.staging.budget.CoreBudget`.
    """

    staged_bytes: int = 256 << 20
    block_bytes: int = 1 << 20
    keep_free_bytes: int = 1 << 30
    least_precision: float = 0.5
    core_ratio_per_ten_vms: float = 0.01
    quick_seconds: float = 0.01
    calm_seconds: float = 0.1
    tired_seconds: float = 1.0


@dataclass(frozen=True)
class ShadowStatus:
    """What is so; see :class:`~forestall.staging.ledger.GroupView` for a group."""

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
    """

    def __init__(
        self,
        open_pages: Callable[[int], GuestPages],
        free_bytes: Callable[[], int],
        now: Callable[[], float],
        cpu_seconds: Callable[[], float],
        settings: ShadowSettings,
    ) -> None:
        self._open_pages, self._free_bytes, self._now, self._cpu_seconds = open_pages, free_bytes, now, cpu_seconds
        self.settings = settings
        self._core = MemoryStaging(settings.staged_bytes // settings.block_bytes)
        MemoryStaging(1).touch(0, 0, 0)  # loads what is compiled
        self._spent = cpu_seconds()
        self._vms: dict[str, Watched] = {}
        self._by_number: dict[int, Watched] = {}
        self._groups: dict[str, int] = {}
        self._numbers = 0
        self._refusals: dict[str, str] = {}
        self._ledger = Ledger(settings.least_precision)
        self._waiting = Waiting()
        self._budget = CoreBudget(settings.quick_seconds, settings.calm_seconds, settings.tired_seconds)
        self._lost: set[str] = set()
        self._free: int | None = None
        self._busy_until = 0.0
        self._began = now()

    def attach(self, places: Sequence[Place]) -> None:
        """Shadow these VMs and no others; whose staging has ended gets back what the host holds for it."""
        wanted = {place.vm_id: place for place in places}
        for vm_id, vm in list(self._vms.items()):
            place = wanted.get(vm_id)
            if place is None or place.incarnation != vm.place.incarnation:
                self._leave(vm, alive=place is None)
            else:
                self._change(vm, place)
        self._refusals = {vm_id: why for vm_id, why in self._refusals.items() if vm_id in wanted}
        for place in places:
            if place.vm_id not in self._vms:
                self._begin(place)

    def _begin(self, place: Place) -> None:
        try:
            pages = self._open_pages(place.pid)
        except HypervisorError as error:
            self._refusals[place.vm_id] = str(error)
            return
        self._refusals.pop(place.vm_id, None)
        size = max(self.settings.block_bytes // pages.page_bytes, pages.grain_pages, 1)
        self._numbers += 1
        shadow = Shadow(pages.pages, size)
        vm = Watched(place, self._numbers, self._group(place.group), pages, shadow)
        try:
            self._core.know(vm.number, vm.begin(self._now()))
        except HypervisorError as error:
            pages.close()
            self._refusals[place.vm_id] = str(error)
            return
        self._vms[place.vm_id] = self._by_number[vm.number] = vm

    def _group(self, name: str) -> int:
        return self._groups.setdefault(name, len(self._groups))

    def _change(self, vm: Watched, place: Place) -> None:
        """Take up what is new of a VM: one that goes to another trust group begins anew there."""
        if place.group != vm.place.group:
            vm.group = self._group(place.group)
        vm.place = place

    def _leave(self, vm: Watched, *, alive: bool) -> None:
        """Stage for a VM no more."""
        if alive:
            self._give_all_back(vm)
        del self._vms[vm.place.vm_id], self._by_number[vm.number]
        self._core.forget([vm.number])
        self._waiting.forget(vm.number)
        vm.pages.close()

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        now = self._now()
        self._free = None
        for vm in list(self._vms.values()):
            with self._losing(vm):
                if vm.moved():
                    self._busy_until = now + STILL_BUSY_SECONDS
                    self._take_in(vm)
                self._let_the_overdue_go(vm)
                self._give_back(vm)
        self._waiting.settle(now, self._try_again)
        for vm_id in self._lost & self._vms.keys():
            self._leave(self._vms[vm_id], alive=False)
        self._lost.clear()
        ratio = self.settings.core_ratio_per_ten_vms * math.ceil(max(len(self._vms), 1) / 10)
        return self._budget.next_seconds(self._now(), self._spent_seconds(), ratio, busy=now < self._busy_until)

    @contextmanager
    def _losing(self, vm: Watched) -> Iterator[None]:
        """Go on when something is wrong with a VM: it is gone, or something writes to it now even while it stands."""
        try:
            yield
        except Unsupported as error:
            self._refusals[vm.place.vm_id] = str(error)
            vm.place = replace(vm.place, acting=False)
        except HypervisorError as error:
            self._refusals[vm.place.vm_id] = str(error)
            self._lost.add(vm.place.vm_id)

    def _take_in(self, vm: Watched) -> None:
        """What the VM took, to the core; what the core wants, to the host."""
        seen = vm.search()
        account = self._ledger.of(vm.place.group)
        account.touched(seen.hits, seen.misses)
        self._core.leave(vm.number, seen.left.tolist())
        worth = account.worth
        for run in runs(seen.opened):
            for k, block in enumerate(run.tolist(), start=1):
                at_once = k if k == len(run) else 1
                moves = self._core.touch(vm.number, vm.group, block, worth.threshold, at_once)
                self._carry_out(vm, block, moves)

    def _carry_out(self, vm: Watched, block: int, moves: MemoryMoves) -> None:
        for number, other in moves.let_go:
            if (owner := self._by_number.get(number)) is not None:
                owner.going[other] = True
        for other in (block, *moves.stage):  # what is left of the block that was touched, first
            if other < vm.shadow.blocks:
                self._ask(vm, other)
            else:
                self._core.let_go(vm.number, other)

    def _ask(self, vm: Watched, block: int) -> None:
        """Stage a block, or have it wait."""
        if (why := self._stage(vm, block)) is not None:
            now = self._now()
            self._waiting.add((vm.number, block), now, now + vm.place.horizon_seconds, why)

    def _try_again(self, place: tuple[int, int]) -> str | None:
        if (vm := self._by_number.get(place[0])) is not None:
            with self._losing(vm):
                return self._stage(vm, place[1])
        return None

    def _stage(self, vm: Watched, block: int) -> str | None:
        """Stage a block; why not, if that may be otherwise later."""
        account = self._ledger.of(vm.place.group)
        acting = vm.place.acting and account.worth.pays
        vm.going.pop(block, None)
        vm.shadow.renew(block, self._now())
        size_bytes = vm.shadow.missing(block) * vm.pages.page_bytes
        if not size_bytes:
            return None
        if not self._has_room(size_bytes):
            return NO_ROOM
        if acting and not self._is_free(size_bytes):
            return NO_MEMORY
        first, count = vm.shadow.range_of(block)
        seen = vm.look(block)  # what the VM took meanwhile was not staged for it
        account.touched(seen.hits, seen.misses)
        began = self._now()
        if acting:
            try:
                vm.pages.populate(first, count)
            except HypervisorError as error:
                return str(error)
            vm.real.add(block)
        account.staged(vm.shadow.stage(block, began), self._now() - began if acting else 0.0)
        return None

    def _is_free(self, size_bytes: int) -> bool:
        """Whether the host has so much memory to spare; it is asked once a beat."""
        self._free = self._free_bytes() - self.settings.keep_free_bytes if self._free is None else self._free
        if self._free < size_bytes:
            return False
        self._free -= size_bytes
        return True

    def _has_room(self, size_bytes: int) -> bool:
        """Make room in the staging area: what has been there longest goes."""
        while self._staged_bytes() + size_bytes > self.settings.staged_bytes:
            (since, block), vm = min(((vm.shadow.oldest(), vm) for vm in self._vms.values()), key=lambda pair: pair[0])
            if since == NOTHING:
                return False
            vm.going.setdefault(block, True)
            if not self._give_back(vm):
                return False
        return True

    def _staged_bytes(self) -> int:
        return sum(vm.shadow.staged_pages * vm.pages.page_bytes for vm in self._vms.values())

    def _let_the_overdue_go(self, vm: Watched) -> None:
        """What was not touched within the horizon is to be given back."""
        for block in vm.shadow.overdue(self._now() - vm.place.horizon_seconds).tolist():
            if block not in vm.going:
                self._core.let_go(vm.number, block)
                vm.going[block] = True

    def _give_all_back(self, vm: Watched) -> None:
        """Give everything back that is staged, as far as a few seconds go."""
        until = self._now() + STOP_SECONDS
        vm.going = dict.fromkeys(vm.shadow.staged_blocks().tolist(), False) | vm.going
        while vm.going and self._now() <= until and vm.place.vm_id not in self._lost:
            vm.may_give_back_at = 0.0
            if not self._give_back(vm):
                break

    def _give_back(self, vm: Watched) -> bool:
        """Give back some of what is to go, in one moment; False: not now. Pages that turn out to be touched stay."""
        blocks = list(vm.going)[: max(AT_ONCE_BYTES // (vm.shadow.block_pages * vm.pages.page_bytes), 1)]
        if any(block in vm.real for block in blocks) and not self._given_back(vm, blocks):
            return False
        account = self._ledger.of(vm.place.group)
        for block in blocks:
            with self._losing(vm):
                seen = vm.look(block)
                account.touched(seen.hits, seen.misses)
            account.returned(vm.shadow.gone(block), wasted=vm.going.pop(block))
            vm.real.discard(block)
        return bool(blocks)

    def _given_back(self, vm: Watched, blocks: Sequence[int]) -> bool:
        """Have the host take staged pages back; False: the VM has stood still not long ago, or could not."""
        if self._now() < vm.may_give_back_at:
            return False
        with self._losing(vm):
            asked = np.concatenate([vm.shadow.staged_in(block) for block in blocks if block in vm.real])
            stood = vm.pages.stood_seconds
            given = vm.pages.give_back(asked)
            took = vm.pages.stood_seconds - stood
            self._ledger.of(vm.place.group).stood(took)
            vm.may_give_back_at = self._now() + took / STANDING_SHARE
            if len(asked) and not len(given) and vm.refused < ATTEMPTS:
                vm.refused += 1
                vm.may_give_back_at += AGAIN_SECONDS
                return False
        vm.refused = 0
        return True

    def stop(self) -> None:
        """Give back everything that is staged, and let go of all VMs."""
        for vm in list(self._vms.values()):
            self._leave(vm, alive=True)

    def _spent_seconds(self) -> float:
        """CPU time since the loop began."""
        return self._cpu_seconds() - self._spent

    def status(self) -> ShadowStatus:
        """What is so now."""
        elapsed = max(self._now() - self._began, 1e-9)
        return ShadowStatus(
            vms=tuple(sorted(self._vms)),
            staged_bytes=self._staged_bytes(),
            most_bytes=self.settings.staged_bytes,
            waiting=len(self._waiting),
            dropped=dict(self._waiting.dropped),
            refusals=dict(self._refusals),
            cpu_seconds=self._spent_seconds(),
            core_ratio=self._spent_seconds() / elapsed,
            held_back_seconds=self._budget.held_back_seconds,
            groups=self._ledger.views(_by_group(self._vms.values())),
        )


def _by_group(vms: Iterable[Watched]) -> dict[str, list[int]]:
    """Bytes staged for each VM, by group."""
    found: dict[str, list[int]] = {}
    for vm in vms:
        found.setdefault(vm.place.group, []).append(vm.shadow.staged_pages * vm.pages.page_bytes)
    return found
