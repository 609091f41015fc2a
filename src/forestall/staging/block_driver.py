"""Staging of disk blocks on a live host: see what VMs read, decide, bring what comes next into the page cache.

It speaks to ports only, and is on nobody's path: VMs read as ever, and find more of it in memory. A trust group has a
model of its own (staging/block_group); what it asks for is brought in and followed by staging/block_stock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from forestall.model.errors import ForestallError, HypervisorError
from forestall.ports.access_log import BLOCK, UNIT_BYTES, Source
from forestall.ports.blocks import BlockWatch, FileCache, Requests
from forestall.staging.asked import program_of
from forestall.staging.block_area import Block
from forestall.staging.block_asked import AskedBlocks, Programs, asks_for
from forestall.staging.block_group import BlockGroup, BlockView, Past, Used
from forestall.staging.block_stock import BlockSettings, BlockStock
from forestall.staging.block_vms import MOST_REST_SECONDS, REST_SECONDS, BlockStatus, BlockVm, RefusedVm, group_of
from forestall.staging.budget import CoreBudget
from forestall.staging.ledger import Group
from forestall.staging.watched import Place
from forestall.staging.written import Written

STILL_BUSY_SECONDS = 1.0
LOOK_OVER_SECONDS = 1.0
COMPARE_SECONDS = 2.0
"""What is believed to be in memory is compared with what is, so often at most, when there is something to see."""
FADING = 0.99
"""Requests count for the rest less with each beat."""
MOST_REQUESTS = 5_000
"""Of a VM no more are looked at in a beat, the latest."""
LEAST_READS, LEAST_THERE = 200, 0.2
"""So few of the blocks that a VM has just read are in memory: they do not lie where they seem to."""
MANY_BLOCKS = 16
"""A VM of whose disks so many blocks are brought ahead and not read yet is about to read much."""
KEPT_SECONDS = 600.0
"""The model of a trust group is kept for so long without a VM."""


class BlockDriver:
    """Stages blocks for VMs.

    Parameters
    ----------
    open_watch
        Watches the disks of a VM, by its name and process; what it raises is why nothing is staged for it.
    cache
        The host's page cache.
    written
        Where it is written down what VMs used.
    past
        What is known of a trust group from before; None: nothing.
    programs
        What programs read that were asked for.
    free_bytes
        Free memory of the host.
    now, cpu_seconds
        Monotonic time, and CPU time of this process.
    settings
        How.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        open_watch: Callable[[str, int], BlockWatch],
        cache: FileCache,
        written: Written,
        past: Callable[[Group], Past | None],
        programs: Programs,
        free_bytes: Callable[[], int],
        now: Callable[[], float],
        cpu_seconds: Callable[[], float],
        settings: BlockSettings,
        note: Callable[[str], None],
    ) -> None:
        self._open_watch, self._cache, self._written, self._past = open_watch, cache, written, past
        self._now, self._cpu_seconds, self._note = now, cpu_seconds, note
        self.settings = settings
        self._groups: dict[Group, BlockGroup] = {}
        self._seen_at: dict[Group, float] = {}
        self._stock = BlockStock(cache, self._groups, settings, free_bytes, self._is_alone)
        self._asked = AskedBlocks(self._stock, programs, cache.block_bytes, note)
        self._budget = CoreBudget(settings.quick_seconds, settings.calm_seconds, settings.tired_seconds)
        self._vms: dict[str, BlockVm] = {}
        self._coming: dict[str, Place] = {}
        self._refused: dict[str, RefusedVm] = {}
        self._compare_at = self._busy_until = self._look_over_at = -math.inf
        BlockGroup(cache.block_bytes, 1, 0.0).loop.warm_up()
        self._learning_seconds = 0.0
        self._spent, self._began = cpu_seconds(), now()

    def attach(self, places: Sequence[Place]) -> None:
        """Stage for these VMs and no others; those that are new are begun with one by one, at the next beats."""
        wanted, now = {place.vm_id: place for place in places if not place.left_alone}, self._now()
        for vm_id, vm in list(self._vms.items()):
            place = wanted.get(vm_id)
            # What it used in another trust group stays there.
            if place is None or (place.incarnation, group_of(place)) != (vm.place.incarnation, vm.group):
                self._leave(vm)
            else:
                vm.place = place
        self._asked.end(places)
        self._keep_groups({group_of(place) for place in places}, now)
        self._refused = {
            vm_id: refused
            for vm_id, refused in self._refused.items()
            if vm_id in wanted and wanted[vm_id].incarnation == refused.incarnation
        }
        new = [place for vm_id, place in wanted.items() if vm_id not in self._vms]
        due = [place for place in new if place.vm_id not in self._refused or now >= self._refused[place.vm_id].again_at]
        due.sort(key=lambda place: place.vm_id in self._refused)
        self._coming = {place.vm_id: place for place in due}

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        now = self._now()
        if self._coming:
            self._begin(self._coming.pop(next(iter(self._coming))))
        for vm in list(self._vms.values()):
            with self._losing(vm):
                self._look(vm, now)
                self._asked.turn(vm.place, vm.group, (file.path for file in vm.watch.files), now)
        if now >= self._look_over_at:
            self._look_over_at = now + LOOK_OVER_SECONDS
            self._stock.look_over(now)
        self._stock.settle(now)  # last: what a VM has waited for is there by now, too
        self._written.pass_time()
        return self._pause_seconds(now)

    def stop(self) -> None:
        """Let go of all VMs; what is in memory stays there for as long as the host likes."""
        self._asked.end(())
        for vm in list(self._vms.values()):
            self._leave(vm)
        self._cache.close()
        self._written.close()

    def status(self) -> BlockStatus:
        """What is so now."""
        spent = self._cpu_seconds() - self._spent
        return BlockStatus(
            vms=tuple(sorted(self._vms)),
            staged_bytes=self._stock.staged_bytes(),
            most_bytes=self.settings.staged_bytes,
            waiting=self._stock.waiting(),
            resting=tuple(sorted(vm_id for vm_id, vm in self._vms.items() if vm.rests_until is not None)),
            dropped=dict(self._stock.dropped),
            refusals={vm_id: refused.why for vm_id, refused in self._refused.items()},
            cpu_seconds=spent,
            core_ratio=spent / max(self._now() - self._began, 1e-9),
            held_back_seconds=self._budget.held_back_seconds,
            groups={group.name: self._view(group) for group in sorted(self._groups)},
            asked=self._asked.views(),
            reading=self._reading(),
        )

    def _reading(self) -> tuple[str, ...]:
        """VMs that are about to read much, as far as is foreseen, or because somebody has said so."""
        ahead, found = self._stock.ahead(), []
        for vm_id, vm in self._vms.items():
            blocks = sum(ahead[vm.group, path] for path in {file.path for file in vm.watch.files})
            if blocks >= MANY_BLOCKS:
                found.append(vm_id)
        return tuple(sorted(found))

    def _view(self, group: Group) -> BlockView:
        known, vms = self._groups[group], sum(vm.group == group for vm in self._vms.values())
        return known.account.view(vms, self._stock.staged_bytes(group), known.loop.threshold)

    # --- VMs and trust groups come and go

    def _begin(self, place: Place) -> None:
        try:
            watch = self._open_watch(place.vm_id, place.pid)
        except HypervisorError as error:
            self._refuse(place, error)
            return
        self._refused.pop(place.vm_id, None)
        self._vms[place.vm_id] = vm = BlockVm(place, watch, self._now())
        self._group(vm.group)
        self._compare_at = -math.inf

    def _refuse(self, place: Place, error: HypervisorError) -> None:
        before = self._refused.get(place.vm_id)
        self._refused[place.vm_id] = RefusedVm.once_more(place, str(error), before, self._now())

    def _leave(self, vm: BlockVm) -> None:
        del self._vms[vm.place.vm_id]
        self._release(vm)
        try:
            vm.watch.close()
        except HypervisorError as error:
            self._note(f"disks of {vm.place.vm_id} are watched on for nothing, until the next start: {error}")
        self._cache.keep(self._paths())

    def _release(self, vm: BlockVm) -> None:
        """What is staged of a VM's own files: nobody sees any more whether it is read."""
        self._stock.leave(vm.group, [file.path for file in vm.watch.files if self._watchers(file.path) <= 1])

    @contextmanager
    def _losing(self, vm: BlockVm) -> Iterator[None]:
        """Go on when a VM turns out to be gone, or its disks out of reach."""
        try:
            yield
        except HypervisorError as error:
            self._refuse(vm.place, error)
            self._leave(vm)

    def _paths(self) -> set[str]:
        """Files that disks of VMs lie in."""
        return {file.path for vm in self._vms.values() for file in vm.watch.files}

    def _watchers(self, path: str) -> int:
        """How many VMs have a disk in a file."""
        return sum(any(file.path == path for file in vm.watch.files) for vm in self._vms.values())

    def _is_alone(self, path: str) -> bool:
        owns = [file.own for vm in self._vms.values() for file in vm.watch.files if file.path == path]
        return owns == [True]

    def _group(self, group: Group) -> BlockGroup:
        """A trust group's model; one that is new learns what is known of it from before."""
        if group not in self._groups:
            began = self._cpu_seconds()
            cache_blocks = max(self.settings.cache_bytes // self._cache.block_bytes, 1)
            known = BlockGroup(self._cache.block_bytes, cache_blocks, self.settings.least_precision)
            self._groups[group], self._seen_at[group] = known, self._now()
            try:
                if (past := self._past(group)) is not None:
                    known.learn(past)
            except ForestallError as error:
                self._note(f"what VMs of {group.name!r} used before is not known: {error}")
            self._learning_seconds += self._cpu_seconds() - began  # which is no VM's doing
        return self._groups[group]

    def _keep_groups(self, groups: set[Group], now: float) -> None:
        """Forget trust groups that have had no VM for long, and at once those that were made anew."""
        self._seen_at |= dict.fromkeys(groups & self._groups.keys(), now)
        names = {group.name for group in groups}
        for group in self._groups.keys() - groups:
            if group.name in names or now >= self._seen_at[group] + KEPT_SECONDS:
                self._stock.leave(group)
                del self._groups[group], self._seen_at[group]

    def _pause_seconds(self, now: float) -> float:
        """How long to wait; while there is more to do than the share of a core allows, the busiest VM rests."""
        ratio = self.settings.core_ratio_per_ten_vms * math.ceil(max(len(self._vms), 1) / 10)
        spent = self._cpu_seconds() - self._spent - self._learning_seconds
        wait = self._budget.next_seconds(self._now(), spent, ratio, busy=now < self._busy_until)
        awake = [vm for vm in self._vms.values() if vm.rests_until is None and not asks_for(vm.place)]
        if wait >= self.settings.tired_seconds and now < self._busy_until and awake:
            self._have_rest(max(awake, key=lambda vm: vm.requests), now)
        for vm in awake:
            vm.requests *= FADING
        return wait

    def _have_rest(self, vm: BlockVm, now: float) -> None:
        if now - vm.awake_since > 10.0 * vm.rest_seconds:
            vm.rest_seconds = REST_SECONDS
        with self._losing(vm):
            vm.watch.rest()
            self._release(vm)
            vm.rests_until = now + vm.rest_seconds
            vm.rest_seconds = min(2.0 * vm.rest_seconds, MOST_REST_SECONDS)

    # --- what they use

    def _look(self, vm: BlockVm, now: float) -> None:
        """Take in what a VM used since the last beat."""
        if vm.rests_until is not None:
            if now < vm.rests_until and not asks_for(vm.place):
                return
            vm.watch.resume()
            vm.rests_until, vm.awake_since = None, now
        requests = vm.watch.take()
        if not len(requests.at):
            return
        requests = requests.chosen(slice(-MOST_REQUESTS, None))
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_SECONDS
            self._stock.compare(self._paths())
        self._busy_until = now + STILL_BUSY_SECONDS
        vm.requests += len(requests.at)
        self._write_down(vm, requests)
        known = self._group(vm.group)
        used = known.used(vm.place.vm_id, vm.watch.files, requests)
        self._settle(vm, known, used, now)
        read = used.chosen(~used.write)
        self._see_that_it_is_there(vm, known, read)
        if asks_for(vm.place):
            names = (known.paths[space] for space in read.space.tolist())
            self._asked.used(vm.place.vm_id, list(zip(names, read.number.tolist(), strict=True)))
        wanted, own = known.take_in(vm.place.vm_id, read), {file.path for file in vm.watch.files}
        named = zip((known.paths[space] for space in wanted.space.tolist()), wanted.number.tolist(), strict=True)
        blocks = [Block(vm.group, path, number) for path, number in named if path in own]
        self._stock.want(blocks, now, now + vm.place.horizon_seconds, real=vm.place.acting)

    def _settle(self, vm: BlockVm, known: BlockGroup, used: Used, now: float) -> None:
        """What was staged and is used now: it was right, late, or, if it is written, for nothing."""
        in_use, account = known.in_use(used), known.account
        for space, number, write, again in zip(*(column.tolist() for column in (*used, in_use)), strict=True):
            block = Block(vm.group, known.paths[space], number)
            stay = self._stock.read(block, now)
            if write:
                account.wasted += stay is not None
            elif stay is None:
                account.misses += not again or self._stock.waits(block)
            elif stay.arrived:
                account.hits += 1
                account.real_hits += stay.real
            else:
                account.late += 1

    def _see_that_it_is_there(self, vm: BlockVm, known: BlockGroup, read: Used) -> None:
        """Look for the block that a VM has read last: if that is hardly ever in memory, nothing is known of its disks.

        Raises
        ------
        HypervisorError
            It is hardly ever there.
        """
        if not len(read.number):
            return
        vm.reads += 1
        vm.there += bool(self._cache.present(known.paths[int(read.space[-1])], read.number[-1:]).all())
        if vm.reads >= LEAST_READS and vm.there < LEAST_THERE * vm.reads:
            raise HypervisorError("what it reads does not come into the page cache where it should")

    def _write_down(self, vm: BlockVm, requests: Requests) -> None:
        for k, file in enumerate(vm.watch.files):
            own = np.flatnonzero(requests.file == k)
            source = Source(vm.place.vm_id, *vm.group, BLOCK, file.path, program_of(vm.place.asked))
            number = requests.offset_bytes[own] // UNIT_BYTES
            self._written.add(source, number, requests.size_bytes[own], requests.write[own], requests.at[own])
