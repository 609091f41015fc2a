"""A libvirt that is not there: as much of ``virConnect`` and ``virDomain`` as the adapter asks for, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import libvirt

MIB_KIB = 1024
XML = """
<domain type='{kind}' id='{number}'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='KiB'>{max_kib}</memory><currentMemory unit='KiB'>{kib}</currentMemory>
  <vcpu current='{vcpus}'>{max_vcpus}</vcpu>
  <devices>
    <disk device='disk'><source file='/d'/><target dev='vda'/></disk>
    <interface type='bridge'><target dev='vnet0'/></interface>
    <memballoon model='virtio'><stats period='{period}'/></memballoon>
  </devices>
</domain>"""


def refused(code: int, text: str) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    error = libvirt.libvirtError(text)
    error.err = (code, 10, text, 2, text, None, None, -1, -1)
    return error


@dataclass
class FakeDomain:
    """A running domain; its guest follows the balloon ``lag_seconds`` later, and the quota is at once."""

    name_: str
    now: Callable[[], float]
    number: int = 1
    kind: str = "kvm"
    vcpus_: int = 2
    max_vcpus: int = 4
    max_kib: int = 1024 * MIB_KIB
    kib: int = 1024 * MIB_KIB
    lag_seconds: float = 2.0
    period: int = 0
    parameters: dict[str, int] = field(
        default_factory=lambda: (
            {"cpu_shares": 1024}
            | {
                f"{kind}_{what}": value
                for kind in ("global", "vcpu")
                for what, value in (("quota", -1), ("period", 100_000))
            }
        )
    )
    tune: dict[str, Any] = field(default_factory=lambda: {"read_bytes_sec": 0, "write_bytes_sec": 0, "group_name": ""})
    asleep: bool = True
    awake: int = 2
    balloon: list[tuple[float, int]] = field(default_factory=list)

    def name(self) -> str:
        return self.name_

    def ID(self) -> int:
        return self.number

    def UUIDString(self) -> str:
        return f"uuid-{self.name_}"

    def isActive(self) -> bool:
        return True

    def _kib(self) -> int:
        due = [kib for at, kib in self.balloon if at <= self.now()]
        return due[-1] if due else self.kib

    def XMLDesc(self) -> str:
        return XML.format(
            kind=self.kind,
            number=self.number,
            name=self.name_,
            uuid=self.UUIDString(),
            max_kib=self.max_kib,
            kib=self._kib(),
            vcpus=self.vcpus_,
            max_vcpus=self.max_vcpus,
            period=self.period,
        )

    def info(self) -> list[int]:
        return [1, self.max_kib, self._kib(), self.vcpus_, int(self.now() * 1e9)]

    def maxVcpus(self) -> int:
        return self.max_vcpus

    def vcpus(self) -> tuple[list[tuple[int, int, int, int]], list[Any]]:
        first = 2 if self.asleep else self.vcpus_
        return [(i, 1, int(1e9) if i < first else 0, 0) for i in range(self.vcpus_)], []

    def memoryStats(self) -> dict[str, int]:
        return {"actual": self._kib(), "rss": 300 * MIB_KIB}

    def schedulerParameters(self) -> dict[str, int]:
        return dict(self.parameters)

    def schedulerParametersFlags(self, flags: int) -> dict[str, int]:
        return dict(self.parameters)

    def setSchedulerParametersFlags(self, changed: dict[str, int], flags: int) -> int:
        if changed.keys() - self.parameters.keys():
            raise refused(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, f"parameter {sorted(changed)} not supported")
        self.parameters |= changed
        return 0

    def setMemoryFlags(self, kib: int, flags: int) -> int:
        assert flags == libvirt.VIR_DOMAIN_AFFECT_LIVE
        if kib != (self.balloon[-1][1] if self.balloon else self.kib):
            self.balloon.append((self.now() + self.lag_seconds, kib))
        return 0

    def setMemoryStatsPeriod(self, seconds: int, flags: int) -> int:
        self.period = seconds
        return 0

    def setVcpusFlags(self, count: int, flags: int) -> int:
        if flags & libvirt.VIR_DOMAIN_VCPU_GUEST:
            self.awake = count
        else:
            self.vcpus_ = self.awake = count
        return 0

    def agentSetResponseTimeout(self, seconds: int, flags: int = 0) -> int:
        assert seconds > 0, "an agent is not waited for for ever"
        return 0

    def guestVcpus(self) -> dict[str, str]:
        return {"vcpus": f"0-{self.vcpus_ - 1}", "online": f"0-{self.awake - 1}"}

    def blockIoTune(self, disk: str, flags: int) -> dict[str, Any]:
        return dict(self.tune)

    def setBlockIoTune(self, disk: str, values: dict[str, Any], flags: int) -> int:
        self.tune |= values
        if not any(value for key, value in self.tune.items() if key != "group_name"):
            self.tune["group_name"] = ""
        return 0


class FakeConnection:
    """A connection to a made-up host of 8 cores and 16 GiB."""

    def __init__(self, driver: str, domains: list[FakeDomain], *, bulk: bool = True) -> None:
        self._driver, self.domains, self._bulk = driver, domains, bulk
        self.alive = True
        self.callbacks: dict[int, Any] = {}

    def getType(self) -> str:
        return self._driver

    def isAlive(self) -> bool:
        return self.alive

    def close(self) -> int:
        self.alive = False
        return 0

    def domainEventRegisterAny(self, domain: Any, kind: int, callback: Any, context: Any) -> int:
        self.callbacks[kind] = callback
        return kind

    def getInfo(self) -> list[Any]:
        return ["x86_64", 16 * 1024, 8, 2000, 1, 1, 8, 1]

    def getMemoryStats(self, cell: int) -> dict[str, int]:
        raise refused(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported")

    def listAllDomains(self, flags: int) -> list[FakeDomain]:
        return list(self.domains)

    def lookupByName(self, name: str) -> FakeDomain:
        for domain in self.domains:
            if domain.name() == name:
                return domain
        raise refused(libvirt.VIR_ERR_NO_DOMAIN, f"Domain not found: no domain with matching name '{name}'")

    def getAllDomainStats(self, groups: int, flags: int) -> list[tuple[FakeDomain, dict[str, Any]]]:
        if not self._bulk:
            raise refused(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported")
        return [(domain, self._stats(domain)) for domain in self.domains]

    @staticmethod
    def _stats(domain: FakeDomain) -> dict[str, Any]:
        return {
            "state.state": 1,
            "cpu.time": int(domain.now() * 0.5e9),
            "balloon.current": domain._kib(),
            "balloon.usable": domain._kib() // 2,
            "balloon.rss": 1,
            "vcpu.current": domain.vcpus_,
        }
