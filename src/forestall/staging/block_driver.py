"""Staging of disk blocks on a live host: see what VMs read, decide, bring what comes next into the page cache.

It speaks to ports only, and is on nobody's path: VMs read as ever, and find more of it in memory. A trust group has a
model of its own (staging/block_group); what that believes to be in memory is compared with what is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from forestall.model.errors import ForestallError, HypervisorError
from forestall.ports.access_log import BLOCK, UNIT_BYTES, Source
from forestall.ports.blocks import BlockWatch, FileCache, Requests
from forestall.staging.block_area import Block, BlockArea, Stay
from forestall.staging.block_group import BlockGroup, BlockView, Past, Used
from forestall.staging.budget import CoreBudget
from forestall.staging.ledger import Group
from forestall.staging.waiting import Waiting
from forestall.staging.watched import Place
from forestall.staging.written import Written

BUSY, NO_MEMORY = "the disks are busy with what was asked for before", "the host has too little free memory"
STILL_BUSY_SECONDS = 1.0
LOOK_OVER_SECONDS = 1.0
COMPARE_SECONDS = 2.0
"""What is believed to be in memory is compared with what is, so often at most, when there is something to see."""
REST_SECONDS, MOST_REST_SECONDS = 10.0, 300.0
"""A VM whose requests are more than can be looked at is not watched for so long."""
FADING = 0.99
"""Requests count for the rest less with each beat."""


@dataclass(frozen=True)
class BlockSettings:
    """How blocks are staged.

    Attributes
    ----------
    staged_bytes
        What was brought in and not been read yet, of all VMs together, at most.
    on_the_way_bytes
        What the disks are asked for at a time, at most.
    cache_bytes
        What the host is believed to keep in memory of each trust group's disks.
    keep_free_bytes
        Nothing is staged while the host has less free memory.
    least_precision
        Of what is staged for a trust group at least this share must be read, or less is staged, or nothing.
    core_ratio_per_ten_vms, quick_seconds, calm_seconds, tired_seconds
        As in :class:`~forestall.staging.area.ShadowSettings`.
    """

    staged_bytes: int = 256 << 20
    on_the_way_bytes: int = 16 << 20
    cache_bytes: int = 1 << 30
    keep_free_bytes: int = 1 << 30
    least_precision: float = 0.5
    core_ratio_per_ten_vms: float = 0.01
    quick_seconds: float = 0.05
    calm_seconds: float = 0.1
    tired_seconds: float = 1.0


@dataclass(frozen=True)
class BlockStatus:
    """What is so; :class:`~forestall.staging.block_group.BlockView` says what of a group."""

    vms: tuple[str, ...] = ()
    staged_bytes: int = 0
    most_bytes: int = 0
    waiting: int = 0
    resting: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    core_ratio: float = 0.0
    held_back_seconds: float = 0.0
    groups: Mapping[str, BlockView] = field(default_factory=dict)


@dataclass
class _Vm:
    """A VM whose disks are watched; ``requests`` fade, and ``rest_seconds`` is how long it rests the next time."""

    place: Place
    watch: BlockWatch
    requests: float = 0.0
    rests_until: float | None = None
    rest_seconds: float = REST_SECONDS

    @property
    def group(self) -> Group:
        return Group(self.place.group, self.place.generation)


class _Wanted(NamedTuple):
    """A block that is to be brought in, unless that could not be done until then (monotonic time)."""

    block: Block
    until: float
    drop: bool


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
        free_bytes: Callable[[], int],
        now: Callable[[], float],
        cpu_seconds: Callable[[], float],
        settings: BlockSettings,
        note: Callable[[str], None],
    ) -> None:
        self._open_watch, self._cache, self._written, self._past = open_watch, cache, written, past
        self._free_bytes, self._now, self._cpu_seconds, self._note = free_bytes, now, cpu_seconds, note
        self.settings = settings
        self._block_bytes = cache.block_bytes
        self._area = BlockArea(max(settings.staged_bytes // self._block_bytes, 1))
        self._most_travelling = max(settings.on_the_way_bytes // self._block_bytes, 1)
        self._waiting: Waiting[_Wanted] = Waiting((BUSY, NO_MEMORY), self._give_up)
        self._budget = CoreBudget(settings.quick_seconds, settings.calm_seconds, settings.tired_seconds)
        self._groups: dict[Group, BlockGroup] = {}
        self._vms: dict[str, _Vm] = {}
        self._coming: dict[str, Place] = {}
        self._refusals: dict[str, str] = {}
        self._compare_at = self._busy_until = self._look_over_at = -math.inf
        BlockGroup(self._block_bytes, 1, 0.0).loop.warm_up()
        self._spent, self._began = cpu_seconds(), now()

    def attach(self, places: Sequence[Place]) -> None:
        """Stage for these VMs and no others; those that are new are begun with one by one, at the next beats."""
        wanted = {place.vm_id: place for place in places if not place.left_alone}
        for vm_id, vm in list(self._vms.items()):
            place = wanted.get(vm_id)
            if place is None or place.incarnation != vm.place.incarnation:
                self._leave(vm)
            else:
                vm.place = place
        for group in {Group(place.group, place.generation) for place in places}:
            for old in [old for old in self._groups if old.name == group.name and old != group]:
                self._forget(old)  # another of its name
        self._refusals = {vm_id: why for vm_id, why in self._refusals.items() if vm_id in wanted}
        self._coming = {vm_id: place for vm_id, place in wanted.items() if vm_id not in self._vms}

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        now = self._now()
        if self._coming:
            self._begin(self._coming.pop(next(iter(self._coming))))
        for vm in list(self._vms.values()):
            with self._losing(vm):
                self._look(vm, now)
        self._see_what_arrived()  # afterwards: what a VM has waited for is there by now, too
        self._written.pass_time()
        if now >= self._look_over_at:
            self._look_over_at = now + LOOK_OVER_SECONDS
            self._let_go(self._area.overdue(now))
        self._waiting.settle(now, self._try_again)
        return self._pause_seconds(now)

    def stop(self) -> None:
        """Let go of all VMs; what is in memory stays there for as long as the host likes."""
        for vm in list(self._vms.values()):
            self._leave(vm)
        self._cache.close()
        self._written.close()

    def status(self) -> BlockStatus:
        """What is so now."""
        spent = self._cpu_seconds() - self._spent
        return BlockStatus(
            vms=tuple(sorted(self._vms)),
            staged_bytes=self._area.staged() * self._block_bytes,
            most_bytes=self.settings.staged_bytes,
            waiting=len(self._waiting),
            resting=tuple(sorted(vm_id for vm_id, vm in self._vms.items() if vm.rests_until is not None)),
            dropped=dict(self._waiting.dropped),
            refusals=dict(self._refusals),
            cpu_seconds=spent,
            core_ratio=spent / max(self._now() - self._began, 1e-9),
            held_back_seconds=self._budget.held_back_seconds,
            groups={group.name: self._view(group) for group in sorted(self._groups)},
        )

    def _view(self, group: Group) -> BlockView:
        known, vms = self._groups[group], sum(vm.group == group for vm in self._vms.values())
        return known.account.view(vms, self._area.staged(group) * self._block_bytes, known.loop.threshold)

    # --- VMs come and go

    def _begin(self, place: Place) -> None:
        try:
            watch = self._open_watch(place.vm_id, place.pid)
        except HypervisorError as error:
            self._refusals[place.vm_id] = str(error)
            return
        self._refusals.pop(place.vm_id, None)
        self._vms[place.vm_id] = vm = _Vm(place, watch)
        self._group(vm.group)
        self._compare_at = -math.inf

    def _leave(self, vm: _Vm) -> None:
        self._vms.pop(vm.place.vm_id, None)
        vm.watch.close()

    @contextmanager
    def _losing(self, vm: _Vm) -> Iterator[None]:
        """Go on when a VM turns out to be gone, or its disks out of reach."""
        try:
            yield
        except HypervisorError as error:
            self._refusals[vm.place.vm_id] = str(error)
            self._leave(vm)

    def _group(self, group: Group) -> BlockGroup:
        """A trust group's model; one that is new learns what is known of it from before."""
        if group not in self._groups:
            cache_blocks = max(self.settings.cache_bytes // self._block_bytes, 1)
            known = BlockGroup(self._block_bytes, cache_blocks, self.settings.least_precision)
            self._groups[group] = known
            try:
                if (past := self._past(group)) is not None:
                    known.learn(past)
            except ForestallError as error:
                self._note(f"what VMs of {group.name!r} used before is not known: {error}")
        return self._groups[group]

    def _forget(self, group: Group) -> None:
        """A trust group is gone, and with it all that was learned from it."""
        self._waiting.forget(lambda wanted: wanted.block.group == group)
        del self._groups[group]
        self._let_go(self._area.leave(group))

    def _pause_seconds(self, now: float) -> float:
        """How long to wait; while there is more to do than the share of a core allows, the busiest VM rests."""
        ratio = self.settings.core_ratio_per_ten_vms * math.ceil(max(len(self._vms), 1) / 10)
        spent, busy = self._cpu_seconds() - self._spent, now < self._busy_until
        wait = self._budget.next_seconds(self._now(), spent, ratio, busy=busy)
        awake = [vm for vm in self._vms.values() if vm.rests_until is None]
        if wait >= self.settings.tired_seconds and busy and awake:
            busiest = max(awake, key=lambda vm: vm.requests)
            busiest.watch.rest()
            busiest.rests_until = now + busiest.rest_seconds
            busiest.rest_seconds = min(2 * busiest.rest_seconds, MOST_REST_SECONDS)
        for vm in awake:
            vm.requests *= FADING
        return wait

    # --- what they use

    def _look(self, vm: _Vm, now: float) -> None:
        """Take in what a VM used since the last beat."""
        if vm.rests_until is not None:
            if now < vm.rests_until:
                return
            vm.watch.resume()
            vm.rests_until = None
        requests = vm.watch.take()
        if not len(requests.at):
            return
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_SECONDS
            self._compare()
        self._busy_until = now + STILL_BUSY_SECONDS
        vm.requests += len(requests.at)
        self._write_down(vm, requests)
        known = self._group(vm.group)
        used = known.used(vm.place.vm_id, vm.watch.files, requests)
        self._settle(vm, known, used)
        wanted = known.take_in(vm.place.vm_id, used)
        own, until = {file.path: file.own for file in vm.watch.files}, now + vm.place.horizon_seconds
        blocks = [
            Block(vm.group, known.paths[space], number)
            for space, number in zip(wanted.space.tolist(), wanted.number.tolist(), strict=True)
        ]
        self._want([_Wanted(block, until, own.get(block.path, False)) for block in blocks], real=vm.place.acting)

    def _settle(self, vm: _Vm, known: BlockGroup, used: Used) -> None:
        """What was staged and is used now has done its duty."""
        in_use, account = known.in_use(used), known.account
        for space, number, write, again in zip(*(column.tolist() for column in (*used, in_use)), strict=True):
            stay = self._area.read(Block(vm.group, known.paths[space], number))
            if write:
                continue
            if stay is None:
                account.misses += not again
            elif stay.arrived:
                account.hits += 1
                account.real_hits += stay.real
            else:
                account.late += 1

    def _write_down(self, vm: _Vm, requests: Requests) -> None:
        for k, file in enumerate(vm.watch.files):
            own = requests.file == k
            source = Source(vm.place.vm_id, *vm.group, BLOCK, file.path)
            number = requests.offset_bytes[own] // UNIT_BYTES
            self._written.add(source, number, requests.size_bytes[own], requests.write[own], requests.at[own])

    # --- what is brought in

    def _want(self, wanted: Sequence[_Wanted], *, real: bool) -> None:
        """Stage blocks that are not there; what cannot be now has to wait."""
        if real:
            for one in wanted:
                self._area.follow_no_more(one.block)
        missing = self._missing(wanted)
        for one in missing:
            self._groups[one.block.group].account.staged += 1
            if not real:
                self._let_go(self._area.stage(one.block, Stay(one.until, real=False, arrived=True, drop=False)))
        if real:
            brought, why = self._bring(missing)
            for one in missing[brought:]:
                self._waiting.add(one, one.until, why)

    def _missing(self, wanted: Sequence[_Wanted]) -> list[_Wanted]:
        """Those that are neither staged nor in memory, nor behind the end of their file."""
        missing, new = [], [one for one in wanted if one.block not in self._area]
        for path in dict.fromkeys(one.block.path for one in new):
            own = [one for one in new if one.block.path == path]
            number = np.array([one.block.number for one in own], np.int64)
            try:
                lacking = (number >= 0) & (number < self._cache.blocks(path)) & ~self._cache.present(path, number)
            except HypervisorError:
                continue  # the file is gone
            missing += [one for one, lacks in zip(own, lacking.tolist(), strict=True) if lacks]
        return missing

    def _bring(self, wanted: Sequence[_Wanted]) -> tuple[int, str]:
        """Have the host read blocks, neighbours at once: how many of them, and why not the others, for now."""
        room = self._most_travelling - self._area.travelling()
        if wanted and self._free_bytes() < self.settings.keep_free_bytes:
            return 0, NO_MEMORY
        now_on, done = wanted[: max(room, 0)], 0
        while done < len(now_on):
            count = _neighbours(now_on[done:])
            block = now_on[done].block
            self._cache.bring(block.path, block.number, count)
            done += count
        for one in now_on:
            self._let_go(self._area.stage(one.block, Stay(one.until, real=True, arrived=False, drop=one.drop)))
        return len(now_on), BUSY

    def _try_again(self, wanted: _Wanted) -> str | None:
        if wanted.block.group not in self._groups or not self._missing([wanted]):
            return None
        brought, why = self._bring([wanted])
        return None if brought else why

    def _give_up(self, wanted: _Wanted) -> None:
        """It was not brought in, whatever the model believes."""
        if (known := self._groups.get(wanted.block.group)) is not None:
            known.lose(wanted.block.path, [wanted.block.number])

    def _let_go(self, gone: Sequence[tuple[Block, Stay]]) -> None:
        """Nobody has read these in their time."""
        for block, stay in gone:
            if (known := self._groups.get(block.group)) is not None:
                known.account.wasted += 1
                known.lose(block.path, [block.number])
            if stay.real and stay.drop:
                with suppress(HypervisorError):
                    self._cache.drop(block.path, block.number, 1)

    def _see_what_arrived(self) -> None:
        by_path: dict[str, list[Block]] = {}
        for block in self._area.on_the_way():
            by_path.setdefault(block.path, []).append(block)
        for path, blocks in by_path.items():
            try:
                there = self._cache.present(path, np.array([block.number for block in blocks], np.int64))
            except HypervisorError:
                there = np.ones(len(blocks), np.bool_)  # the file is gone: nothing will come
            for block, arrived in zip(blocks, there.tolist(), strict=True):
                if arrived:
                    self._area.arrive(block)

    def _compare(self) -> None:
        """Have models forget what they believe to be in memory and is not: others needed the room."""
        travelling = {block[:] for block in self._area.on_the_way()}
        for group, known in self._groups.items():
            for path, number in known.believed():
                try:
                    there = self._cache.present(path, number)
                except HypervisorError:
                    there = np.zeros(len(number), np.bool_)
                gone = [n for n in number[~there].tolist() if (group, path, n) not in travelling]
                known.lose(path, gone)


def _neighbours(wanted: Sequence[_Wanted]) -> int:
    """How many of these, from the first on, lie one after the other in one file."""
    path, number = wanted[0].block.path, wanted[0].block.number
    count = 1
    while count < len(wanted) and wanted[count].block[1:] == (path, number + count):
        count += 1
    return count
