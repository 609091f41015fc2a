"""Where switches and links stand on the map of the network."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forestall.model.mode import Mode
from forestall.service.api.documents import Fabric, FabricInterface, FabricLink, FabricSwitch
from forestall.service.web.fabric_map import WIDTH, Map, drawn


def switch(name: str, connected: bool = True) -> FabricSwitch:
    return FabricSwitch(name=name, id=f"{hash(name) & 0xFFFF:016x}", connected=connected, ports=1, rules=0)


def link(
    name: str, sent: float = 0.0, *, up: bool = True, flapping: bool = False, capacity: float = 100.0
) -> FabricLink:
    return FabricLink(
        name=name, port="p", up=up, flapping=flapping, capacity_bytes_per_s=capacity, sent_bytes_per_s=sent,
        dropped_per_s=0.0, planned_ratio=None, equal_ratio=None,
    )  # fmt: skip


def interface(vm: str, at: str) -> FabricInterface:
    return FabricInterface(
        vm=vm, address=vm, switch=at, port="p", limit_bytes_per_s=0.0, sent_bytes_per_s=0.0, received_bytes_per_s=0.0,
        **{"class": None},
    )  # fmt: skip


def fabric(switches: list[FabricSwitch], links: list[FabricLink], interfaces: list[FabricInterface]) -> Fabric:
    return Fabric(
        mode=Mode.ADVISE, said="", switches=switches, links=links, interfaces=interfaces, pairs=[], changes=0, faults={}
    )


def both(a: str, b: str, there: float = 0.0, back: float = 0.0) -> list[FabricLink]:
    return [link(f"{a}:{b}", there), link(f"{b}:{a}", back)]


def at(found: Map, name: str) -> tuple[float, float]:
    return next((spot.x, spot.y) for spot in found.spots if spot.name == name)


def test_switches_of_vms_stand_below_those_that_join_them() -> None:
    names = ["leaf0", "leaf1", "spine0", "spine1", "core"]
    links = [each for leaf in names[:2] for spine in names[2:4] for each in both(leaf, spine)]
    links += [each for spine in names[2:4] for each in both(spine, "core")]
    found = drawn(fabric([switch(name) for name in names], links, [interface("a", "leaf0"), interface("b", "leaf1")]))
    height = {name: at(found, name)[1] for name in names}
    assert height["leaf0"] == height["leaf1"] > height["spine0"] == height["spine1"] > height["core"]
    assert at(found, "leaf0")[0] < at(found, "leaf1")[0]
    assert {spot.name: spot.vms for spot in found.spots} == dict(zip(names, (1, 1, 0, 0, 0), strict=True))
    assert len(found.lines) == 6, "both directions are one line"
    assert all(0.0 < spot.x < WIDTH and 0.0 < spot.y < found.height for spot in found.spots)


@pytest.mark.parametrize(
    ("links", "level"),
    [
        (both("a", "b", 10.0, 49.0), "calm"),
        (both("a", "b", 10.0, 51.0), "busy"),
        (both("a", "b", 81.0, 10.0), "full"),
        ([link("a:b", 10.0, up=False)], "down"),
        ([link("a:b", 10.0, flapping=True)], "down"),
        ([link("a:b", 10.0, capacity=0.0)], "calm"),
    ],
)
def test_a_line_is_as_the_busier_direction(links: list[FabricLink], level: str) -> None:
    found = drawn(fabric([switch("a"), switch("b")], links, [interface("vm", "a")]))
    assert [line.level for line in found.lines] == [level]


def test_layers_of_many_are_broken_into_rows_and_stay_apart() -> None:
    leaves, spines = [f"leaf{k:02}" for k in range(30)], [f"spine{k}" for k in range(4)]
    links = [each for leaf in leaves for spine in spines for each in both(leaf, spine)]
    found = drawn(
        fabric([switch(name) for name in leaves + spines], links, [interface(f"at-{leaf}", leaf) for leaf in leaves])
    )
    below = {spot.y for spot in found.spots if spot.name.startswith("leaf")}
    above = {spot.y for spot in found.spots if spot.name.startswith("spine")}
    assert (len(below), len(above)) == (3, 1)
    assert max(above) < min(below)
    assert len({(spot.x, spot.y) for spot in found.spots}) == 34


def test_a_network_that_has_no_layers_is_drawn_within_its_frame_and_each_time_alike() -> None:
    names = [f"s{k}" for k in range(30)]
    ring = [each for a, b in pairwise([*names, names[0]]) for each in both(a, b)]
    asked = fabric([switch(name) for name in names], ring, [interface("vm", name) for name in names])
    found = drawn(asked)
    assert found == drawn(asked)
    assert len({(spot.x, spot.y) for spot in found.spots}) == len(names)
    assert all(0.0 <= spot.x <= WIDTH and 0.0 <= spot.y <= found.height for spot in found.spots)


@pytest.mark.parametrize("names", [[], ["alone"], ["a", "b"]])
def test_little_and_odd_networks_are_drawn(names: list[str]) -> None:
    odd = [link("a:nowhere"), link("no-colon"), link("a:b:c")] if "a" in names else []
    found = drawn(fabric([switch(name, connected=False) for name in names], odd, [interface("vm", "gone")]))
    assert [spot.name for spot in found.spots] == names
    assert not any(spot.connected for spot in found.spots)
