"""The fabric loop on real switches: a leaf-spine network of Open vSwitch bridges, hosts in namespaces."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabric_process import PORTS, RATE, FabricProcess, acquaint, is_root, probes, talking, told, until_listening

from forestall.lab.commands import missing
from forestall.lab.leaf_spine import PACKAGES, Host, LeafSpine
from forestall.service.api.documents import Fabric, FabricLinkUse, FabricPlan
from forestall.service.web.fabric_map import drawn

pytestmark = [pytest.mark.switches, pytest.mark.slow]
LONGEST_GAP_MS = 200.0
TRIES = 3
LIMIT = 500_000
POLICY = f"""
[[rule]]
name = "slow"
vms = ["vm-00"]
resources = ["net_tx"]
ceiling_bytes_per_s = {LIMIT}
"""
Make = Callable[..., FabricProcess]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes networks with a process that is started; ends all."""
    pytest.importorskip("os_ken", reason="os-ken is not installed")
    if not is_root():
        pytest.skip("network namespaces need root")
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    made: list[FabricProcess] = []

    def network(more: str = "", policy: str = "", rate: int = RATE, **shape: int) -> FabricProcess:
        net = LeafSpine(Path(f"/run/fs-ls{os.getpid()}-{len(made)}"), **shape)
        net.up()
        process = FabricProcess(net, more, policy, rate=rate)
        made.append(process)
        net.listen_to(f"unix:{net.folder}/openflow.sock")
        process.start()
        process.settled()
        return process

    yield network
    for process in made:
        if process.runs:
            process.end(signal.SIGKILL)
        process.network.down()


def across(network: LeafSpine) -> tuple[Host, Host]:
    """Two hosts at different leaves."""
    return network.hosts[0], network.hosts[-1]


def control(network: LeafSpine, seconds: float) -> subprocess.Popen[str]:
    """A conversation that no link matters to: its gaps are those of a busy host."""
    source, target = network.hosts[:2]
    return probes(network, source, target, seconds, many=1)[0]


def cookies(network: LeafSpine, bridge: str) -> dict[str, str]:
    """Flows of a switch without their counters, and their cookies."""
    found = {}
    for line in network.ofctl("dump-flows", bridge).splitlines():
        if match := re.search(r"cookie=(\w+),.*(table=\d+),.*(priority=.*)", line):
            found[f"{match[2]} {match[3]}"] = match[1]
    return found


def goes_on(network: LeafSpine, seconds: float, deed: Callable[[], None]) -> None:
    """Conversations across a network stand no longer than it takes to go around a link, whatever is done meanwhile.

    A busy host stands still by itself at times: then it is done once more.
    """
    gaps: list[dict] = []
    for _ in range(TRIES):
        talks = probes(network, *across(network), seconds)
        beside = control(network, seconds)
        deed()
        gaps = [told(talk) for talk in talks]
        longest = LONGEST_GAP_MS + told(beside)["gap_ms"]
        if all(talk["gap_ms"] < longest and talk["answered"] > 0.9 * talk["asked"] for talk in gaps):
            return
    raise AssertionError(gaps)


def test_a_cut_link_is_gone_around_at_once_and_planned_around_within_two_seconds(make: Make) -> None:
    process = make()
    network = process.network
    for leaf, spine in [("leaf0", "spine0"), ("leaf1", "spine1")]:
        name = f"{leaf}:{spine}"

        def planned(shown: dict, name: str = name, spine: str = spine) -> bool:
            down = [link for link in shown["links"] if link["name"] == name and not link["up"]]
            ways = [way["path"] for pair in shown["pairs"] for way in pair["ways"]]
            crossed = [path for path in ways if spine in path]
            return bool(down) and bool(ways) and not crossed and not process.ask("fabric-plan")["steps"]

        def cut(leaf: str = leaf, spine: str = spine, planned: Callable[[dict], bool] = planned) -> None:
            network.mend(leaf, spine)
            process.settled()
            process.until(lambda shown: len(shown["pairs"]) >= 2)
            time.sleep(1.0)
            cut_at = time.monotonic()
            network.cut(leaf, spine)
            process.until(planned, 2.0)
            assert time.monotonic() - cut_at < 2.0

        goes_on(network, 6.0, cut)
        network.mend(leaf, spine)
        process.settled()


def test_a_dead_controller_stops_nothing_and_touches_nothing_foreign(make: Make) -> None:
    process = make()
    network = process.network
    bridges = (*network.leaves, *network.spines)
    foreign = "table=3,priority=7,udp,tp_dst=9"
    for bridge in bridges:
        network.ofctl("add-flow", bridge, f"cookie=0x77,{foreign},actions=drop")
        network.ofctl("add-group", bridge, "group_id=5,type=all,bucket=output:1")
        network.ofctl("add-meter", bridge, "meter=5,kbps,band=type=drop,rate=1000")
    rules = 0

    def die_and_come_again() -> None:
        nonlocal rules
        process.until(lambda shown: len(shown["pairs"]) >= 2)
        process.settled()
        rules = sum(len(cookies(network, bridge)) for bridge in bridges)
        process.end(signal.SIGKILL)
        network.cut("leaf0", "spine0")  # nobody is there to see it
        time.sleep(1.0)
        network.mend("leaf0", "spine0")
        process.start()
        process.settled()

    goes_on(network, 14.0, die_and_come_again)
    assert process.ask("fabric-plan") == {"steps": [], "queues": []}
    assert process.ask("fabric")["changes"] < rules / 2  # it goes on from what is there
    for bridge in bridges:
        after = cookies(network, bridge)
        assert [cookie for flow, cookie in after.items() if "tp_dst=9" in flow] == ["0x77"]
        assert "group_id=5," in network.ofctl("dump-groups", bridge)
        assert "meter=5 " in network.ofctl("dump-meters", bridge)
    # taken back by order, all that is foreign stays
    process.end()
    config = network.folder / "forestall.toml"
    config.write_text(config.read_text().replace('"enforce"', '"advise"') + 'topology = "topology.json"\n')
    write_topology(network)
    process.start()
    process.until(lambda shown: all(each["connected"] for each in shown["switches"]) and len(shown["switches"]) == 4)
    assert process.ask("fabric-withdraw")["removed"] > 50
    for bridge in bridges:
        assert list(cookies(network, bridge).values()) == ["0x77"]
        assert "group_id=5," in network.ofctl("dump-groups", bridge)
        assert "group_id=40" not in network.ofctl("dump-groups", bridge)


def write_topology(network: LeafSpine) -> None:
    """As an operator would write it."""
    import json

    links = [
        {"source": leaf, "source_port": ends[0], "target": spine, "target_port": ends[1]}
        for leaf in network.leaves
        for spine in network.spines
        for ends in [network.link(leaf, spine)]
    ]
    (network.folder / "topology.json").write_text(json.dumps({"nodes": [], "edges": links}))


def test_switches_that_forget_everything_are_told_again(make: Make) -> None:
    process = make('queues = "auto"')
    network = process.network
    source, target = across(network)
    network.kill_switches()
    network.start_switches()
    process.until(lambda shown: all(each["connected"] and each["rules"] for each in shown["switches"]))
    process.settled()
    acquaint(network, source, target, many=1)
    [talk] = probes(network, source, target, 1.0, many=1)
    answer = told(talk)
    assert answer["answered"] > 0.9 * answer["asked"]


def test_classes_share_a_port_that_is_too_narrow_by_their_guarantees(make: Make) -> None:
    classes = 'queues = "auto"\nlatency_sensitive = ["vm-00"]\ninteractive = ["vm-01"]\nbackground = ["vm-03"]'
    rate = 300_000  # a switch that has to wait for a processor for a third of a second loses nothing yet: 92 packets
    process = make(classes, rate=rate, hosts=4)
    network = process.network
    target = network.hosts[4]
    senders = {"latency-sensitive": 0, "interactive": 1, "bulk": 2, "background": 3}
    process.until(lambda shown: {each["class"] for each in shown["interfaces"]} >= senders.keys() - {"bulk"})
    process.settled()

    def shares() -> dict[str, float]:
        """What each class gets of the port while all want all of it; their marks are looked at, too."""
        ports = {name: next(PORTS) for name in senders}
        sinks = {name: talking(target, "sink", target.ip, port, 10.0) for name, port in ports.items()}
        for name, port in ports.items():
            until_listening(target, port)
            talking(network.hosts[senders[name]], "pour", target.ip, port, 12.0, rate)
        found = {name: told(talk) for name, talk in sinks.items()}
        assert {name: list(talk["dscp"]) for name, talk in found.items()} == MARKS
        return {name: talk["bytes_per_s"] / rate for name, talk in found.items()}

    # while a busy host does not let the switches run, a queue runs dry, and others take its part
    seen = []
    for _ in range(4):
        seen.append(shares())
        if are_as_guaranteed(seen[-1]):
            return
    raise AssertionError(seen)


MARKS = {"latency-sensitive": ["46"], "interactive": ["18"], "bulk": ["0"], "background": ["1"]}
GUARANTEES = {"latency-sensitive": 0.30, "interactive": 0.40, "bulk": 0.25, "background": 0.05}


def are_as_guaranteed(shares: dict[str, float]) -> bool:
    """Whether each class gets what it is guaranteed, and all together the port."""
    each = (0.9 * least <= shares[name] <= 1.1 * least + 0.01 for name, least in GUARANTEES.items())
    return all(each) and 0.9 <= sum(shares.values()) <= 1.01


def test_a_link_that_comes_and_goes_is_left_out_until_it_is_steady(make: Make) -> None:
    process = make()
    network = process.network
    source, target = across(network)
    acquaint(network, source, target)
    talks = probes(network, source, target, 8.0)
    beside = control(network, 8.0)
    for _ in range(4):
        network.cut("leaf0", "spine1")
        process.until(lambda shown: not up(shown, "leaf0:spine1"))
        network.mend("leaf0", "spine1")
        time.sleep(0.3)
    shown = process.until(lambda shown: flapping(shown, "leaf0:spine1"))
    assert not up(shown, "leaf0:spine1")
    gaps = [told(talk) for talk in talks]
    assert max(talk["gap_ms"] for talk in gaps) < LONGEST_GAP_MS + told(beside)["gap_ms"], gaps
    assert "comes and goes" in process.ask("fabric-explain", link="leaf0:spine1")["why"] or flapping(
        process.ask("fabric"), "leaf0:spine1"
    )
    process.until(lambda shown: up(shown, "leaf0:spine1"))
    process.settled()


def up(shown: dict, name: str) -> bool:
    """Whether a link is used."""
    return any(link["up"] for link in shown["links"] if link["name"] == name)


def flapping(shown: dict, name: str) -> bool:
    """Whether a link is said to come and go."""
    return any(link["flapping"] for link in shown["links"] if link["name"] == name)


def test_who_sends_under_the_address_of_another_is_not_heard(make: Make) -> None:
    process = make()
    network = process.network
    source, target = across(network)
    liar = network.hosts[1]
    ip = ["ip", "-n", liar.namespace]
    from forestall.lab.commands import run

    run([*ip, "link", "set", "eth0", "address", source.mac])
    [talk] = probes(network, liar, target, 1.0, many=1)
    assert told(talk)["answered"] == 0
    run([*ip, "link", "set", "eth0", "address", liar.mac])
    [talk] = probes(network, liar, target, 1.0, many=1)
    assert told(talk)["answered"] > 0


def test_a_vm_is_held_to_what_policy_says(make: Make) -> None:
    process = make('limits = "auto"', policy=POLICY)
    network = process.network
    source, target = across(network)
    process.until(
        lambda shown: next(each["limit_bytes_per_s"] for each in shown["interfaces"] if each["vm"] == source.name)
    )
    process.settled()
    heights = {spot.name: spot.y for spot in drawn(Fabric(**process.ask("fabric"))).spots}
    assert heights["leaf0"] == heights["leaf1"] > heights["spine0"] == heights["spine1"], "as it is drawn on the page"
    sink = talking(target, "sink", target.ip, 9_100, 8.0)
    until_listening(target, 9_100)
    talking(source, "pour", target.ip, 9_100, 9.0, RATE)
    assert 0.85 <= told(sink)["bytes_per_s"] / LIMIT <= 1.15
    for made, told_by_it in (
        (Fabric, process.ask("fabric")),
        (FabricPlan, process.ask("fabric-plan")),
        (FabricLinkUse, process.ask("fabric-explain", link="leaf0:spine0")),
    ):
        assert made(**told_by_it).model_dump(mode="json") == told_by_it, "the API tells all that there is, and as it is"
