"""A small data centre's network on this machine: switches of Open vSwitch, each leaf connected with each spine, and
hosts that are network namespaces.

Everything is in a folder and in namespaces of its own: nothing of the machine's network is touched, nor an Open vSwitch
that may run there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forestall.lab.commands import found, run
from forestall.lab.leftovers import end
from forestall.model.errors import HypervisorError, WrongUse

PACKAGES = {"ovs-vswitchd": "openvswitch-switch", "ovs-vsctl": "openvswitch-switch", "ethtool": "ethtool"}
"""Package of Debian for each command that it needs."""
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
MOST, ADDRESSES = 16, 8
RECONNECT_MS = 1_000
DAEMONS = ("ovs-vswitchd", "ovsdb-server")


@dataclass(frozen=True)
class Host:
    """A host: what takes a VM's place. Its interface is ``eth0`` in a namespace of its own.

    It has several addresses: switches spread TCP over ways by ports too, all else by addresses alone.
    """

    name: str
    namespace: str
    leaf: str
    port: str
    mac: str
    ips: tuple[str, ...]

    @property
    def ip(self) -> str:
        """Its first address."""
        return self.ips[0]

    def inside(self, *command: str | Path) -> list[str]:
        """A command, so that it runs there."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]


class LeafSpine:
    """The network.

    Parameters
    ----------
    folder
        Of its own; made, and removed at the end.
    leaves, spines, hosts
        How many; hosts at each leaf.
    namespace
        That the switches are in; None: one of its own.
    """

    def __init__(
        self, folder: Path, leaves: int = 2, spines: int = 2, hosts: int = 2, namespace: str | None = None
    ) -> None:
        if not (0 < leaves <= MOST and 0 < spines <= MOST and 0 <= hosts <= MOST):
            raise WrongUse(f"there may be up to {MOST} of each")
        self.folder, self._own = folder, namespace is None
        self.namespace = namespace or f"{folder.name}-ovs"
        self.leaves = tuple(f"leaf{k}" for k in range(leaves))
        self.spines = tuple(f"spine{k}" for k in range(spines))
        self.hosts = tuple(
            Host(
                name=f"vm-{k}{h}",
                namespace=f"{folder.name}-{k}{h}",
                leaf=leaf,
                port=f"h{k}-{h}",
                mac=f"52:54:00:99:{k:02x}:{h:02x}",
                ips=tuple(f"10.99.{k}.{h + 1 + MOST * n}" for n in range(ADDRESSES)),
            )
            for k, leaf in enumerate(self.leaves)
            for h in range(hosts)
        )

    @property
    def database(self) -> str:
        """Where its database listens."""
        return f"unix:{self.folder}/db.sock"

    @property
    def namespace_path(self) -> Path:
        """The namespace that the switches are in, as a path."""
        return Path("/run/netns") / self.namespace

    def link(self, leaf: str, spine: str) -> tuple[str, str]:
        """Names of the two ends of the link between a leaf and a spine, the leaf's first."""
        return f"{leaf}-{spine}"[:15], f"{spine}-{leaf}"[:15]

    def up(self) -> None:
        """Make everything.

        Raises
        ------
        HypervisorError
            That failed; what was made is removed again.
        """
        try:
            self.folder.mkdir(parents=True)
            if self._own:
                run(["ip", "netns", "add", self.namespace])
                run(["ip", "-n", self.namespace, "link", "set", "lo", "up"])
            self._start_database()
            self.start_switches()
            for number, name in enumerate((*self.leaves, *self.spines), start=1):
                self.vsctl(
                    "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", "protocols=OpenFlow13",
                    "fail_mode=secure", f"other-config:datapath-id={number:016x}",
                )  # fmt: skip
            for leaf in self.leaves:
                for spine in self.spines:
                    self._connect(leaf, spine)
            for host in self.hosts:
                self._add(host)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Remove everything, however much of it there is."""
        for daemon in DAEMONS:
            with suppress(OSError, ValueError):
                end([int((self.folder / f"{daemon}.pid").read_text())])
        present = {line.split(" ")[0] for line in run(["ip", "netns", "list"]).splitlines()}
        for namespace in (*(host.namespace for host in self.hosts), *[self.namespace] * self._own):
            if namespace in present:
                run(["ip", "netns", "delete", namespace])
        if not self._own and self.namespace in present:
            for leaf in self.leaves:
                for spine in self.spines:
                    with suppress(HypervisorError):
                        run(["ip", "-n", self.namespace, "link", "delete", self.link(leaf, spine)[0]])
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> LeafSpine:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def listen_to(self, controller: str) -> None:
        """Let all switches be told by a controller, as ``unix:PATH`` or ``tcp:ADDRESS:PORT``."""
        for bridge in (*self.leaves, *self.spines):
            self.vsctl("set-controller", bridge, controller, "--",
                       "set", "controller", bridge, f"max_backoff={RECONNECT_MS}")  # fmt: skip

    def cut(self, leaf: str, spine: str) -> None:
        """Let the link between a leaf and a spine die, at the spine's end."""
        self._set(self.link(leaf, spine)[1], "down")

    def mend(self, leaf: str, spine: str) -> None:
        """Let it live again."""
        self._set(self.link(leaf, spine)[1], "up")

    def attach(self, leaf: str, device: str, mac: str, vm_id: str) -> None:
        """Connect a device of the switches' namespace, as the tap of a VM, to a leaf."""
        self.vsctl(
            "add-port", leaf, device, "--", "set", "interface", device,
            f'external_ids:attached-mac="{mac}"', f'external_ids:vm-id="{vm_id}"',
        )  # fmt: skip

    def vsctl(self, *words: str) -> str:
        """Run ovs-vsctl(8) on its database."""
        return self.run("ovs-vsctl", f"--db={self.database}", *words)

    def ofctl(self, command: str, bridge: str, *words: str) -> str:
        """Run ovs-ofctl(8) on a switch."""
        return self.run("ovs-ofctl", "-O", "OpenFlow13", command, bridge, *words)

    def run(self, *command: str) -> str:
        """Run a command where the switches are."""
        folders = [f"{name}={self.folder}" for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")]
        return run(["env", *folders, "ip", "netns", "exec", self.namespace, found(command[0]) or "", *command[1:]])

    def start_switches(self) -> None:
        """Start the process that forwards."""
        self.run("ovs-vswitchd", self.database, "--pidfile", "--detach", "--log-file")

    def kill_switches(self) -> None:
        """Kill it, at once: nothing is forwarded, and all that it was told is forgotten."""
        with suppress(OSError, ValueError):
            pid = int((self.folder / "ovs-vswitchd.pid").read_text())
            os.kill(pid, signal.SIGKILL)
            end([pid])

    def _start_database(self) -> None:
        conf = str(self.folder / "conf.db")
        self.run("ovsdb-tool", "create", conf, str(SCHEMA))
        remote = f"--remote=p{self.database}"
        self.run("ovsdb-server", conf, remote, "--pidfile", "--detach", "--log-file")
        self.vsctl("--no-wait", "init")

    def _connect(self, leaf: str, spine: str) -> None:
        ends = self.link(leaf, spine)
        run(["ip", "-n", self.namespace, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]])
        for device, bridge in zip(ends, (leaf, spine), strict=True):
            self._set(device, "up")
            self.vsctl("add-port", bridge, device)

    def _add(self, host: Host) -> None:
        outside, inside = ["ip", "-n", self.namespace], ["ip", "-n", host.namespace]
        run(["ip", "netns", "add", host.namespace])
        run([*outside, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace])
        self._set(host.port, "up")
        run([*inside, "link", "set", "lo", "up"])
        run([*inside, "link", "set", "eth0", "address", host.mac, "up"])
        for ip in host.ips:
            run([*inside, "addr", "add", f"{ip}/16", "dev", "eth0"])
        # checksums that are left to a card which is not there never arrive right
        run(host.inside(found("ethtool") or "ethtool", "-K", "eth0", "tx", "off"))
        self.attach(host.leaf, host.port, host.mac, host.name)

    def _set(self, device: str, state: str) -> None:
        run(["ip", "-n", self.namespace, "link", "set", device, state])


def started(host: Host, *command: str | Path) -> subprocess.Popen[str]:
    """Start a command on a host; what it prints can be read from it."""
    return subprocess.Popen(host.inside(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def heard(talk: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What commands printed, when all have ended."""
    return [each.communicate()[0] for each in talk]
