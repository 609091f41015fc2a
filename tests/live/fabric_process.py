"""A process of the fabric loop on switches of its own, started, asked and ended by tests."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.lab import talk
from forestall.lab.leaf_spine import Host, LeafSpine, heard, started
from forestall.service.control import ask

PATIENCE_SECONDS = 60.0
TALK = Path(talk.__file__)
RATE = 2_500_000
PORTS = itertools.count(7_000)
SETTINGS = """\
mode = "enforce"
state_folder = "{state}"
policies = "policy.toml"

[fabric]
listen = "punix:{folder}/openflow.sock"
databases = ["{database}"]
step_seconds = 1.0
link_bytes_per_s = {rate}
{more}
"""


class FabricProcess:
    """``forestall fabric run`` on a network."""

    def __init__(
        self, network: LeafSpine, more: str = "", policy: str = "", state: Path | None = None, rate: int = RATE
    ) -> None:
        self.network = network
        state = state or network.folder / "state"
        self.folder = state / "fabric"
        self.log = network.folder / "fabric.log"
        self._config = network.folder / "forestall.toml"
        self._config.write_text(
            SETTINGS.format(folder=network.folder, state=state, database=network.database, rate=rate, more=more)
        )
        (network.folder / "policy.toml").write_text(policy)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        command = ["fabric", "run", "--config", self._config, "--namespace", self.network.namespace_path]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "forestall", *command], stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE_SECONDS)
        self._process = None
        return code

    @property
    def runs(self) -> bool:
        """Whether it was started, and not ended."""
        return self._process is not None

    def ask(self, command: str, **more: Any) -> Any:
        """Ask it."""
        return ask(self.folder, {"command": command, **more})

    def until(self, holds: Callable[[dict[str, Any]], bool], patience_seconds: float = PATIENCE_SECONDS) -> dict:
        """Wait until something holds of what it shows."""
        ends_at = time.monotonic() + patience_seconds
        shown: dict[str, Any] = {}
        while time.monotonic() < ends_at:
            if self.folder.exists() and (shown := self.ask("fabric") or {}) and holds(shown):
                return shown
            time.sleep(0.02)
        raise AssertionError(f"it does not come to that: {json.dumps(shown, indent=1)}\n{self.log.read_text()}")

    def settled(self) -> dict[str, Any]:
        """Wait until all links are up and nothing is left to be done."""
        links = 2 * len(self.network.leaves) * len(self.network.spines)

        def is_settled(shown: dict[str, Any]) -> bool:
            up = [link for link in shown["links"] if link["up"]]
            connected = all(each["connected"] for each in shown["switches"])
            if len(up) != links or not connected or shown["faults"]:
                return False
            plan = self.ask("fabric-plan")
            return not plan["steps"] and not plan["queues"]

        return self.until(is_settled)


def talking(host: Host, mode: str, address: str, port: int, seconds: float, *more: float) -> subprocess.Popen[str]:
    """Traffic of a host, as :mod:`forestall.lab.talk` has it."""
    return started(host, sys.executable, TALK, mode, address, str(port), str(seconds), *map(str, more))


def told(talk: subprocess.Popen[str]) -> dict[str, Any]:
    """What it said at its end."""
    found: dict[str, Any] = json.loads(heard([talk])[0])
    return found


def probes(network: LeafSpine, source: Host, target: Host, seconds: float, many: int = 8) -> list:
    """Several conversations between two hosts, which take different ways; their servers are started first."""
    port = next(PORTS)  # servers of the conversations before this one may still be there
    for ip in target.ips[:many]:
        talking(target, "echo", ip, port, seconds + 2.0)
    until_listening(target, port, many)
    return [talking(source, "probe", ip, port, seconds, 10.0) for ip in target.ips[:many]]


def acquaint(network: LeafSpine, source: Host, target: Host, many: int = 8) -> None:
    """Let two hosts know each other's addresses: who asks for one and is not heard asks again after a second only."""
    for each in probes(network, source, target, 2.0, many):
        told(each)


def until_listening(host: Host, port: int, many: int = 1) -> None:
    """Wait until so many sockets for datagrams are open on a host at a port."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends_at:
        listing = subprocess.run(host.inside("cat", "/proc/net/udp"), capture_output=True, text=True, check=True)
        if listing.stdout.count(f":{port:04X} 00000000:0000") >= many:
            return
        time.sleep(0.02)
    raise AssertionError("nobody listens")


def is_root() -> bool:
    """Whether namespaces can be made."""
    return os.geteuid() == 0
