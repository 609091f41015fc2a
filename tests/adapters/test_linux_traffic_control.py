"""Traffic control on devices of a network namespace of our own."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyroute2", reason="pyroute2 is not installed")

from forestall.adapters.linux.namespaces import Namespaces, in_network_namespace
from forestall.adapters.linux.traffic_control import TrafficControl, shaper_of
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.resources import Resource
from forestall.ports.traffic import Taps

RX, TX = Resource.NET_RX, Resource.NET_TX
BOTH_FREE = {RX: math.inf, TX: math.inf}
NAME = f"fs-tc-{os.getpid()}"


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def tc(*words: str) -> str:
    return run("ip", "netns", "exec", NAME, "tc", *words)


def links() -> list[str]:
    return sorted(line.split()[0] for line in run("ip", "-n", NAME, "-brief", "link").splitlines())


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A namespace with two taps."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("needs root, and ip and tc from iproute2")
    try:
        run("ip", "netns", "add", NAME)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr}")
    try:
        for tap in ("tap0", "tap1"):
            run("ip", "-n", NAME, "tuntap", "add", tap, "mode", "tap")
            run("ip", "-n", NAME, "link", "set", tap, "up")
        yield Path(f"/run/netns/{NAME}")
    finally:
        run("ip", "netns", "delete", NAME)


@pytest.fixture
def taps(namespace: Path) -> Taps:
    return Taps(("tap0", "tap1"), namespace, "one")


def test_a_limit_is_set_changed_read_back_and_removed_without_a_trace(taps: Taps) -> None:
    traffic, before = TrafficControl(), (links(), tc("qdisc"))
    assert traffic.refusal(taps) == ""
    assert traffic.limits(taps) == BOTH_FREE
    assert traffic.limit(taps, RX, 1e6) == 1e6
    assert traffic.limits(taps) == {RX: 1e6, TX: math.inf}
    assert traffic.limit(taps, TX, 2e6) == 2e6
    for _ in range(2):
        assert traffic.limit(taps, RX, 250_000.5) == 250_001
        assert traffic.limits(taps) == {RX: 250_001, TX: 2e6}
    assert traffic.refusal(taps) == ""
    assert "bfifo" in tc("qdisc")
    for tap in taps.devices:
        for hook in ("ingress", "egress"):
            assert tc("filter", "show", "dev", tap, hook).count("mirred") == 1
    assert traffic.limit(taps, TX, math.inf) == math.inf
    assert traffic.limits(taps) == {RX: 250_001, TX: math.inf}
    for _ in range(2):
        traffic.limit(taps, RX, math.inf)
    assert (links(), tc("qdisc")) == before


def test_what_is_limited_goes_through_the_queue(taps: Taps) -> None:
    """A packet that leaves a tap is counted by the class of the VM."""
    traffic = TrafficControl()
    traffic.limit(taps, RX, 1e6)
    run("ip", "-n", NAME, "addr", "add", "10.99.0.1/24", "dev", "tap0")
    flood = "import socket; s = socket.socket(2, 2); [s.sendto(bytes(1000), ('10.99.0.255', 9)) for _ in range(5)]"
    flood = flood.replace("; [s", "; s.setsockopt(1, 6, 1); [s")
    run("ip", "netns", "exec", NAME, "python3", "-c", flood)
    sent = tc("-s", "class", "show", "dev", shaper_of(taps, RX)).split("Sent ")[1].split()[0]
    assert int(sent) >= 5 * 1042


def test_two_vms_do_not_touch_each_other(namespace: Path) -> None:
    traffic, one, two = TrafficControl(), Taps(("tap0",), namespace, "one"), Taps(("tap1",), namespace, "two")
    traffic.limit(one, RX, 1e6)
    traffic.limit(two, RX, 2e6)
    traffic.limit(one, RX, math.inf)
    assert traffic.limits(two) == {RX: 2e6, TX: math.inf}
    assert traffic.limits(one) == BOTH_FREE


def test_others_qdiscs_and_filters_are_left_alone(taps: Taps) -> None:
    traffic = TrafficControl()
    tc("qdisc", "replace", "dev", "tap1", "root", "handle", "1:", "htb", "default", "1")
    assert traffic.refusal(taps) == "tap1 has a qdisc htb that somebody else set"
    with pytest.raises(Unsupported, match="somebody else"):
        traffic.limit(taps, RX, 1e6)
    tc("qdisc", "del", "dev", "tap1", "root")
    tc("qdisc", "add", "dev", "tap0", "clsact")
    match = ("u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "tap1")
    tc("filter", "add", "dev", "tap0", "egress", "prio", "5", "protocol", "all", *match)
    assert traffic.refusal(taps) == "tap0 has filters that somebody else set"


def test_a_device_that_is_not_there_is_refused(namespace: Path) -> None:
    assert TrafficControl().refusal(Taps(("tap9",), namespace, "x")) == "there is no device tap9 here"
    with pytest.raises(HypervisorError, match="cannot look into the network namespace"):
        TrafficControl().limits(Taps(("tap0",), Path("/nonexistent/net"), "x"))


def test_what_limited_a_vm_that_is_gone_is_swept_away(taps: Taps) -> None:
    traffic, before = TrafficControl(), links()
    traffic.limit(taps, RX, 1e6)
    traffic.limit(taps, TX, 1e6)
    traffic.sweep(taps.namespace)
    assert traffic.limits(taps) == {RX: 1e6, TX: 1e6}
    for tap in taps.devices:
        run("ip", "-n", NAME, "link", "del", tap)
    traffic.sweep(taps.namespace)
    assert links() == [name for name in before if not name.startswith("tap")]


def test_a_namespace_that_is_held_can_be_entered_under_another_name(namespace: Path) -> None:
    held = Namespaces()
    path = held.kept(namespace)
    assert held.kept(None) is None
    assert held.kept(namespace) == path == held.paths()[0]
    with pytest.raises(HypervisorError, match="cannot look into"):
        held.kept(Path("/nonexistent"))
    assert in_network_namespace(path, lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == namespace.stat().st_ino
    held.close()
    assert held.paths() == ()
