"""Staging of blocks, live driver on simulated disks: ahead of the read, within bounds, one trust group at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from logs import Log

from forestall.adapters.simulated.blocks import SimulatedBlockWatch, SimulatedFileCache
from forestall.model.errors import HypervisorError, StoreError, Unsupported
from forestall.ports.blocks import DiskFile
from forestall.staging.asked import NOT_ALLOWED, Asked
from forestall.staging.block_asked import MOST_UNREAD, WATCHED, ProgramBlocks
from forestall.staging.block_driver import BlockDriver
from forestall.staging.block_group import BlockView, Past
from forestall.staging.block_stock import BUSY, NO_MEMORY, BlockSettings
from forestall.staging.ledger import Group
from forestall.staging.watched import Place
from forestall.staging.written import Written

BLOCK, BLOCKS = 65536, 4000
PROGRAM = np.random.default_rng(7).permutation(BLOCKS)[:300].tolist()
"""What a program reads when it starts: blocks from all over the disk, in an order of their own."""


class Known:
    """What programs read, in memory."""

    def __init__(self) -> None:
        self.of: dict[tuple[Group, str], ProgramBlocks] = {}
        self.broken = False

    def read(self, group: Group, program: str) -> ProgramBlocks | None:
        if self.broken:
            raise StoreError("is damaged")
        return self.of.get((group, program))

    def write(self, group: Group, program: str, blocks: ProgramBlocks) -> None:
        self.of[group, program] = blocks


class World:
    """A host with VMs and their disks, and a clock."""

    def __init__(self, *, slow: bool = False, **changed: float) -> None:
        self.now, self.free, self.cpu = 100.0, 1 << 40, 0.0
        self.cache = SimulatedFileCache(BLOCK, slow=slow)
        self.watches: dict[str, SimulatedBlockWatch] = {}
        self.log, self.notes = Log(), list[str]()
        self.past: dict[Group, Past | StoreError] = {}
        self.programs = Known()
        options = {"staged_bytes": 64 * BLOCK, "on_the_way_bytes": 1024 * BLOCK, "core_ratio_per_ten_vms": 10.0}
        self.driver = BlockDriver(
            self.open,
            self.cache,
            Written(self.log, lambda: 1e9, self.notes.append),
            self.known,
            self.programs,
            lambda: self.free,
            lambda: self.now,
            lambda: self.cpu,
            BlockSettings(**(options | changed)),  # type: ignore[arg-type]
            self.notes.append,
        )

    def open(self, vm_id: str, pid: int) -> SimulatedBlockWatch:
        if vm_id not in self.watches:
            raise Unsupported("none of its disks goes through the host's page cache (vda: cache=none)")
        self.watches[vm_id].watched = True
        return self.watches[vm_id]

    def known(self, group: Group) -> Past | None:
        found = self.past.get(group)
        if isinstance(found, StoreError):
            raise found
        return found

    def vm(self, vm_id: str, *paths: str, own: bool = True) -> SimulatedBlockWatch:
        for path in paths:
            self.cache.sizes.setdefault(path, BLOCKS)
        files = [DiskFile(path, own) for path in paths]
        self.watches[vm_id] = SimulatedBlockWatch(self.cache, files, lambda: 1e9 + self.now)
        return self.watches[vm_id]

    def attach(self, *places: Place) -> None:
        self.driver.attach(places)
        for _ in places:
            self.pass_time(0.05)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 0.05, until)
            self.driver.beat()

    def run(self, watch: SimulatedBlockWatch, blocks: Iterable[int] = PROGRAM, file: int = 0) -> int:
        """A VM starts a program, three blocks a beat; how many of its reads waited."""
        waited, blocks = watch.waited, list(blocks)
        for k in range(0, len(blocks), 3):
            watch.use(blocks[k : k + 3], file)
            self.pass_time(0.05)
        return watch.waited - waited

    def forget(self) -> None:
        """The host's memory is used for something else."""
        self.pass_time(60.0)
        self.cache.resident.clear()

    def view(self, group: str = "g") -> BlockView:
        return self.driver.status().groups[group]


def place(vm_id: str, group: str = "g", *, acting: bool = True, run: str = "1", generation: str = "") -> Place:
    return Place(vm_id, run, 7, group, 20.0, acting, (), generation)


def test_a_program_that_was_seen_starts_without_waiting() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    assert world.run(vm) == len(PROGRAM)
    world.forget()
    world.run(vm)
    world.forget()
    assert world.run(vm) < 0.1 * len(PROGRAM)
    view = world.view()
    assert view.real_hits == view.hits > len(PROGRAM)
    assert view.precision is not None
    assert view.precision > 0.9


def test_what_is_in_memory_is_not_asked_for() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(4):
        world.run(vm)
    assert world.cache.brought == []
    assert world.view().misses == len(PROGRAM)


def test_noise_is_left_alone() -> None:
    world, rng = World(), np.random.default_rng(0)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(4):
        world.run(vm, rng.permutation(BLOCKS)[:400].tolist())
        world.forget()
    assert sum(count for *_, count in world.cache.brought) < 100
    assert world.view().threshold > 1


def test_vms_over_one_base_image_learn_from_each_other() -> None:
    world = World()
    first, second = world.vm("a", "a.qcow2", "base", own=False), world.vm("b", "b.qcow2", "base", own=False)
    world.attach(place("a"), place("b"))
    for _ in range(2):
        world.run(first, file=1)
        world.forget()
    assert world.run(second, file=1) < 0.1 * len(PROGRAM)


def test_nothing_is_learned_across_trust_groups() -> None:
    world = World()
    theirs, ours = world.vm("a", "a.qcow2", "base", own=False), world.vm("b", "b.qcow2", "base", own=False)
    world.attach(place("a", "theirs"), place("b", "ours"))
    for _ in range(3):
        world.run(theirs, file=1)
        world.forget()
    assert world.view("theirs").real_hits > 0
    world.cache.brought.clear()
    assert world.run(ours, file=1) > 0.9 * len(PROGRAM)
    assert world.view("ours").hits <= 0.1 * len(PROGRAM)
    assert world.view("ours").staged == sum(count for *_, count in world.cache.brought)


def test_a_group_made_anew_knows_nothing_of_the_one_before() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a", generation="1"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.attach(place("a", generation="2"))
    assert world.run(vm) > 0.9 * len(PROGRAM)


def test_a_vm_that_moves_to_another_group_takes_nothing_along() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a", "theirs"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.attach(place("a", "ours"))
    assert world.run(vm) > 0.9 * len(PROGRAM)
    assert world.view("ours").vms == 1
    assert world.view("theirs").vms == 0


def test_it_begins_with_what_was_written_down() -> None:
    world = World()
    offsets = np.tile(np.array(PROGRAM) * BLOCK, 2)
    nothing = np.zeros(len(offsets), np.int64)
    world.past[Group("g", "")] = Past(("disk",), ("a",), nothing, nothing, offsets, nothing + BLOCK)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    assert world.run(vm) < 0.3 * len(PROGRAM)


def test_a_past_that_cannot_be_read_is_told_and_done_without() -> None:
    world = World()
    world.past[Group("g", "")] = StoreError("blocks-000001.parquet: is damaged")
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    assert world.run(vm) == len(PROGRAM)
    assert world.notes == ["what VMs of 'g' used before is not known: blocks-000001.parquet: is damaged"]


def test_advice_brings_nothing_and_counts_what_would_have_been() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a", acting=False))
    for _ in range(3):
        assert world.run(vm) == len(PROGRAM)
        world.forget()
    assert world.cache.brought == []
    assert world.view().hits > len(PROGRAM)
    assert world.view().real_hits == world.view().staged_bytes == 0
    world.attach(place("a"))
    assert world.run(vm) < 0.1 * len(PROGRAM)


def test_what_nobody_reads_in_time_is_dropped_and_counted() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:60])
    staged = world.driver.status().staged_bytes // BLOCK
    assert staged > 10
    wasted, world.cache.dropped[:] = world.view().wasted, []
    world.pass_time(25.0)
    assert world.view().wasted - wasted == staged == len(world.cache.dropped)
    assert world.driver.status().staged_bytes == 0


def test_blocks_of_a_base_image_are_not_dropped_for_others_may_read_them() -> None:
    world = World()
    vm = world.vm("a", "base", own=False)
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:60])
    world.pass_time(25.0)
    assert world.view().wasted > 10
    assert world.cache.dropped == []


def test_no_more_is_staged_than_there_is_room_for() -> None:
    world = World(staged_bytes=8 * BLOCK)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(3):
        world.run(vm)
        assert world.driver.status().staged_bytes <= 8 * BLOCK
        world.forget()


def test_disks_are_not_asked_for_more_than_they_can_bring() -> None:
    world = World(slow=True, on_the_way_bytes=4 * BLOCK)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.cache.arrive()
        world.forget()
    world.cache.brought.clear()
    vm.use(PROGRAM[:10])
    world.pass_time(0.1)
    assert sum(count for *_, count in world.cache.brought) == 4
    assert world.driver.status().waiting > 0
    world.cache.arrive()
    world.pass_time(0.1)
    assert sum(count for *_, count in world.cache.brought) == 8
    world.pass_time(60.0)
    assert world.driver.status().dropped[BUSY] > 0
    assert world.driver.status().waiting == 0


def test_what_is_on_its_way_when_it_is_read_is_late() -> None:
    world = World(slow=True)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.cache.arrive()
        world.forget()
    hits, late = world.view().hits, world.view().late
    world.run(vm)
    assert world.view().late > late
    assert world.view().hits - hits < world.view().late - late


def test_a_host_without_free_memory_has_it_wait() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.free = 0
    world.cache.brought.clear()
    world.run(vm, PROGRAM[:30])
    assert world.cache.brought == []
    world.free = 1 << 40
    world.pass_time(0.1)
    assert world.cache.brought != []
    world.free = 0
    world.run(vm, PROGRAM[30:200])
    world.pass_time(60.0)
    assert world.driver.status().dropped[NO_MEMORY] > 0


def test_neighbours_are_brought_at_once() -> None:
    world = World()
    vm, blocks = world.vm("a", "disk"), [*range(500, 540), *range(90, 120), *range(2000, 2050)]
    world.attach(place("a"))
    for _ in range(3):
        world.run(vm, blocks)
        world.forget()
    world.cache.brought.clear()
    world.run(vm, blocks)
    brought = world.cache.brought
    assert sum(count for *_, count in brought) > 2 * len(brought)


def test_a_vm_that_asks_more_than_can_be_looked_at_rests() -> None:
    world = World(core_ratio_per_ten_vms=0.01)
    busy, calm = world.vm("busy", "disk"), world.vm("calm", "other")
    world.attach(place("busy"), place("calm"))
    calm.use([1])
    world.pass_time(0.1)
    world.cpu += 10.0
    world.run(busy, PROGRAM[:3])
    assert world.driver.status().resting == ("busy",)
    assert not busy.watched
    assert calm.watched
    world.pass_time(11.0)
    assert world.driver.status().resting == ()
    assert busy.watched


def test_who_cannot_be_watched_is_refused_with_a_reason_and_tried_again() -> None:
    world = World()
    world.attach(place("a"))
    assert world.driver.status().refusals == {
        "a": "none of its disks goes through the host's page cache (vda: cache=none)"
    }
    world.vm("a", "disk")
    world.attach(place("a"))
    assert world.driver.status().vms == ()  # not at once
    world.pass_time(2.0)
    world.attach(place("a"))
    assert world.driver.status().refusals == {}
    assert world.driver.status().vms == ("a",)


def test_a_vm_that_dies_is_let_go_and_its_next_run_is_another() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    vm.gone = True
    world.pass_time(0.1)
    assert world.driver.status().vms == ()
    assert world.driver.status().refusals == {"a": "the VM is gone"}
    again = world.vm("a", "disk")
    world.attach(place("a", run="2"))
    again.use([1, 2])
    world.pass_time(0.1)
    assert world.driver.status().vms == ("a",)
    assert world.view().misses == 2


def test_who_is_left_alone_is_not_watched() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    assert vm.watched
    world.attach(replace(place("a"), left_alone=True))
    assert not vm.watched
    assert world.driver.status().vms == ()


def test_a_file_that_vanishes_harms_nobody() -> None:
    world = World(slow=True)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.cache.arrive()
        world.forget()
    world.run(vm, PROGRAM[:30])
    del world.cache.sizes["disk"]
    world.pass_time(30.0)
    vm.use(PROGRAM[30:60])
    world.pass_time(1.0)
    assert world.driver.status().refusals == {"a": "disk: No such file or directory"}
    world.cache.sizes["disk"] = BLOCKS
    world.pass_time(5.0)
    world.attach(place("a"))
    assert world.driver.status().vms == ("a",)


def test_everything_that_is_used_is_written_down() -> None:
    world = World()
    vm = world.vm("a", "a.qcow2", "base")
    world.attach(place("a", generation="3"))
    vm.use([5, 6], 1)
    vm.use([9], 0, write=True)
    world.pass_time(0.1)
    rows = {
        source.place: (source.vm_id, source.group, source.generation, source.kind, *accesses.number, *accesses.write)
        for source, accesses in world.log.rows
    }
    assert rows == {
        "base": ("a", "g", "3", "block", 80, 96, False, False),
        "a.qcow2": ("a", "g", "3", "block", 144, True),
    }
    world.driver.stop()
    assert world.log.closed
    assert not vm.watched


def test_a_log_that_is_full_is_told_once_and_staging_goes_on() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    world.log.broken = "/state/access: No space left on device"
    world.run(vm)
    assert world.notes == ["what VMs use is not written down: /state/access: No space left on device"]
    world.forget()
    world.run(vm)
    assert world.cache.brought != []


def brought(world: World) -> int:
    """Blocks that the host was asked for."""
    return sum(count for *_, count in world.cache.brought)


def test_writing_is_not_reading() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for first in range(0, 3000, 30):
        vm.use(range(first, first + 30), write=True)
        world.pass_time(0.05)
    assert world.cache.brought == []
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:30])
    wasted, staged = world.view().wasted, world.driver.status().staged_bytes // BLOCK
    vm.use(PROGRAM[30:60], write=True)
    world.pass_time(0.1)
    assert world.view().wasted - wasted == staged - world.driver.status().staged_bytes // BLOCK > 10


def test_what_is_counted_as_staged_was_brought() -> None:
    world = World(slow=True, on_the_way_bytes=4 * BLOCK)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(3):
        world.run(vm)
        world.cache.arrive()
        world.forget()
    assert world.view().staged == brought(world) > 0


def test_what_the_host_has_let_go_before_it_was_read_was_of_no_use() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:30])
    hits, waited = world.view().real_hits, vm.waited
    world.cache.resident.clear()
    world.pass_time(3.0)
    vm.use(PROGRAM[30:33])
    world.pass_time(0.1)
    assert vm.waited == waited + 3
    assert world.view().real_hits == hits
    assert world.view().wasted > 10


def test_nothing_waits_twice() -> None:
    world = World(slow=True, on_the_way_bytes=4 * BLOCK)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.cache.arrive()
        world.forget()
    for first in range(0, 30, 3):
        vm.use(PROGRAM[first : first + 3])
        world.pass_time(2.5)  # each time what is believed to be there is compared with what is
    waiting = list(world.driver._stock._waiting._until)
    assert len(waiting) == len(set(waiting)) > 10


def test_rests_are_short_again_after_a_long_time_awake() -> None:
    world = World(core_ratio_per_ten_vms=0.01)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(4):
        vm.use([1, 2, 3])
        world.pass_time(0.1)
        world.cpu += 7.0
        vm.use([4, 5, 6])
        world.pass_time(0.1)
        assert not vm.watched
        world.pass_time(11.0)
        assert vm.watched
        world.pass_time(1800.0)


def test_what_a_vm_read_while_it_rested_is_neither_dropped_nor_counted() -> None:
    world = World(core_ratio_per_ten_vms=0.05)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:60])
    assert world.driver.status().staged_bytes > 10 * BLOCK
    world.cpu += 100.0
    vm.use(PROGRAM[60:63])
    world.pass_time(0.2)
    wasted, world.cache.dropped[:] = world.view().wasted, []
    assert not vm.watched
    world.pass_time(60.0)
    assert world.view().wasted == wasted
    assert world.cache.dropped == []
    assert world.driver.status().staged_bytes == 0


def test_a_file_that_two_vms_have_is_not_dropped() -> None:
    world = World()
    vm, other = world.vm("a", "disk"), world.vm("b", "disk")
    world.attach(place("a"), place("b", "others"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.run(vm, PROGRAM[:60])
    world.pass_time(25.0)
    assert world.view().wasted > 10
    assert world.cache.dropped == []
    assert other.watched


def test_who_cannot_be_watched_keeps_nobody_waiting() -> None:
    world = World()
    refused = [place(f"refused-{k}") for k in range(30)]
    world.attach(*refused)
    vm = world.vm("a", "disk")
    world.driver.attach([*refused, place("a")])
    world.pass_time(0.1)
    assert vm.watched
    assert world.driver.status().vms == ("a",)


def test_models_of_groups_without_vms_are_kept_for_a_while_only() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for _ in range(2):
        world.run(vm)
        world.forget()
    world.attach()
    world.pass_time(300.0)
    world.attach(place("a"))
    assert world.run(vm) < 0.1 * len(PROGRAM)
    world.attach()
    world.pass_time(700.0)
    world.attach()
    assert world.driver.status().groups == {}


def test_disks_that_are_not_where_they_seem_to_be_are_left_alone() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    for k in range(250):
        vm.use([k])
        world.cache.resident.clear()
        world.pass_time(0.05)
    assert world.driver.status().refusals == {"a": "what it reads does not come into the page cache where it should"}
    assert not vm.watched


def asked(
    name: str = "r", program: str = "db", hold: float = 60.0, where: str = "", first: int = 0, blocks: int = 0
) -> Asked:
    return Asked(name, blocks * BLOCK, hold, "block", program, where, first * BLOCK)


def held(world: World, vm: SimulatedBlockWatch, blocks: list[int], *, name: str = "r") -> None:
    """A program is asked for, runs, and is no longer asked for."""
    world.attach(replace(place("a"), asked=(asked(name),)))
    world.pass_time(3.0)
    world.run(vm, blocks)
    world.attach(place("a"))


def test_a_program_that_is_asked_for_is_there_before_it_starts() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    vm = world.vm("a", "disk")
    world.attach(replace(place("a"), asked=(asked(),)))
    world.pass_time(1.0)
    view = world.driver.status().asked["r"]
    assert (view.wanted, view.done, view.why) == (0, True, WATCHED)
    assert world.run(vm, PROGRAM[:9]) == 9
    world.run(vm, PROGRAM[9:])
    assert world.driver.status().asked["r"].taken == len(PROGRAM)
    world.attach(place("a"))
    world.forget()
    world.attach(replace(place("a"), asked=(asked("again"),)))
    world.pass_time(3.0)
    view = world.driver.status().asked["again"]
    assert (view.wanted, view.staged, view.done, view.why) == (300, 300, True, "")
    assert (view.touched, view.unit_bytes) == (0, BLOCK)
    assert world.run(vm) == 0
    assert world.driver.status().asked["again"].touched == 300


def test_what_is_used_while_a_program_is_asked_for_is_written_down_as_its_own() -> None:
    world = World()
    vm = world.vm("a", "disk")
    one = (asked(),)
    for wanted in (one, (), (*one, asked("other", "web"))):
        world.attach(replace(place("a"), asked=wanted))
        world.run(vm, PROGRAM[:3])
    sources = [source.program_id for source, _ in world.log.rows]
    assert list(dict.fromkeys(sources)) == ["db", ""]
    assert sources[0] == "db"
    assert sources[-1] == ""


def test_what_the_host_forgets_as_it_comes_is_asked_for_again() -> None:
    world = World(staged_bytes=4000 * BLOCK, slow=True)
    world.vm("a", "/disk")
    world.attach(replace(place("a"), asked=(asked("r", "", where="/disk", blocks=40),)))
    world.pass_time(0.1)
    world.cache.arrive()
    world.cache.resident.clear()  # before it was seen to be there
    for _ in range(20):
        world.pass_time(1.0)
        world.cache.arrive()
    world.pass_time(1.0)
    view = world.driver.status().asked["r"]
    assert (view.staged, view.done) == (40, True)


def test_no_more_of_a_program_is_wanted_than_there_is_room_for() -> None:
    world = World(staged_bytes=30 * BLOCK)
    world.vm("a", "/disk")
    world.attach(replace(place("a"), asked=(asked("r", "", where="/disk", blocks=100),)))
    world.pass_time(5.0)
    view = world.driver.status().asked["r"]
    assert (view.wanted, view.staged) == (30, 30)


def test_it_is_told_who_is_about_to_read() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    vm = world.vm("a", "/disk")
    world.vm("b", "/other")
    few, many = asked("few", "", where="/disk", blocks=10), asked("many", "", where="/disk", first=100, blocks=20)
    world.attach(replace(place("a"), asked=(few,)), place("b"))
    world.pass_time(1.0)
    assert world.driver.status().reading == ()
    world.attach(replace(place("a"), asked=(few, many)), place("b"))
    world.pass_time(1.0)
    assert world.driver.status().reading == ("a",)
    vm.use([*range(10), *range(100, 120)])
    world.pass_time(1.0)
    assert world.driver.status().reading == ()


def test_another_trust_group_has_programs_of_its_own() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    vm = world.vm("a", "base", own=False)
    world.vm("b", "base", own=False)
    world.vm("c", "base", own=False)
    held(world, vm, PROGRAM)
    there = [replace(place("b", group="other"), asked=(asked("b"),)), replace(place("c"), asked=(asked("c"),))]
    world.attach(*there)
    world.pass_time(1.0)
    found = world.driver.status().asked
    assert (found["b"].wanted, found["c"].wanted) == (0, 300)


def test_what_a_program_reads_no_longer_is_forgotten_and_what_says_nothing_is_passed_over() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    vm = world.vm("a", "disk")
    held(world, vm, PROGRAM)
    for k in range(MOST_UNREAD + 1):
        held(world, vm, PROGRAM[:10], name=f"in memory already {k}")
    assert len(world.programs.of[Group("g", ""), "db"].number) == 300
    for k in range(MOST_UNREAD + 1):
        held(world, vm, PROGRAM[:200], name=f"less {k}")
    assert list(world.programs.of[Group("g", ""), "db"].number) == PROGRAM[:200]


def test_blocks_of_a_file_that_are_asked_for() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    world.vm("a", "/disk")
    one, other = asked("r", "", where="/disk", first=10, blocks=20), asked("s", "", where="/theirs", blocks=5)
    world.attach(replace(place("a"), asked=(one, other)))
    world.pass_time(1.0)
    assert sorted(number for _, number in world.cache.resident) == list(range(10, 30))
    assert world.driver.status().asked["r"].staged == 20
    view = world.driver.status().asked["s"]
    assert (view.wanted, view.done, view.why) == (0, True, "no disk of the VM lies there in /theirs")


def test_a_vm_that_may_not_be_changed_is_given_nothing() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    world.vm("a", "/disk")
    world.attach(replace(place("a", acting=False), asked=(asked("r", "", where="/disk", blocks=20),)))
    world.pass_time(1.0)
    assert not world.cache.resident
    view = world.driver.status().asked["r"]
    assert (view.staged, view.done, view.why) == (0, True, NOT_ALLOWED)


def test_memory_that_is_asked_for_is_nothing_to_disks() -> None:
    world = World()
    world.vm("a", "/disk")
    world.attach(replace(place("a"), asked=(Asked("m", 1 << 20, 10.0),)))
    world.pass_time(1.0)
    assert not world.driver.status().asked


def test_what_is_known_of_programs_may_be_damaged() -> None:
    world = World(staged_bytes=4000 * BLOCK)
    vm = world.vm("a", "disk")
    world.programs.broken = True
    held(world, vm, PROGRAM)
    assert world.notes[0] == "what 'db' reads is learned anew: is damaged"
    assert len(world.programs.of[Group("g", ""), "db"].number) == 300


def test_who_is_asked_for_does_not_rest() -> None:
    world = World(core_ratio_per_ten_vms=0.01)
    vm = world.vm("a", "disk")
    world.attach(place("a"))

    def work(seconds: float) -> None:
        until = world.now + seconds
        while world.now < until:
            world.cpu += 0.05
            vm.use([1, 2, 3])
            world.pass_time(0.05)

    work(80.0)
    assert world.driver.status().resting == ("a",)
    world.attach(replace(place("a"), asked=(asked(),)))
    work(20.0)
    assert world.driver.status().resting == ()


def test_a_flood_of_requests_is_bounded() -> None:
    world = World()
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    vm.use(np.random.default_rng(1).integers(0, BLOCKS, 40_000).tolist())
    world.pass_time(0.05)
    assert sum(len(accesses) for _, accesses in world.log.rows) == 5_000


def test_a_slow_disk_is_asked_for_little_at_a_time_and_a_quick_one_for_much() -> None:
    for slow in (False, True):
        world = World(slow=slow, staged_bytes=2000 * BLOCK)
        vm = world.vm("a", "disk")
        world.attach(place("a"))
        for _ in range(4):
            for k in range(0, len(PROGRAM), 3):
                vm.use(PROGRAM[k : k + 3])
                world.pass_time(0.05)
                world.cache.arrive(1)  # a disk that brings 20 blocks a second
            world.cache.arrive()
            world.forget()
        window = world.driver._stock._window
        assert window < 32 if slow else window > 200, (slow, window)


class Everything(RuleBasedStateMachine):
    """Whatever happens in whatever order: bounds hold, and no block is in two states."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(slow=True, staged_bytes=12 * BLOCK, on_the_way_bytes=5 * BLOCK)
        self.acting = True
        for vm_id in ("a", "b"):
            self.world.vm(vm_id, f"disk-{vm_id}", "base", own=False)
        self.attach()

    def attach(self) -> None:
        self.world.driver.attach([place("a", "g", acting=self.acting), place("b", "h")])
        self.world.pass_time(0.1)

    @rule(vm=st.sampled_from("ab"), start=st.integers(0, 280), count=st.integers(1, 40), file=st.integers(0, 1))
    def run(self, vm: str, start: int, count: int, file: int) -> None:
        self.world.run(self.world.watches[vm], PROGRAM[start : start + count], file)

    @rule(most=st.integers(0, 20))
    def arrive(self, most: int) -> None:
        self.world.cache.arrive(most)

    @rule()
    def forget(self) -> None:
        self.world.cache.resident.clear()
        self.world.pass_time(3.0)

    @rule(seconds=st.sampled_from((0.1, 5.0, 30.0)))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def turn(self) -> None:
        self.acting = not self.acting
        self.attach()

    @rule(free=st.booleans())
    def squeeze(self, free: bool) -> None:
        self.world.free = (1 << 40) * free

    @invariant()
    def bounds_hold(self) -> None:
        status, area = self.world.driver.status(), self.world.driver._stock._area
        waiting, until = self.world.driver._stock._waiting, self.world.driver._stock._until
        assert set(waiting._until) == set(until)
        assert not set(until) & set(area._stays[True])
        assert status.staged_bytes <= 12 * BLOCK
        assert area.travelling() <= 5
        assert set(area.on_the_way()) <= set(area._stays[True])
        assert not set(area._stays[True]) & set(area._stays[False])
        for view in status.groups.values():
            assert view.hits + view.late + view.wasted <= view.staged
            assert view.real_hits <= view.hits


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=15, stateful_step_count=20)


def test_a_watch_that_cannot_be_resumed_is_lost() -> None:
    world = World(core_ratio_per_ten_vms=0.01)
    vm = world.vm("a", "disk")
    world.attach(place("a"))
    vm.use([1])
    world.pass_time(0.1)
    world.cpu += 10.0
    world.run(vm, PROGRAM[:10])
    vm.gone = True
    world.pass_time(15.0)
    assert world.driver.status().vms == ()
    with pytest.raises(HypervisorError):
        vm.resume()
