"""Rules, and changes of rules, on switches that are computed: every packet arrives, whatever is being changed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.fabric.changes import steps
from forestall.fabric.numbers import Numbered, Numbers
from forestall.fabric.pairs import PairPlanner
from forestall.fabric.planner import PlannerSettings
from forestall.fabric.rules import Admission, Intent, RuleWriter, Ways
from forestall.fabric.wiring import Wiring
from forestall.model.errors import FabricError
from forestall.ports.fabric import Cable, Interface, Place
from forestall.testing.fabric import SimulatedFabric

LEAVES, SPINES, HOSTS = 3, 2, 2
EVERYBODY = "ff:ff:ff:ff:ff:ff"


def cables() -> list[Cable]:
    """Leaves 1 to 3, spines 11 and 12."""
    return [
        Cable(Place(1 + leaf, 1 + spine), Place(11 + spine, 1 + leaf))
        for leaf, spine in product(range(LEAVES), range(SPINES))
    ]


def interfaces() -> list[Interface]:
    """Two hosts at each leaf."""
    return [
        Interface(f"52:54:00:00:{leaf:02x}:{host:02x}", f"vm-{leaf}{host}", Place(1 + leaf, 10 + host))
        for leaf, host in product(range(LEAVES), range(HOSTS))
    ]


CABLES, INTERFACES = cables(), interfaces()
ACROSS = [(a, b) for a, b in permutations(INTERFACES, 2) if a.place.switch != b.place.switch]


def intent_of(up: list[Cable], pair_ways: Mapping[tuple[str, str], int] | None = None, **more: object) -> Intent:
    """All shortest ways; some pairs through one spine alone, or both in unequal parts."""
    wiring = Wiring.of({place.switch for cable in CABLES for place in cable}, up)
    planner = PairPlanner(PlannerSettings())
    planner.rewire(wiring, dict.fromkeys(wiring.port, 1e6))
    leaves = range(1, 1 + LEAVES)
    ways = planner.equal_ways(set(permutations(leaves, 2)))
    at = {each.address: each.place.switch for each in INTERFACES}
    chosen: dict[tuple[str, str], Ways] = {}
    for pair, choice in (pair_ways or {}).items():
        routes = [route for route, _ in ways.get((at[pair[0]], at[pair[1]]), ())]
        if routes:
            one = routes[choice % len(routes)]
            rest = [route for route in routes if route != one]
            chosen[pair] = ((one, 1.0),) if choice < 2 or not rest else ((one, 0.75), (rest[0], 0.25))
    return Intent(wiring, tuple(INTERFACES), ways, chosen, **more)  # type: ignore[arg-type]


def delivered(fabric: SimulatedFabric, source: Interface, target: Interface) -> bool:
    """Whether a packet arrives, as it was sent and where it should, whatever groups choose."""
    outcomes = fabric.sent(source, target.address)
    return bool(outcomes) and all(
        [(a.place, a.packet.eth_dst) for a in arrivals] == [(target.place, target.address)] for arrivals in outcomes
    )


def told(intent: Intent, numbers: Numbers | None = None) -> SimulatedFabric:
    """Switches that do as an intent wants."""
    fabric = SimulatedFabric(CABLES, INTERFACES)
    for step in steps({}, RuleWriter(numbers or Numbers()).rules(intent)):
        fabric.change(step)
    return fabric


def test_everybody_is_reached_and_what_is_for_all_comes_to_all_once() -> None:
    fabric = told(intent_of(CABLES, {(a.address, b.address): k % 4 for k, (a, b) in enumerate(ACROSS)}))
    assert all(delivered(fabric, a, b) for a, b in permutations(INTERFACES, 2))
    for source in INTERFACES:
        [arrivals] = fabric.sent(source, EVERYBODY)
        assert sorted(a.place for a in arrivals) == sorted(i.place for i in INTERFACES if i != source)


def test_nobody_is_heard_under_the_address_of_another_or_with_a_label_of_its_own() -> None:
    fabric = told(intent_of(CABLES))
    liar, other, target = INTERFACES[0], INTERFACES[1], INTERFACES[-1]
    assert fabric.sent(liar, target.address, eth_src=other.address) == [[]]
    assert all(
        fabric.sent(liar, f"0e:00:00:{path:02x}:00:{host:02x}") == [[]] for path in range(1, 20) for host in (1, 6)
    )


@pytest.mark.parametrize("cut", CABLES)
def test_switches_go_around_any_link_by_themselves(cut: Cable) -> None:
    pairs = {(a.address, b.address): k % 4 for k, (a, b) in enumerate(ACROSS)}
    fabric = told(intent_of(CABLES, pairs))
    fabric.down = {cut}
    assert all(delivered(fabric, a, b) for a, b in permutations(INTERFACES, 2))


def test_a_guest_that_speaks_as_a_switch_is_not_heard() -> None:
    ports = {switch: [1, 2, 3] for switch in (1, 2, 3)}
    fabric = told(intent_of(CABLES, listened=ports))
    assert fabric.sent(INTERFACES[0], "01:80:c2:00:00:0e", eth_type=0x88CC) == [[]]


def is_acyclic(fabric: SimulatedFabric) -> bool:
    """Whether what is for everybody can go round in circles, whoever sent it."""
    try:
        for cable in fabric.cables:
            for place in cable:
                fabric.arriving(place, EVERYBODY)
    except FabricError:
        return False
    return True


def connected(up: list[Cable]) -> set[int]:
    """Leaves that lead to each other, all of them."""
    spines = [{cable.one.switch for cable in up if cable.other.switch == spine} for spine in (11, 12)]
    whole = set(range(1, 1 + LEAVES))
    return whole if any(spine >= whole for spine in spines) else set()


links = st.sets(st.sampled_from(CABLES), max_size=2).map(lambda down: [c for c in CABLES if c not in down])
choices = st.dictionaries(st.sampled_from([(a.address, b.address) for a, b in ACROSS]), st.integers(0, 3), max_size=8)


@given(before=links.filter(connected), after=links.filter(connected), old=choices, new=choices, order=st.randoms())
@settings(max_examples=25)
def test_while_rules_are_changed_every_packet_arrives(before, after, old, new, order) -> None:
    numbers = Numbers()
    first = RuleWriter(numbers).rules(intent_of(before, old))
    fabric = SimulatedFabric(CABLES, INTERFACES)
    for step in steps({}, first):
        fabric.change(step)
    fabric.down = {c for c in CABLES if c not in before and c not in after}
    assert is_acyclic(fabric)
    second = RuleWriter(numbers).rules(intent_of(after, new))
    probe = order.sample(ACROSS, 4)
    for step in steps(first, second):
        # within a step each switch does its changes in order, but the switches are as quick as they like
        queues = {switch: list(changes) for switch, changes in step.items()}
        while queues:
            switch = order.choice(sorted(queues))
            fabric.do(switch, queues[switch].pop(0))
            if not queues[switch]:
                del queues[switch]
            assert is_acyclic(fabric)
            source, target = order.choice(probe)
            assert delivered(fabric, source, target)
    assert fabric.told == second
    assert not any(steps(fabric.told, second))


@given(ups=st.lists(links, min_size=2, max_size=5), old=choices)
@settings(max_examples=25)
def test_what_is_kept_from_networks_of_before_changes_no_rule(ups, old) -> None:
    numbers = Numbers()
    writer = RuleWriter(numbers)
    for up in ups:
        rules = writer.rules(intent_of(up, old))
        assert rules == RuleWriter(Numbers(numbers.known())).rules(intent_of(up, old))


def test_classes_are_marked_by_vm_and_limits_are_meters() -> None:
    server = INTERFACES[0]
    admission = {server.address: Admission(18, 1e6)}
    rules = RuleWriter(Numbers()).rules(intent_of(CABLES, admission=admission))[server.place.switch]
    [meter] = rules.meters.values()
    assert (meter.kilobits_per_s, meter.burst_kilobits) == (8_000, 8_000)
    of_server = [flow for flow in rules.flows.values() if ("eth_src", server.address) in flow.match and not flow.table]
    assert {flow.meter for flow in of_server} == {meter.number}
    fabric = told(intent_of(CABLES, admission=admission))
    [[arrival], *_] = fabric.sent(server, INTERFACES[-1].address)
    assert arrival.packet.ip_dscp == 18


def test_numbers_stay_and_are_not_given_away_at_once() -> None:
    numbers = Numbers({"path": {"a": 3, "b": 3, "c": 0}, "nonsense": {"x": 1}})
    assert numbers.of(Numbered.PATH, "a") == 3
    assert numbers.of(Numbered.PATH, "b") == 4
    numbers.keep(Numbered.PATH, {"a"})
    assert numbers.of(Numbered.PATH, "d") == 5
    assert Numbers(numbers.known()).of(Numbered.PATH, "d") == 5
