"""Trees of a made-up host: everything that ``forestall doctor`` looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forestall.adapters.host_facts.facts import ClockFacts, HostFacts
from forestall.adapters.host_facts.reader import FactReader
from forestall.adapters.host_facts.roots import Roots

QEMU = 4711
V2_GROUP = "machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator"
V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "blkio")
VM = """
<domain type='kvm'><name>web</name>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <devices><memory model='virtio-mem'><target/></memory></devices>
</domain>
"""
BARE_VM = "<domain type='qemu'><name>db</name><devices/></domain>"


class Domain:
    """A running VM, as libvirt gives it."""

    def __init__(self, name: str, xml: str, statistics: dict[str, int]) -> None:
        self._name, self._xml, self._statistics = name, xml, statistics

    def name(self) -> str:
        return self._name

    def XMLDesc(self, flags: int) -> str:
        return self._xml

    def memoryStats(self) -> dict[str, int]:
        return self._statistics


class Connection:
    """A libvirt connection with these VMs."""

    def __init__(self, *domains: Domain) -> None:
        self._domains, self.closed = list(domains), False

    def getLibVersion(self) -> int:
        return 10_002_003

    def listAllDomains(self, flags: int) -> list[Domain]:
        assert flags == 1
        return self._domains

    def close(self) -> None:
        self.closed = True


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def good_host(root: Path) -> Path:
    """Debian with KVM, cgroup v2, one VM, libvirt, Open vSwitch, systemd and DAMON."""
    put(root / "proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
    put(root / "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx sse\n")
    put(root / "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    put(root / "proc/locks")
    put(root / "proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0\n")
    put(root / f"proc/{QEMU}/comm", "qemu-system-x86\n")
    put(root / f"proc/{QEMU}/cgroup", f"0::/{V2_GROUP}\n")
    put(root / "sys/fs/cgroup" / V2_GROUP / "cgroup.controllers", "cpuset cpu io memory pids\n")
    put(root / "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
    for name, value in (("cpu.weight", "100\n"), ("cpu.idle", "0\n")):
        put(root / "sys/fs/cgroup/system.slice" / name, value)
    put(root / "etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    put(root / "dev/kvm")
    put(root / "usr/sbin/libvirtd")
    put(root / "run/openvswitch/db.sock")
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "sys/kernel/mm/damon/admin").mkdir(parents=True)
    (root / "state").mkdir()
    return root


def facts(root: Path, configuration_problem: str = "", **changes: Any) -> HostFacts:
    """Read a made-up host as ``ann``, who may do what the modes of the files allow to their owner."""
    given: dict[str, Any] = {
        "connect": lambda uri: Connection(Domain("web", VM, {"actual": 1, "usable": 1})),
        "traffic_trial": lambda: "",
        "kernel_clock": lambda: ClockFacts(True, 0.002),
        "has_module": lambda name: True,
        "user": lambda: "root",
        "may_access": lambda path, mode: path.exists() and not str(path).endswith("closed"),
        "system": "Linux",
    }
    reader = FactReader(Roots.below(root), **given | changes)
    return reader.read("qemu:///system", root / "state", configuration_problem)
