"""Our own part of looking at a host: figures of many VMs to one observation, with a libvirt that answers at once.

Run with ``make bench``, or for one size::

    pytest benchmarks/bench_libvirt_sampling.py --benchmark-enable -k 200
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.libvirt.host import LibvirtHost
from forestall.model.resources import Resource

SIZES = (20, 200, 1000)
XML = """<domain type='kvm' id='{n}'><name>vm{n}</name><uuid>{uuid}</uuid><memory unit='KiB'>4194304</memory>
<currentMemory unit='KiB'>2097152</currentMemory><vcpu>4</vcpu><devices>
<disk device='disk'><source file='/a'/><target dev='vda'/></disk>
<disk device='disk'><source file='/b'/><target dev='vdb'/></disk>
<interface type='bridge'><target dev='vnet{n}'/></interface>
<memballoon model='virtio'><stats period='1'/></memballoon></devices></domain>"""


class BenchDomain:
    """A running domain with two disks, an interface and four vCPUs."""

    def __init__(self, number: int, ticks: Iterator[int]) -> None:
        self._number, self._ticks = number, ticks
        self._uuid = f"00000000-0000-0000-0000-{number:012d}"

    def name(self) -> str:
        return f"vm{self._number}"

    def ID(self) -> int:
        return self._number

    def UUIDString(self) -> str:
        return self._uuid

    def XMLDesc(self) -> str:
        return XML.format(n=self._number, uuid=self._uuid)

    def stats(self) -> dict[str, Any]:
        """Everything that QEMU's driver says of such a VM."""
        count = next(self._ticks)
        stats = {"state.state": 1, "state.reason": 1, "cpu.time": count * 10**9, "cpu.user": 1, "cpu.system": 1}
        stats |= {"balloon.current": 2097152, "balloon.usable": 1048576, "balloon.last-update": count}
        stats |= {"vcpu.current": 4, "vcpu.maximum": 4, "net.count": 1, "block.count": 2, "net.0.name": "vnet"}
        stats |= {f"vcpu.{i}.{key}": count for i in range(4) for key in ("state", "time", "wait", "delay")}
        kinds = ("bytes", "pkts", "errs", "drop")
        stats |= {f"net.0.{way}.{kind}": count * 1000 for way in ("rx", "tx") for kind in kinds}
        for i, name in enumerate(("vda", "vdb")):
            stats[f"block.{i}.name"] = name
            stats |= {f"block.{i}.{way}.{k}": count * 4096 for way in ("rd", "wr", "fl") for k in ("bytes", "reqs")}
        return stats


class BenchConnection:
    """A connection to that many of them."""

    def __init__(self, vms: int) -> None:
        ticks = itertools.count()
        self._domains = [BenchDomain(number, ticks) for number in range(1, vms + 1)]

    def getType(self) -> str:
        return "QEMU"

    def isAlive(self) -> bool:
        return True

    def domainEventRegisterAny(self, *_: object) -> int:
        return 0

    def getAllDomainStats(self, groups: int, flags: int) -> list[tuple[BenchDomain, dict[str, Any]]]:
        return [(domain, domain.stats()) for domain in self._domains]


@pytest.mark.parametrize("vms", SIZES)
def test_observe(benchmark, vms: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """One observation of all six resources; the made-up libvirt's own time is in it."""
    connection, clock = BenchConnection(vms), VirtualClock(0.0)
    host = LibvirtHost(
        "qemu:///system",
        clock=clock,
        resources=tuple(Resource),
        opener=lambda uri: connection,
        proc_root=tmp_path,
    )
    host.observe()

    def step() -> None:
        clock.advance(10)
        host.observe()

    benchmark(step)
    assert len(host.observe().vm_ids) == vms
