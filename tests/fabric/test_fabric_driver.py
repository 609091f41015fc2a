"""The loop over the network, on switches that are computed, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from test_fabric_rules import CABLES, INTERFACES, delivered

from forestall.fabric.classes import TrafficClass
from forestall.fabric.driver import FabricDriver
from forestall.fabric.laying import DESTINATION
from forestall.fabric.limits import Claim
from forestall.fabric.planner import PlannerSettings
from forestall.fabric.rules import pair_of
from forestall.fabric.settings import FabricSettings
from forestall.fabric.sight import AWAY_SECONDS, Sight
from forestall.model.errors import StoreError, WrongUse
from forestall.model.switching import Operation, Rules
from forestall.ports.fabric import Cable, FlowCount, Interface, Place, PortCount
from forestall.testing.fabric import MemoryBook, SimulatedFabric

DAY, NOON = 86_400, 1_800_000_000 // 86_400 * 86_400 + 43_200
RATE = 1e6


class Loop:
    """A driver with everything around it."""

    def __init__(self, fabric: SimulatedFabric | None = None, book: MemoryBook | None = None, **settings) -> None:
        self.fabric = fabric or SimulatedFabric(CABLES, INTERFACES)
        self.book = book or MemoryBook()
        self.notes: list[str] = []
        self.logged: list[int] = []
        self.claims: dict[str, Claim] = {}
        self.at = 1_000.0
        self.settings = FabricSettings(
            **{"link_bytes_per_s": RATE, "queues": False, "planner": PlannerSettings.of(10.0, whole=True), **settings}
        )
        self.driver = self.made()

    def made(self, **more) -> FabricDriver:
        """A driver, as one that is started anew."""
        return FabricDriver(
            self.fabric,
            self.settings,
            self.book,
            lambda: self.at,
            lambda: NOON + self.at,
            lambda seconds: None,
            lambda peaks, at: self.logged.append(at),
            lambda vm_ids: self.claims,
            self.notes.append,
            **more,
        )

    def send(self, seconds: float, rates: dict[tuple[int, int], float]) -> None:
        """Let time pass in which interfaces send each other so much: counters grow."""
        self.at += seconds
        for (a, b), rate in rates.items():
            source, target = INTERFACES[a], INTERFACES[b]
            self._count(source.place, int(rate * seconds), 0)
            self._count(target.place, 0, int(rate * seconds))
            switch = source.place.switch
            for flow in self.fabric.told[switch].flows.values():
                if flow.table == DESTINATION and pair_of(flow.match) == (source.address, target.address):
                    before = self.fabric.counts.get((switch, flow), FlowCount(0, 0))
                    self.fabric.counts[switch, flow] = FlowCount(0, before.bytes + int(rate * seconds))

    def _count(self, place: Place, received: int, sent: int) -> None:
        before = self.fabric.ports.get(place, PortCount(0, 0, 0, 0, 0))
        self.fabric.ports[place] = before._replace(
            received_bytes=before.received_bytes + received, sent_bytes=before.sent_bytes + sent
        )


def all_reached(fabric: SimulatedFabric) -> bool:
    return all(delivered(fabric, a, b) for a, b in permutations(INTERFACES, 2))


def test_a_second_look_tells_nothing() -> None:
    loop = Loop(queues=True)
    assert len(loop.driver.look()) > 100
    told = loop.fabric.changes
    assert len(loop.driver.look()) == 0
    assert loop.fabric.changes == told
    assert all_reached(loop.fabric)


def test_a_loop_that_is_started_anew_goes_on_from_what_switches_do() -> None:
    loop = Loop()
    for _ in range(4):
        loop.send(10.0, {(0, 2): 0.6 * RATE, (1, 3): 0.6 * RATE})
        loop.driver.beat()
    assert loop.driver.state.pair_ways
    told, ways = loop.fabric.changes, loop.driver.state.pair_ways
    loop.fabric.away = set(loop.fabric.told)  # nobody is connected yet
    loop.driver = loop.made()
    loop.driver.look()
    loop.fabric.away = {1, 11}  # they come back one by one
    loop.driver.look()
    loop.fabric.away = set()
    loop.driver.look()
    assert loop.fabric.changes == told
    assert loop.driver.state.pair_ways == ways


def test_a_switch_that_has_forgotten_is_told_again_and_one_that_is_away_is_left_alone() -> None:
    loop = Loop()
    loop.driver.look()
    before = loop.fabric.told[1]
    loop.fabric.forget(1)
    loop.driver.look()
    assert loop.fabric.told[1] == before
    loop.fabric.away = {1}
    loop.at += 10 * AWAY_SECONDS  # a leaf with VMs is not given up
    assert len(loop.driver.look()) == 0
    loop.fabric.away = {11}
    assert len(loop.driver.look()) == 0
    loop.at += AWAY_SECONDS  # a spine is
    assert len(loop.driver.look()) > 0
    assert any("no longer counted on" in note for note in loop.notes)
    assert all_reached(loop.fabric)


def test_a_refusal_is_told_once_and_tried_again() -> None:
    loop = Loop()
    loop.fabric.refuses = lambda change: change.operation is Operation.ADD and hasattr(change.rule, "buckets")
    loop.driver.look()
    loop.driver.look()
    assert len([note for note in loop.notes if "refused" in note]) == 1
    assert loop.driver.restless
    loop.fabric.refuses = lambda change: False
    loop.driver.look()
    loop.driver.look()
    assert all_reached(loop.fabric)
    assert loop.driver.faults == {}


def test_a_link_that_dies_once_is_used_again_and_one_that_comes_and_goes_is_not_for_a_while() -> None:
    loop = Loop()
    loop.driver.look()
    cable = CABLES[0]
    ends = cable.one.switch, cable.other.switch
    for times in range(3):
        loop.fabric.down = {cable}
        loop.driver.look()
        assert ends not in loop.driver.state.wiring.port
        loop.at += 1.0
        loop.fabric.down = set()
        loop.driver.look()
        assert (ends in loop.driver.state.wiring.port) == (times < 2)
        loop.at += 1.0
    assert any("comes and goes" in note for note in loop.notes)
    loop.at += 60.0
    loop.driver.look()
    assert ends in loop.driver.state.wiring.port
    assert any("is steady again" in note for note in loop.notes)


def test_pairs_that_would_share_a_link_are_put_on_different_ones() -> None:
    loop = Loop()
    loop.driver.look()
    for _ in range(6):
        loop.send(10.0, {(0, 2): 0.6 * RATE, (1, 3): 0.6 * RATE})
        loop.driver.beat()
    one, other = (
        loop.driver.state.pair_ways[INTERFACES[a].address, INTERFACES[b].address] for a, b in [(0, 2), (1, 3)]
    )
    assert [share for _, share in (*one, *other)] == [1.0, 1.0]
    assert one[0][0] != other[0][0]
    assert loop.driver.state.traffic.counted >= {(INTERFACES[0].address, INTERFACES[2].address)}
    quiet = loop.fabric.changes
    for _ in range(3):
        loop.send(10.0, {(0, 2): 0.6 * RATE, (1, 3): 0.6 * RATE})
        loop.driver.beat()
    assert loop.fabric.changes == quiet  # steady traffic changes nothing


def test_what_a_vm_may_send_follows_from_policy_and_is_steady() -> None:
    loop = Loop(limits=True)
    loop.claims = {"vm-00": Claim(TrafficClass.BACKGROUND, ceiling_bytes_per_s=1e5)}
    loop.driver.beat()
    loop.driver.beat()
    address = INTERFACES[0].address
    assert loop.driver.state.limits == {address: 1e5}
    meters = loop.fabric.told[1].meters
    assert [meter.kilobits_per_s for meter in meters.values()] == [800]


def test_nothing_is_told_in_advise() -> None:
    loop = Loop()
    loop.driver = loop.made(acts=False)
    assert len(loop.driver.look()) > 100
    assert loop.fabric.changes == 0
    loop.driver.carry_out(loop.driver.plan())  # by order of an operator
    assert all_reached(loop.fabric)
    assert loop.driver.withdraw() > 100
    assert all(not len(rules) for rules in loop.fabric.told.values())


def test_a_link_that_nobody_hears_any_more_is_not_used_though_its_ports_are_up() -> None:
    loop = Loop()
    loop.driver.look()
    cable = CABLES[0]
    loop.fabric.cables = tuple(c for c in loop.fabric.cables if c != cable)
    loop.driver.look()
    assert (cable.one.switch, cable.other.switch) not in loop.driver.state.wiring.port
    assert all_reached(loop.fabric)


def test_who_uses_a_link_is_explained() -> None:
    from forestall.fabric.views import explain, show, show_plan

    loop = Loop()
    plan = show_plan(loop.driver, loop.driver.look())
    assert {change["step"] for change in plan["steps"]} == {"prepare", "switch over", "finish"}
    for _ in range(3):
        loop.send(10.0, {(0, 2): 0.6 * RATE})
        loop.driver.beat()
    shown = show(loop.driver)
    assert len(shown["links"]) == 2 * len(CABLES)
    used = {way["path"][1] for pair in shown["pairs"] if pair["source"] == "vm-00" for way in pair["ways"]}
    found = explain(loop.driver, f"s1:{sorted(used)[0]}")
    assert [user["source"] for user in found["users"]] == ["vm-00"]
    assert found["why"]
    with pytest.raises(WrongUse, match="no link"):
        explain(loop.driver, "s1:s2")


def test_after_a_step_that_failed_none_is_taken_that_builds_on_it() -> None:
    loop = Loop()
    loop.driver.look()
    loop.fabric.down = {CABLES[0]}
    loop.fabric.refuses = lambda change: change.operation is Operation.ADD and hasattr(change.rule, "match")
    loop.driver.look()
    assert loop.driver.faults
    assert all_reached(loop.fabric)  # switches go around the link by themselves, as before


def test_nothing_is_sent_through_a_switch_that_is_away_and_was_not_told_of_it() -> None:
    late = INTERFACES[-2:]
    loop = Loop(SimulatedFabric(CABLES, INTERFACES[:-2]))
    loop.driver.look()
    loop.fabric.away = {11}
    loop.fabric.interfaces = tuple(INTERFACES)
    loop.fabric.add_ports(late)
    loop.driver.look()
    assert all(delivered(loop.fabric, a, b) for a, b in permutations(INTERFACES, 2) if {a, b} & set(late))
    assert loop.driver.faults == {}
    loop.fabric.away = set()
    loop.driver.look()
    assert len(loop.driver.look()) == 0


def test_of_two_with_one_address_who_had_it_first_keeps_it() -> None:
    loop = Loop()
    loop.driver.look()
    victim = INTERFACES[3]
    thief = Interface(victim.address, "aaa", Place(1, 11))
    loop.fabric.interfaces = tuple(sorted([*(i for i in INTERFACES if i.place != thief.place), thief]))
    loop.driver.look()
    assert delivered(loop.fabric, INTERFACES[0], victim)
    assert any("have it" in what for what in loop.driver.faults.values())
    loop.fabric.interfaces = tuple(INTERFACES)
    loop.driver.look()
    assert loop.driver.faults == {}


def test_queues_are_set_again_where_they_were_lost_and_taken_away_where_none_should_be() -> None:
    loop = Loop(queues=True)
    loop.driver.look()
    wanted = dict(loop.fabric.queues())
    lost = next(iter(wanted))
    loop.fabric.set_queues(lost, None)
    loop.driver.beat()
    assert loop.fabric.queues() == wanted
    told = loop.fabric.queue_changes
    loop.driver = loop.made()
    loop.driver.look()
    assert loop.fabric.queue_changes == told  # those that are there stay as they are
    loop.settings = replace(loop.settings, queues=False)
    loop.driver = loop.made()
    loop.driver.look()
    assert loop.fabric.queues() == {}


def test_a_switch_that_was_made_to_forget_is_found_out() -> None:
    loop = Loop()
    loop.driver.look()
    loop.fabric.told[1] = Rules()  # ovs-ofctl del-flows
    for _ in loop.fabric.told:
        loop.driver.beat()
    assert all_reached(loop.fabric)
    assert any("told again" in note for note in loop.notes)


def test_a_state_that_cannot_be_written_stops_nothing() -> None:
    loop = Loop()

    def fail(remembered: object) -> None:
        raise StoreError("no space left")

    loop.book.save = fail  # type: ignore[method-assign]
    loop.driver.look()
    assert all_reached(loop.fabric)
    assert "no space left" in loop.driver.faults["state"]


def test_counters_that_were_there_before_us_are_no_traffic() -> None:
    loop = Loop()
    for _ in range(3):
        loop.send(10.0, {(0, 2): 0.5 * RATE})
        loop.driver.beat()
    assert loop.driver.state.pair_ways
    loop.fabric.away = {1}
    loop.driver = loop.made()
    loop.at += 10.0
    loop.driver.beat()  # nothing is heard of the switch yet
    loop.fabric.away = set()
    loop.send(10.0, {(0, 2): 0.5 * RATE})
    loop.driver.beat()
    assert max(loop.driver.state.traffic.pairs.values(), default=0.0) < RATE


def test_a_cable_that_was_moved_is_forgotten() -> None:
    sight = Sight({}, (), 0.0, lambda line: None)
    fabric = SimulatedFabric(CABLES, INTERFACES)
    sight.see(fabric.view(), 0.0)
    moved = Cable(CABLES[0].one, Place(12, 9))
    fabric.cables = (*(c for c in CABLES if c != CABLES[0]), moved)
    fabric.add_ports([Interface("", "", Place(12, 9))])
    view, _ = sight.see(fabric.view(), 1.0)
    fabric.away = {11}
    view, wiring = sight.see(fabric.view(), 2.0)
    assert CABLES[0] not in view.cables
    assert wiring.port.get((1, 11)) is None
