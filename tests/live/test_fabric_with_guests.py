"""The fabric loop with a real guest: its tap is a port of a leaf, and what it sends is marked as what runs in it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fabric_process import PORTS, FabricProcess, talking, told, until_listening
from live_daemon import SETTINGS, Daemon

from forestall.lab.commands import missing, run
from forestall.lab.leaf_spine import PACKAGES, LeafSpine
from forestall.lab.plan import Pace, chosen
from forestall.lab.site import Lab

pytestmark = [pytest.mark.guests, pytest.mark.switches, pytest.mark.slow]
GUEST = "redis"
OURS = "10.77.{number}.50"
SPEAK = """
import socket, sys, time
for _ in range(20):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.05)
"""


@pytest.fixture
def guest_lab(guests: Lab) -> Iterator[Lab]:
    """A guest that serves, and those that visit it."""
    pytest.importorskip("os_ken", reason="os-ken is not installed")
    pytest.importorskip("nfstream", reason="nfstream is not installed")
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    folder = Path(f"/run/fs-tap-{os.getpid()}")
    with Lab(folder, name=folder.name) as lab:
        lab.up((GUEST,), pace=Pace(day_seconds=1e6))
        lab.wait(150.0)
        yield lab


def test_what_a_guest_sends_is_marked_as_what_is_recognised_in_it(guest_lab: Lab, tmp_path: Path) -> None:
    [plan] = chosen((GUEST,))
    vm_id = guest_lab.domain(GUEST)
    daemon = Daemon(guest_lab, tmp_path, settings=SETTINGS)
    daemon.start("observe")
    network = LeafSpine(Path(f"/run/fs-tap-ls{os.getpid()}"), hosts=1, namespace=guest_lab.place.namespace)
    process = None
    try:
        network.up()
        network.attach("leaf0", plan.tap, plan.mac, vm_id)
        host = network.hosts[-1]
        ours = OURS.format(number=plan.number)
        run(["ip", "-n", host.namespace, "addr", "add", f"{ours}/24", "dev", "eth0"])
        process = FabricProcess(network, state=daemon.state)
        network.listen_to(f"unix:{network.folder}/openflow.sock")
        process.start()
        process.settled()

        def seen() -> dict[str, int]:
            """DSCP of datagrams that the guest sends to a host behind the network."""
            port = next(PORTS)
            sink = talking(host, "sink", ours, port, 10.0)
            until_listening(host, port)
            guest_lab.link(GUEST).ask({"run": ["python3", "-c", SPEAK, ours, str(port)]}, 60)
            found: dict[str, int] = told(sink)["dscp"]
            return found

        assert seen().keys() == {"0"}
        daemon.until(lambda: recognised(daemon, vm_id) == "cache", "what runs in the guest")
        process.until(lambda shown: "latency-sensitive" in {each["class"] for each in shown["interfaces"]})
        process.settled()
        assert seen().keys() == {"46"}
    finally:
        if process is not None and process.runs:
            process.end(signal.SIGKILL)
        network.down()
        if daemon.runs:
            daemon.end()


def recognised(daemon: Daemon, vm_id: str) -> str:
    """What is recognised in a VM, if it is nearly sure."""
    rows = daemon.ask("applications") or []
    print(json.dumps(rows))
    return next((row["application"] for row in rows if row["vm_id"] == vm_id and row["probability"] >= 0.8), "")
