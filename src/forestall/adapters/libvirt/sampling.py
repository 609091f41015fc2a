"""Counters of every VM, read in bulk: ``virConnectGetAllDomainStats``, and one by one what a driver leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import libvirt

from forestall.adapters.libvirt.connection import Connection, Handle
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.libvirt.guest_memory import GuestMemory
from forestall.adapters.libvirt.rates import Counter, Reading
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.resources import Resource

Stats = dict[str, Any]
_QUICK = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_INTERFACE
_SLOW = libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_VCPU | libvirt.VIR_DOMAIN_STATS_BLOCK
_FLAGS = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    # A VM that is busy with a long job (a migration, a backup) is left out rather than waited for.
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
)
_BLOCK = {Resource.DISK_READ: "rd", Resource.DISK_WRITE: "wr"}
_NET = {Resource.NET_RX: "rx", Resource.NET_TX: "tx"}
_COMPLETE = "QEMU"
"""The driver whose bulk figures leave nothing out; what is missing there would have to be waited for."""
_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_NOSTATE)


def run_name(domain: Handle) -> str:
    """What tells one run of a domain from the next, as far as libvirt knows; needs no round trip."""
    return f"{domain.UUIDString()}/{domain.ID()}"


class Sampler:
    """Reads all VMs at once.

    The time of a VM's process and its taps are had without asking QEMU, so they are read in a call of their own,
    with a sharp instant; memory, vCPUs and disks need an answer of each QEMU's monitor, which takes 4 ms on an idle
    host and, measured, 4.5 s when a guest boots: the rates of disks are over the time between those answers.

    Parameters
    ----------
    monotonic
        Clock that never goes back, seconds.
    limits
        Limits of a VM from its figures; called with the domain.
    """

    def __init__(
        self,
        connection: Connection,
        monotonic: Callable[[], float],
        limits: Callable[[Handle, Stats], Mapping[Resource, float]],
    ) -> None:
        self._connection, self._monotonic, self._limits = connection, monotonic, limits
        self._memory = GuestMemory()
        self._bulk = True

    def read(self) -> dict[str, Reading]:
        """Every running VM, by name."""
        quick, quick_at = self._ask(_QUICK)
        slow, slow_at = self._ask(_SLOW)
        readings = {}
        for vm_id, (domain, stats) in quick.items():
            _, more = slow.get(vm_id, (domain, {}))
            readings[vm_id] = self._reading(vm_id, domain, stats, quick_at, more, slow_at)
        return readings

    def forget(self, vm_id: str) -> None:
        """A VM is gone."""
        self._memory.forget(vm_id)

    def _ask(self, groups: int) -> tuple[dict[str, tuple[Handle, Stats]], float]:
        """Figures of every VM, and the instant in the middle of the call."""
        started = self._monotonic()
        pairs = self._ask_bulk(groups) if self._bulk else None
        if pairs is None:
            pairs = [(domain, {}) for domain in self._listed()]
        figures = {domain.name(): (domain, stats) for domain, stats in pairs if domain.ID() > 0}
        return figures, (started + self._monotonic()) / 2

    def _ask_bulk(self, groups: int) -> Sequence[tuple[Handle, Stats]] | None:
        handle = self._connection.handle()
        try:
            with translated("cannot read the figures of the VMs"):
                return list(handle.getAllDomainStats(groups, _FLAGS))
        except Unsupported:
            self._bulk = False
            return None

    def _listed(self) -> Iterable[Handle]:
        with translated("cannot list the VMs"):
            return list(self._connection.handle().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))

    def _reading(
        self, vm_id: str, domain: Handle, quick: Stats, quick_at: float, slow: Stats, slow_at: float
    ) -> Reading:
        if self._connection.driver != _COMPLETE:
            _complete(domain, quick, slow)
        counters = {Resource.CPU: _cpu(quick, quick_at)}
        counters |= {r: _devices(quick, "net", key, quick_at) for r, key in _NET.items()}
        counters |= {r: _devices(slow, "block", key, slow_at) for r, key in _BLOCK.items()}
        run = run_name(domain)
        return Reading(
            run=run,
            counting=quick.get("state.state", libvirt.VIR_DOMAIN_RUNNING) in _RUNNING,
            counters=counters,
            memory_bytes=self._memory.used_bytes(vm_id, run, slow, slow_at),
            limit=self._limits(domain, slow),
        )


def _cpu(stats: Stats, at: float) -> Mapping[str, Counter]:
    return {"": Counter(stats["cpu.time"] / 1e9, at)} if "cpu.time" in stats else {}


def _devices(stats: Stats, kind: str, key: str, at: float) -> Mapping[str, Counter]:
    counters = {}
    for i in range(stats.get(f"{kind}.count", 0)):
        if (value := stats.get(f"{kind}.{i}.{key}.bytes")) is not None:
            counters[str(stats.get(f"{kind}.{i}.name", i))] = Counter(float(value), at)
    return counters


def _complete(domain: Handle, quick: Stats, slow: Stats) -> None:
    """Ask a domain by itself for what the bulk call of its driver leaves out; what it does not know stays out."""
    try:
        with translated("cannot ask a VM"):
            state, max_kib, current_kib, vcpus, cpu_ns = domain.info()
    except HypervisorError:
        return
    quick.setdefault("state.state", state)
    quick.setdefault("cpu.time", cpu_ns)
    slow.setdefault("vcpu.current", vcpus)
    slow.setdefault("balloon.maximum", max_kib)
    if "balloon.current" in slow:
        return
    slow["balloon.current"] = current_kib
    try:
        with translated("cannot ask a VM for its memory"):
            said = domain.memoryStats()
    except HypervisorError:
        return
    slow.update({f"balloon.{key}": said[key] for key in ("usable", "rss") if key in said})
