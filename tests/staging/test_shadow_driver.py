"""Staging of memory, live driver on simulated VMs: ahead of the touch, within bounds, and everything given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from logs import Log

from forestall.adapters.simulated.guest_pages import SimulatedGuestPages
from forestall.model.errors import HypervisorError, StoreError, Unsupported
from forestall.model.samples import BoolArray, IntArray
from forestall.staging.area import NO_MEMORY, NO_ROOM, RESTLESS, ShadowSettings
from forestall.staging.asked import NO_MORE, NOT_ALLOWED, Asked, AskedView
from forestall.staging.driver import ShadowDriver
from forestall.staging.ledger import Group
from forestall.staging.watched import Place
from forestall.staging.written import Written

PAGE, BLOCK_PAGES, PAGES = 4096, 32, 1000
AREA_PAGES = 12 * BLOCK_PAGES


class World:
    """A host with some VMs, and a clock."""

    def __init__(self, **changed: float) -> None:
        self.now, self.free, self.cpu = 100.0, 1 << 40, 0.0
        self.vms: dict[int, SimulatedGuestPages] = {}
        self.notes: list[str] = []
        self.log = Log()
        self.before: dict[Group, list[tuple[str, int]]] = {}
        options = {"staged_bytes": AREA_PAGES * PAGE, "block_bytes": BLOCK_PAGES * PAGE, "keep_free_bytes": 1 << 30}
        self.driver = ShadowDriver(
            self.open,
            lambda: self.free,
            lambda: self.now,
            lambda: self.cpu,
            ShadowSettings(**(options | changed)),  # type: ignore[arg-type]
            self.notes.append,
            Written(self.log, lambda: 1e9 + self.now),
            lambda group: self.before.get(group, ()),
        )

    def open(self, pid: int) -> SimulatedGuestPages:
        if pid not in self.vms:
            raise Unsupported("its memory is no shared memfd")
        return self.vms[pid]

    def vm(self, pid: int, pages: int = PAGES) -> SimulatedGuestPages:
        self.vms[pid] = SimulatedGuestPages(pages)
        return self.vms[pid]

    def attach(self, *places: Place) -> None:
        """Shadow these VMs, and begin with those that are new."""
        self.driver.attach(places)
        for _ in places:
            self.driver.beat()

    def beat(self, seconds: float = 0.01) -> float:
        self.now += seconds
        return self.driver.beat()

    def run(self, vm: SimulatedGuestPages, pages: range, step: int = 4) -> int:
        """The VM takes pages, some at each beat; how many were populated before."""
        hits = 0
        for first in range(pages.start, pages.stop, step):
            here = range(first, min(first + step, pages.stop))
            hits += int(vm.populated(here.start, len(here)).sum())
            vm.take(here)
            self.beat()
        return hits


def place(pid: int, group: str = "g", *, acting: bool = True, run: str = "1", horizon: float = 5.0) -> Place:
    return Place(f"vm-{pid}", run, pid, group, horizon, acting)


@pytest.fixture
def world() -> World:
    return World()


def staged(vm: SimulatedGuestPages) -> int:
    """Pages that the host holds and the VM never touched."""
    return int((vm.populated(0, vm.pages) & ~vm.touched(0, vm.pages)).sum())


def test_a_run_finds_its_pages_populated(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    hits = world.run(vm, range(100, 900))
    assert hits > 0.9 * 800
    group = world.driver.status().groups["g"]
    assert (group.hits, group.misses) == (hits, 800 - hits)
    assert group.coverage == hits / 800


def test_what_it_had_before_teaches_nothing_and_what_was_staged_is_adopted(world: World) -> None:
    vm = world.vm(1)
    vm.take(range(500))
    vm.populate(600, 30)
    world.attach(place(1))
    status = world.driver.status()
    assert status.staged_bytes == 30 * PAGE
    assert (status.groups["g"].hits, status.groups["g"].misses, status.groups["g"].staged) == (0, 0, 0)
    world.beat(6.0)
    for _ in range(10):
        world.beat(1.0)
    assert staged(vm) == 0, "whoever staged it is gone, and it was not touched in time"


def jumping(vm: SimulatedGuestPages, world: World) -> int:
    """The VM takes blocks here and there, in an order that nothing near foretells; pages that were foreseen."""
    order = np.random.default_rng(1).permutation(np.arange(1, vm.pages // BLOCK_PAGES, 3)).tolist()
    for block in order:
        world.run(vm, range(BLOCK_PAGES * block, BLOCK_PAGES * (block + 1)), BLOCK_PAGES)
        world.beat(0.5)
        world.beat(0.5)
    (group,) = world.driver.status().groups.values()
    return group.hits


def test_what_was_touched_before_this_process_began_is_remembered(world: World) -> None:
    vm = world.vm(1, 4 * PAGES)
    world.attach(place(1))
    without = jumping(vm, world)
    rows = [(source.vm_id, accesses.number.tolist()) for source, accesses in world.log.rows]
    before = [(vm_id, number // BLOCK_PAGES) for vm_id, numbers in rows for number in numbers]

    def again(group: Group) -> int:
        later = World()
        later.before = {group: before}
        vm = later.vm(7, 4 * PAGES)
        later.attach(place(7))
        return jumping(vm, later)

    assert again(Group("g", "")) > without + 20 * BLOCK_PAGES
    assert again(Group("another", "")) == again(Group("g", "made anew")) == without


def test_a_past_that_cannot_be_read_is_said_and_keeps_nobody_from_staging(world: World) -> None:
    def broken(_: Group) -> list[tuple[str, int]]:
        raise StoreError("/state/access: it is damaged")

    world.driver._past = broken
    vm = world.vm(1)
    world.attach(place(1))
    assert world.run(vm, range(100, 900)) > 0.9 * 800
    assert world.notes == ["what VMs of 'g' took before is not known: /state/access: it is damaged"]


def test_what_is_not_touched_in_time_is_given_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=2.0))
    world.run(vm, range(100))
    assert staged(vm) > 0
    held = staged(vm)
    for _ in range(30):
        world.beat(1.0)
    assert staged(vm) == 0
    assert vm.touched(0, 100).all()
    group = world.driver.status().groups["g"]
    assert group.wasted == group.returned == held
    assert group.precision == pytest.approx(group.hits / (group.hits + group.wasted), rel=0.02)


def test_who_may_not_be_acted_on_is_only_followed(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, acting=False))
    assert world.run(vm, range(100, 900)) == 0
    assert staged(vm) == 0
    group = world.driver.status().groups["g"]
    assert group.hits > 0.9 * 800, "what would have been"
    assert group.stops == 0


def test_a_group_for_which_it_does_not_pay_is_only_followed_until_it_does() -> None:
    world = World(staged_bytes=1000 * PAGE, least_precision=0.6)
    vm = world.vm(1, 100_000)
    world.attach(place(1, horizon=0.5))
    blocks = np.random.default_rng(1).permutation(2_000)[:900] * BLOCK_PAGES
    for page in blocks.tolist():  # two pages of a block, and never another near it
        vm.take([page, page + 1])
        world.beat(0.2)
    group = world.driver.status().groups["g"]
    assert not group.pays
    assert group.precision is not None
    assert group.precision < 0.6
    for _ in range(100):
        world.beat(1.0)
    vm.take(range(99_900, 99_950))
    world.beat()
    assert staged(vm) == 0
    world.run(vm, range(65_000, 99_000), 20)
    assert world.driver.status().groups["g"].pays
    assert staged(vm) > 0


def test_all_vms_together_have_so_much_and_no_more(world: World) -> None:
    first, second = world.vm(1, 2000), world.vm(2, 2000)
    world.attach(place(1), place(2, group="h"))
    for start in range(0, 904, 4):
        first.take(range(start, start + 4))
        second.take(range(start, start + 4))
        world.beat()
        assert staged(first) + staged(second) <= AREA_PAGES
    world.run(first, range(904, 1000), 32)
    world.run(second, range(904, 1000), 32)
    assert world.driver.status().staged_bytes == (staged(first) + staged(second)) * PAGE > 0


def test_without_memory_to_spare_blocks_wait_and_are_dropped_with_a_reason(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=3.0))
    world.free = (1 << 30) + 2 * PAGE
    vm.take(range(40))
    world.beat()
    assert staged(vm) <= 2
    assert world.driver.status().waiting > 0
    world.free = 1 << 40
    world.beat(0.5)
    assert staged(vm) > 2, "tried again"
    assert world.driver.status().waiting == 0
    world.free = 0
    vm.take(range(500, 540))
    world.beat()
    assert world.driver.status().waiting > 0
    world.beat(3.5)
    assert world.driver.status().waiting == 0
    assert world.driver.status().dropped[NO_MEMORY] > 0


def test_a_host_that_refuses_memory_is_said_so(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    vm.host_bytes = 0
    vm.take(range(40))
    world.beat()
    world.beat(2.0)
    assert any("the host has no memory" in why for why in world.driver.status().dropped)


def test_what_cannot_be_given_back_stays_in_the_account_and_is_tried_again(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    vm.restless = True
    world.run(vm, range(50))
    before = staged(vm)
    for _ in range(40):
        world.beat(1.0)
    assert staged(vm) == before > 0
    status = world.driver.status()
    assert status.staged_bytes == before * PAGE
    assert (status.groups["g"].wasted, status.groups["g"].returned) == (0, 0)
    assert status.refusals == {"vm-1": RESTLESS}
    world.run(vm, range(500, 600))
    assert staged(vm) == before, "nothing more is staged for it"
    vm.restless = False
    for _ in range(40):
        world.beat(1.0)
    assert staged(vm) == 0
    assert world.driver.status().refusals == {}
    assert world.run(vm, range(700, 900)) > 100, "and then it is"


def test_one_moment_of_unrest_does_not_keep_what_is_to_be_given_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    world.run(vm, range(100))
    real, moments = vm.give_back, iter([True, True, False, False, False, False])

    def sometimes(pages: IntArray) -> IntArray:
        vm.restless = next(moments)
        return real(pages)

    vm.give_back = sometimes  # type: ignore[method-assign]
    assert staged(vm) > 0
    world.attach()
    assert staged(vm) == 0
    assert world.notes == []


def test_what_remains_at_the_end_is_said(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    world.run(vm, range(100))
    vm.restless = True
    world.driver.stop()
    kib = staged(vm) * PAGE >> 10
    assert world.notes == [f"{kib} KiB that were staged for vm-1 could not be given back, and stay with it"]


def test_what_a_balloon_took_of_the_staged_is_no_unrest(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    world.run(vm, range(100))
    assert staged(vm) > 0
    vm.leave(range(100, 1000))
    for _ in range(20):
        world.beat(1.0)
    assert world.driver.status().staged_bytes == 0
    assert world.driver.status().refusals == {}


def test_what_was_populated_half_way_is_known_and_given_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    vm.host_bytes = 40 * PAGE
    vm.take(range(40))
    for _ in range(3):
        world.beat()
    assert staged(vm) == 40
    assert world.driver.status().staged_bytes == 40 * PAGE
    for _ in range(20):
        world.beat(1.0)
    assert staged(vm) == 0


def test_what_is_only_followed_takes_no_room_of_what_is_real(world: World) -> None:
    first, second = world.vm(1, 4000), world.vm(2, 4000)
    world.attach(place(1, horizon=60.0), place(2, "h", acting=False, horizon=60.0))
    world.run(first, range(320))
    before = staged(first)
    world.run(second, range(3000))
    assert staged(first) == before > 0
    groups = world.driver.status().groups
    assert (groups["g"].wasted, groups["h"].staged_bytes, groups["h"].real_hits) == (0, 0, 0)
    assert groups["h"].faults_saved_seconds == 0.0
    assert groups["h"].hits > 2000


def test_a_vm_that_changes_its_group_takes_nothing_along(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, "old"))
    world.run(vm, range(320))
    assert staged(vm) > 0
    world.attach(place(1, "new"))
    assert staged(vm) == 0
    world.run(vm, range(320, 640))
    groups = world.driver.status().groups
    assert groups["old"].hits + groups["old"].returned == groups["old"].staged
    assert groups["new"].hits <= groups["new"].staged


def test_a_group_that_is_made_anew_knows_nothing_of_the_one_before() -> None:
    world = roomy()
    cold = world.vm(1, 20_000)
    world.attach(place(1))
    before = wander(world, cold)
    world.attach()
    warm = world.vm(2, 20_000)
    world.attach(replace(place(2), generation="another"))
    assert world.driver.status().groups["g"].hits == 0
    assert wander(world, warm) == before


def test_when_it_may_not_act_any_more_everything_is_given_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    world.run(vm, range(320))
    world.attach(place(1, acting=False))
    assert staged(vm) == 0


def test_who_is_only_followed_is_never_stopped(world: World) -> None:
    vm = world.vm(1)
    vm.populate(600, 30)
    world.attach(place(1, acting=False, horizon=1.0))
    world.run(vm, range(320))
    for _ in range(20):
        world.beat(1.0)
    assert vm.stood_seconds == 0.0
    assert staged(vm) == 30


def test_what_waits_in_vain_keeps_nobody_else_waiting(world: World) -> None:
    poor, rich = world.vm(1), world.vm(2)
    world.attach(place(1, horizon=1e5), place(2, "h", horizon=2.0))
    poor.host_bytes = 0
    poor.take(range(40))
    world.beat()
    assert world.driver.status().waiting > 0
    assert world.run(rich, range(320)) > 200
    world.free = 0
    rich.take(range(500, 540))
    world.beat()
    waiting = world.driver.status().waiting
    world.beat(3.0)
    assert world.driver.status().waiting < waiting, "dropped when its time is over, whoever waits before it"


def test_what_was_dropped_is_staged_when_it_is_wanted_again(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    world.free = 0
    world.run(vm, range(100), 32)
    world.beat(2.0)
    world.beat(2.0)
    assert world.driver.status().waiting == 0
    world.free = 1 << 40
    assert world.run(vm, range(100, 300)) > 100


def test_pages_that_a_balloon_took_are_new_when_they_come_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    world.run(vm, range(640))
    vm.leave(range(640))
    for _ in range(5):
        world.beat(0.1)
    assert world.run(vm, range(640)) > 0.9 * 640


def test_a_vm_that_dies_is_forgotten_and_others_go_on(world: World) -> None:
    first, second = world.vm(1), world.vm(2)
    world.attach(place(1), place(2))
    world.run(first, range(50))
    first.die()
    assert world.run(second, range(400)) > 300
    assert world.driver.status().vms == ("vm-2",)
    assert "gone" in world.driver.status().refusals["vm-1"]


def test_who_cannot_be_staged_for_is_named(world: World) -> None:
    world.attach(place(9))
    status = world.driver.status()
    assert status.vms == ()
    assert status.refusals == {"vm-9": "its memory is no shared memfd"}
    world.attach()
    assert world.driver.status().refusals == {}


def test_what_writes_while_it_stands_ends_the_staging_until_it_is_gone(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    world.run(vm, range(50))
    vm.shared = True
    before = staged(vm)
    world.beat(2.0)
    assert world.driver.status().refusals == {"vm-1": "somebody shares its memory"}
    world.attach(place(1, horizon=1.0))
    world.run(vm, range(500, 600))
    assert staged(vm) <= before, "nothing is staged for it any more, whatever is told"
    vm.take(range(1000))
    for _ in range(70):
        world.beat(1.0)
    assert world.driver.status().refusals == {"vm-1": "somebody shares its memory"}, "also with nothing to give back"
    vm.shared = False
    for _ in range(70):
        world.beat(1.0)
    assert staged(vm) == 0
    assert world.driver.status().refusals == {}


def test_everything_is_given_back_at_the_end_and_when_a_group_is_no_longer_shadowed(world: World) -> None:
    first, second = world.vm(1), world.vm(2)
    world.attach(place(1), place(2, group="h"))
    world.run(first, range(100))
    world.run(second, range(100))
    assert staged(first)
    assert staged(second)
    world.attach(place(2, group="h"))
    assert staged(first) == 0
    assert staged(second)
    world.driver.stop()
    assert staged(second) == 0
    assert first.touched(0, 100).all()


ORDER = np.random.default_rng(2).permutation(600)[:300] * BLOCK_PAGES
"""Blocks in an order that cannot be guessed."""


def wander(world: World, vm: SimulatedGuestPages) -> list[bool]:
    """A VM takes those blocks, whole; whether each was populated."""
    found = []
    for page in ORDER.tolist():
        found.append(bool(vm.populated(page, 1)[0]))
        vm.take(range(page, page + BLOCK_PAGES))
        world.beat()
    return found


def roomy() -> World:
    """A host that stages whatever it is worth, and has room for it."""
    return World(staged_bytes=100 * BLOCK_PAGES * PAGE, least_precision=0.0)


def test_another_run_of_a_vm_finds_what_came_then() -> None:
    world = roomy()
    cold = world.vm(1, 20_000)
    world.attach(place(1))
    before = wander(world, cold)
    warm = world.vm(2, 20_000)
    world.attach(Place("vm-1", "2", 2, "g", 5.0))
    assert np.mean(wander(world, warm)) > 0.9 > 0.6 > np.mean(before)


def test_nothing_of_one_group_helps_another() -> None:
    """The same VM in the group that has seen all of it before, and in another: only there it is known."""

    def run(*groups: str) -> list[bool]:
        world = roomy()
        for pid, group in enumerate(groups, start=1):
            vm = world.vm(pid, 20_000)
            world.attach(place(pid, group=group))
            found = wander(world, vm)
        return found

    alone = run("h")
    assert run("g", "h") == run("g", "g", "h") == alone, "as if nobody had ever run before"
    assert sum(run("g", "g")) > sum(alone) + 100


def asked_of(world: World) -> AskedView:
    (view,) = world.driver.status().asked.values()
    return view


def test_what_is_asked_for_is_staged_at_once_kept_and_given_back(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    world.run(vm, range(320))
    wanted = replace(place(1, horizon=1.0), asked=(Asked("a", 200 * PAGE, 10.0),))
    world.attach(wanted)
    world.beat()
    assert asked_of(world).done
    assert asked_of(world).staged >= 200
    assert vm.populated(320, 200).all(), "what it takes next, if it goes on"
    for _ in range(8):
        world.beat(1.0)
    assert vm.populated(320, 200).all(), "kept"
    vm.take(range(320, 420))
    world.beat()
    assert (asked_of(world).touched, asked_of(world).taken) == (100, 100)
    world.attach(place(1, horizon=1.0))
    for _ in range(10):
        world.beat(0.3)
    assert world.driver.status().asked == {}
    assert staged(vm) == 0


def test_what_is_asked_for_waits_for_memory_and_says_why(world: World) -> None:
    world.vm(1)
    world.free = (1 << 30) + 70 * PAGE
    world.attach(replace(place(1), asked=(Asked("a", 200 * PAGE, 10.0),)))
    world.beat()
    assert not asked_of(world).done
    assert asked_of(world).why == NO_MEMORY
    assert 0 < asked_of(world).staged < 200
    world.free = 1 << 40
    world.beat()
    assert asked_of(world).done
    assert asked_of(world).why == ""


def test_what_is_asked_for_pushes_predictions_out_and_not_each_other(world: World) -> None:
    vm = world.vm(1, 4000)
    world.attach(place(1, horizon=60.0))
    world.run(vm, range(640))
    assert staged(vm) > 0
    asked = (Asked("a", AREA_PAGES * PAGE, 100.0), Asked("b", 10 * PAGE, 100.0))
    world.attach(replace(place(1, horizon=60.0), asked=asked))
    for _ in range(50):
        world.beat(0.3)
    views = world.driver.status().asked
    assert views["a"].done
    assert not views["b"].done
    assert views["b"].why == NO_ROOM


def test_nothing_is_staged_that_is_asked_for_where_it_is_not_allowed(world: World) -> None:
    vm = world.vm(1)
    world.attach(replace(place(1, acting=False), asked=(Asked("a", 200 * PAGE, 10.0),)))
    world.beat()
    assert (asked_of(world).done, asked_of(world).staged, asked_of(world).why) == (True, 0, NOT_ALLOWED)
    assert staged(vm) == 0


def test_a_vm_without_so_much_left_gets_what_there_is(world: World) -> None:
    vm = world.vm(1)
    vm.take(range(900))
    world.attach(replace(place(1), asked=(Asked("a", 200 * PAGE, 10.0),)))
    world.beat()
    assert (asked_of(world).done, asked_of(world).staged, asked_of(world).why) == (True, 100, NO_MORE)


def test_it_looks_seldom_when_it_has_used_too_much(world: World) -> None:
    vm = world.vm(1)
    world.attach(place(1))
    calm, tired = world.driver.settings.calm_seconds, world.driver.settings.tired_seconds
    assert world.beat(5.0) == calm
    vm.take(range(100))
    assert world.beat() == world.driver.settings.quick_seconds
    world.cpu += 10.0
    assert world.beat() == tired
    assert world.driver.status().held_back_seconds == tired
    world.now += 10.0 / world.driver.settings.core_ratio_per_ten_vms
    assert world.beat() == calm


def test_a_search_ends_when_what_was_counted_is_not_there(world: World) -> None:
    vm = world.vm(1, 20_000)
    world.attach(place(1))
    vm.resident = lambda: 5_000  # type: ignore[method-assign]
    looks = 0
    real = vm.touched

    def counted(first: int, pages: int) -> object:
        nonlocal looks
        looks += pages
        return real(first, pages)

    vm.touched = counted  # type: ignore[assignment, method-assign]
    for _ in range(200):
        world.beat()
    assert 20_000 <= looks <= 60_000, "once all over, not for ever"


def test_counts_that_go_on_changing_and_are_never_explained_cost_little(world: World) -> None:
    vm = world.vm(1, 20_000)
    world.attach(place(1))
    looks, count, real = 0, 0, vm.touched

    def resident() -> int:  # another memory of the same process grows
        nonlocal count
        count += 100
        return count

    def counted(first: int, pages: int) -> BoolArray:
        nonlocal looks
        looks += pages
        return real(first, pages)

    vm.resident, vm.touched = resident, counted  # type: ignore[method-assign]
    for _ in range(3000):
        world.beat(0.01)
    assert looks < 10 * 20_000, "half a minute: searched everywhere after 1, 2, 4, 8 and 16 seconds"


def test_a_block_that_does_not_fit_waits() -> None:
    world = World(staged_bytes=BLOCK_PAGES * PAGE // 2)
    vm = world.vm(1)
    world.attach(place(1, horizon=1.0))
    vm.take(range(10))
    vm.take([900])
    vm.take(range(40, 50))
    world.beat()
    world.beat(2.0)
    assert world.driver.status().dropped[NO_ROOM] > 0
    assert staged(vm) == 0


class Anything(RuleBasedStateMachine):
    """VMs take, leave, die, come and go in any order: bounds hold, and nothing that a VM has is ever taken from it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(keep_free_bytes=0)
        self.has: dict[int, set[int]] = {}
        self.wanted: dict[int, Place] = {}
        self.runs = 0

    def _some(self, draw: Callable[[int], int]) -> int:
        return sorted(self.has)[draw(len(self.has))]

    @rule(group=st.sampled_from("gh"), acting=st.booleans(), horizon=st.sampled_from((0.1, 1.0, 10.0)))
    @precondition(lambda self: len(self.has) < 4)
    def come(self, group: str, acting: bool, horizon: float) -> None:
        self.runs += 1
        self.world.vm(self.runs, 333)
        self.has[self.runs] = set()
        self.wanted[self.runs] = place(self.runs, group, acting=acting, run=str(self.runs), horizon=horizon)
        self.world.attach(*self.wanted.values())

    @rule(which=st.integers(0, 3), first=st.integers(0, 332), count=st.integers(1, 60))
    @precondition(lambda self: self.has)
    def take(self, which: int, first: int, count: int) -> None:
        pid = sorted(self.has)[which % len(self.has)]
        pages = range(first, min(first + count, 333))
        self.world.vms[pid].take(pages)
        self.has[pid] |= set(pages)

    @rule(which=st.integers(0, 3), first=st.integers(0, 332), count=st.integers(1, 200))
    @precondition(lambda self: self.has)
    def leave(self, which: int, first: int, count: int) -> None:
        pid = sorted(self.has)[which % len(self.has)]
        pages = range(first, min(first + count, 333))
        self.world.vms[pid].leave(pages)
        self.has[pid] -= set(pages)

    @rule(which=st.integers(0, 3), group=st.sampled_from("gh"), acting=st.booleans())
    @precondition(lambda self: self.wanted)
    def change(self, which: int, group: str, acting: bool) -> None:
        pid = sorted(self.wanted)[which % len(self.wanted)]
        self.world.vms[pid].restless = False
        old = self.wanted[pid]
        self.wanted[pid] = place(pid, group, acting=acting, run=old.incarnation, horizon=old.horizon_seconds)
        self.world.attach(*self.wanted.values())

    @rule(which=st.integers(0, 3))
    @precondition(lambda self: self.wanted)
    def let_alone(self, which: int) -> None:
        pid = sorted(self.wanted)[which % len(self.wanted)]
        del self.wanted[pid]
        self.world.vms[pid].restless = False
        self.world.attach(*self.wanted.values())
        assert staged(self.world.vms[pid]) == 0
        del self.has[pid]

    @rule(which=st.integers(0, 3))
    @precondition(lambda self: self.wanted)
    def die(self, which: int) -> None:
        pid = sorted(self.wanted)[which % len(self.wanted)]
        self.world.vms[pid].die()
        del self.wanted[pid], self.has[pid]
        self.world.beat()
        self.world.attach(*self.wanted.values())

    @rule(which=st.integers(0, 3), restless=st.booleans(), host_pages=st.sampled_from((1 << 30, 40, 0)))
    @precondition(lambda self: self.has)
    def trouble(self, which: int, restless: bool, host_pages: int) -> None:
        vm = self.world.vms[sorted(self.has)[which % len(self.has)]]
        vm.restless, vm.host_bytes = restless, host_pages * PAGE

    @rule(seconds=st.sampled_from((0.01, 0.1, 1.0, 20.0)), free=st.sampled_from((1 << 40, 100 * PAGE, 0)))
    def beat(self, seconds: float, free: int) -> None:
        self.world.free = free
        assert self.world.beat(seconds) > 0

    @invariant()
    def nobody_lost_anything(self) -> None:
        for pid, pages in self.has.items():
            assert set(np.flatnonzero(self.world.vms[pid].touched(0, 333)).tolist()) == pages

    @invariant()
    def within_bounds(self) -> None:
        status = self.world.driver.status()
        assert 0 <= status.staged_bytes <= AREA_PAGES * PAGE
        assert sum(group.staged_bytes for group in status.groups.values()) == status.staged_bytes
        assert sum(staged(self.world.vms[pid]) for pid in self.has) <= AREA_PAGES

    @invariant()
    def accounts_balance(self) -> None:
        for group in self.world.driver.status().groups.values():
            assert group.hits + group.returned <= group.staged
            assert group.real_hits <= group.hits
            assert group.wasted <= group.returned

    def teardown(self) -> None:
        for pid in self.has:
            self.world.vms[pid].restless = False
        self.world.driver.stop()
        assert [staged(self.world.vms[pid]) for pid in self.has] == [0] * len(self.has)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40)


def test_errors_are_of_the_tree() -> None:
    with pytest.raises(HypervisorError):
        World().open(1)
