"""A virtualisation host under libvirt."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from forestall.adapters.libvirt.actuation import Actuation
from forestall.adapters.libvirt.actuator import Actuator, Vm
from forestall.adapters.libvirt.balloon import STATS_PERIOD_SECONDS, set_stats_period
from forestall.adapters.libvirt.connection import Connection, Handle, NotRunning
from forestall.adapters.libvirt.cpu import Cpu
from forestall.adapters.libvirt.domain import Domain, parse_domain
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.libvirt.events import EventQueue
from forestall.adapters.libvirt.held_back import HeldBack
from forestall.adapters.libvirt.host_totals import host_totals
from forestall.adapters.libvirt.iotune import Iotune
from forestall.adapters.libvirt.lead_times import LeadTimes
from forestall.adapters.libvirt.memory import Memory
from forestall.adapters.libvirt.network import Network, tap_names
from forestall.adapters.libvirt.roster import Roster
from forestall.adapters.libvirt.runs import Runs
from forestall.adapters.libvirt.sampling import Sampler, Stats, run_name
from forestall.adapters.linux.cgroups import ControlGroups
from forestall.adapters.linux.namespaces import Namespaces
from forestall.adapters.linux.proc import Processes
from forestall.guest.ports import PORT_NAME
from forestall.model.decision import Action, Outcome
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.model.samples import Observation
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Capability, EventKind, Inventory, VmEvent, VmProcess, VmSettings
from forestall.ports.traffic import Taps

_log = logging.getLogger(__name__)
GUEST_PORT_XML = f"<channel type='unix'><source mode='bind'/><target type='virtio' name='{PORT_NAME}'/></channel>"
_RUNS_ANEW = (EventKind.STARTED, EventKind.STOPPED, EventKind.MIGRATED, EventKind.DEVICE)


class LibvirtHost:
    """A :class:`~forestall.ports.hypervisor.Hypervisor` over libvirt-python.

    Connects when it is first needed and again after contact was lost. Changes only what runs
    (``VIR_DOMAIN_AFFECT_LIVE``), never a stored definition. Not safe to use from several threads.

    Parameters
    ----------
    uri
        As libvirt takes it: ``qemu:///system``.
    clock
        Tells when something was seen.
    resources
        What is observed: axis 1 of an observation's arrays.
    cpu
        Whether CPU quotas may be moved.
    cpu_shares
        Whether shares follow the quota: a VM that is given a part of its vCPUs keeps that part of its own shares.
    hotplug
        Whether vCPUs may be added, up to the VM's maximum.
    hotplug_emulated
        Whether also to a VM that QEMU emulates, which crashes it if it has worked for some minutes. For trials.
    memory
        ``auto`` (virtio-mem where the VM has it, else the balloon), ``balloon``, ``virtio-mem`` or ``off``.
    disk, network
        Whether disks and interfaces may be throttled.
    cgroup_root, proc_root
        Where the kernel shows control groups and processes.
    reserved
        What is kept back for the host itself, by resource, in its unit.
    allocation_ratio
        How much may be promised for each unit there is, by resource.
    patience_seconds
        How long a guest has to follow.
    lead_times
        How long each means took before; None: nothing is known.
    opener
        What opens a URI.
    """

    def __init__(
        self,
        uri: str,
        *,
        clock: Clock,
        resources: tuple[Resource, ...] = (Resource.CPU, Resource.MEMORY),
        cpu: bool = True,
        cpu_shares: bool = False,
        hotplug: bool = False,
        hotplug_emulated: bool = False,
        memory: str = "auto",
        disk: bool = False,
        network: bool = False,
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        proc_root: Path = Path("/proc"),
        reserved: Mapping[Resource, float] | None = None,
        allocation_ratio: Mapping[Resource, float] | None = None,
        patience_seconds: float = 30.0,
        lead_times: LeadTimes | None = None,
        opener: Callable[[str], Handle] = libvirt.open,
    ) -> None:
        self._clock, self._resources = clock, resources
        self._reserved, self._allocation_ratio = dict(reserved or {}), dict(allocation_ratio or {})
        self._events = EventQueue(clock.now, self._heard)
        self._connection = Connection(uri, opened=self._events.register, opener=opener)
        here = self._connection.is_local
        processes = Processes(proc_root)
        self._processes, self._runs = processes, Runs(processes if here else None)
        self._groups = ControlGroups(cgroup_root)
        self._held_back = HeldBack(processes, self._groups, clock.monotonic)
        self._cpu, self._memory = (
            Cpu(hotplug=hotplug, emulated=hotplug_emulated, shares=cpu_shares),
            Memory("auto" if memory == "off" else memory),
        )
        self._network, self._network_namespaces = Network(is_local=here), Namespaces()
        enabled = (cpu, memory != "off", disk, network)
        actuators: tuple[Actuator, ...] = (self._cpu, self._memory, Iotune(), self._network)
        off = {r for actuator, on in zip(actuators, enabled, strict=True) if not on for r in actuator.resources}
        self._actuation = Actuation(actuators, off, clock.monotonic, patience_seconds, lead_times or LeadTimes())
        self._sampler = Sampler(self._connection, clock.monotonic, self._limits)
        self._roster = Roster(resources)
        self._described: dict[str, Domain] = {}
        self._stats_periods: dict[str, int] = {}
        self._running: Mapping[str, str] = {}

    # --- what there is

    def vm_ids(self) -> tuple[str, ...]:
        """VMs that run now, in the order in which they were started."""
        return tuple(domain.name() for domain in self._active())

    def resources(self) -> tuple[Resource, ...]:
        """What is observed."""
        return self._resources

    def capabilities(self, vm_id: str) -> Mapping[Resource, Capability]:
        """What can be moved on a VM, in which steps, how fast, and why not."""
        vm = self._vm(vm_id)
        return {resource: self._actuation.capability(vm, resource) for resource in self._resources}

    def inventory(self) -> Mapping[Resource, Inventory]:
        """Cores and memory of the host."""
        totals = host_totals(self._connection.handle())
        return {
            r: Inventory(total, min(self._reserved.get(r, 0.0), total), self._allocation_ratio.get(r, 1.0))
            for r, total in totals.items()
        }

    # --- what is seen

    def observe(self) -> Observation:
        """Demand since the last call, and limits. A VM has no demand in the first observation that it is in."""
        readings = self._sampler.read()
        at = self._clock.now()
        running = {vm_id: reading.run for vm_id, reading in readings.items()}
        for vm_id in [vm_id for vm_id, run in self._running.items() if running.get(vm_id) != run]:
            self._forget(vm_id)
        self._running = running
        self._look_behind(running)
        return self._roster.observe(readings, at)

    def throttled(self) -> Mapping[str, float]:
        """For each VM, the share of the last interval in which its quota held it back; NaN if not known.

        A VM that was held back wanted more than its demand shows.
        """
        return self._held_back.shares()

    def guest_addresses(self) -> Mapping[str, str]:
        """For each VM that was observed last and has a port for our agent, the host's end of it."""
        described = ((vm_id, self._described.get(run)) for vm_id, run in self._running.items())
        return {vm_id: domain.guest_socket for vm_id, domain in described if domain is not None and domain.guest_socket}

    def taps(self) -> Mapping[str, Taps]:
        """Taps of each VM that was observed last and whose process is on this machine."""
        processes = self._runs.processes(self._running.values()) if self._connection.is_local else {}
        found = {}
        for vm_id, run in self._running.items():
            domain, process = self._described.get(run), processes.get(run)
            if domain is None or process is None or not (devices := tap_names(domain)):
                continue
            with suppress(HypervisorError):  # it is gone
                namespace = self._network_namespaces.kept(self._processes.network_namespace(process))
                if self._processes.is_of_vm(process, domain.uuid):  # and not another by now
                    found[vm_id] = Taps(devices, namespace, domain.uuid)
        self._network_namespaces.let_go({mine.namespace for mine in found.values()})
        return found

    def processes(self) -> Mapping[str, VmProcess]:
        """Process of each VM that was observed last and runs on this machine."""
        found = self._runs.processes(self._running.values()) if self._connection.is_local else {}
        pids = {vm_id: found.get(run) for vm_id, run in self._running.items()}
        return {
            vm_id: VmProcess(pid, f"{self._running[vm_id]}/{self._processes.birth(pid)}")
            for vm_id, pid in pids.items()
            if pid is not None
        }

    def add_guest_port(self, vm_id: str) -> bool:
        """Give a running VM a port for our agent, now and in its definition; False if it has one."""
        vm = self._vm(vm_id)
        if vm.domain.guest_socket:
            return False
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if vm.handle.isPersistent() else 0)
        with translated(f"{vm_id}: cannot add a port for the agent"):
            vm.handle.attachDeviceFlags(GUEST_PORT_XML, flags)
        self._described.clear()
        return True

    def in_force(self, vm_id: str) -> Mapping[Resource, float]:
        """What a VM has now."""
        return self._actuation.in_force(self._vm(vm_id), self._resources)

    def events(self) -> list[VmEvent]:
        """What happened since the last call. The first call begins to listen."""
        self._connection.handle()
        return self._events.take()

    def lead_seconds(self) -> Mapping[str, float]:
        """Median time, measured, of each means that was used."""
        return self._actuation.lead_times.measured()

    # --- what is done

    def apply(self, actions: Sequence[Action]) -> list[Outcome]:
        """Carry out actions one after the other; what gives back should stand before what takes.

        A slow move is pending until :meth:`follow_up` tells how it ended.
        """
        if not actions:
            return []
        promises = self._actuation.promises(self.inventory(), self._active)
        return [self._actuation.carry_out(action, self._vm, self._resources, promises) for action in actions]

    def follow_up(self) -> list[Outcome]:
        """Slow moves that have ended since the last call: done, or failed because the guest did not follow in time.

        Asked once a cycle, so here the times that were measured since are kept.
        """
        ended = self._actuation.pending.ended(self._vm)
        self._actuation.lead_times.keep()
        return ended

    def settings(self, vm_id: str) -> VmSettings:
        """How a VM is set now, whatever of it may be moved."""
        vm = self._vm(vm_id)
        values = self._actuation.settings(vm)
        if self._runs_on_lent_cores(vm):
            values.pop("cpu", None)  # how its CPU is set now is not how it was
        if (period := self._stats_periods.get(run_name(vm.handle))) is not None:
            values["memory"]["stats_period_seconds"] = period
        return VmSettings(vm_id, self._runs.incarnation(vm.handle), values)

    def _runs_on_lent_cores(self, vm: Vm) -> bool:
        """Whether somebody has put the VM behind all others: the burst loop, which keeps how its CPU was itself."""
        process = self._runs.process(vm.handle)
        return process is not None and self._groups.is_idle(self._processes.control_groups(process))

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Set a VM as it was, also what may not be moved now; nothing for one that is gone or was started anew."""
        try:
            vm = self._vm(settings.vm_id)
        except NotRunning:
            self._network.gone(settings.vm_id, settings.values.get("network"))
            return []
        if not self._runs.is_incarnation(vm.handle, settings.incarnation):
            return []
        outcomes = self._actuation.put_back(vm, settings.values)
        # Guests that are observed further on are asked for statistics again with the next observation.
        self._stats_periods.pop(run_name(vm.handle), None)
        self._described.pop(run_name(vm.handle), None)
        return outcomes

    def close(self) -> None:
        """Let go of the host; what is in force stays in force. Guests are no longer asked for statistics."""
        try:
            for domain in self._active() if self._stats_periods else ():
                if (period := self._stats_periods.get(run_name(domain))) is not None:
                    set_stats_period(domain, period)
        except HypervisorError as error:
            _log.info("%s", error)
        self._stats_periods.clear()
        self._actuation.lead_times.keep()
        self._network.close()
        self._network_namespaces.close()
        self._connection.close()

    # --- inside

    def _active(self) -> list[Handle]:
        handle = self._connection.handle()
        with translated("cannot list the VMs"):
            domains = handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            return sorted((d for d in domains if d.ID() > 0), key=lambda domain: int(domain.ID()))

    def _vm(self, vm_id: str) -> Vm:
        """A VM as it is now."""
        handle = self._connection.domain(vm_id)
        with translated(f"cannot read the description of {vm_id!r}"):
            domain = parse_domain(handle.XMLDesc())
        process = self._runs.process(handle)
        namespace = None if process is None else self._processes.network_namespace(process)
        return Vm(handle, domain, self._connection.driver, process, namespace)

    def _limits(self, handle: Handle, stats: Stats) -> Mapping[Resource, float]:
        """Limits of a VM from its figures and its description, which is read once for each run and after changes."""
        run = run_name(handle)
        if run not in self._described:
            self._describe(handle, run)
        domain = self._described.get(run)
        limits = dict.fromkeys(self._resources, math.inf) | {Resource.CPU: math.nan, Resource.MEMORY: math.nan}
        if domain is not None:
            vcpus = int(stats.get("vcpu.current", domain.vcpus))
            limits[Resource.CPU] = self._cpu.limit(vcpus, domain, self._connection.driver)
            limits[Resource.MEMORY] = self._memory.limit(domain)
        return {r: limit for r, limit in limits.items() if not math.isnan(limit)}

    def _describe(self, handle: Handle, run: str) -> None:
        try:
            with translated(f"cannot read the description of {handle.name()!r}"):
                domain = parse_domain(handle.XMLDesc())
        except HypervisorError as error:
            _log.info("%s", error)
            return
        self._described[run] = domain
        self._ask_for_statistics(handle, domain, run)

    def _ask_for_statistics(self, handle: Handle, domain: Domain, run: str) -> None:
        """Have the guest report its memory; what was set before is remembered as the VM's own setting."""
        if not domain.has_balloon or domain.stats_period_seconds > 0 or run in self._stats_periods:
            return
        self._stats_periods[run] = domain.stats_period_seconds
        try:
            set_stats_period(handle, STATS_PERIOD_SECONDS)
        except HypervisorError as error:
            _log.warning("%s", error)

    def _look_behind(self, run: Mapping[str, str]) -> None:
        """Look at the processes of the VMs, and forget runs that are over."""
        process = self._runs.processes(run.values())
        self._held_back.look({vm_id: process[name] for vm_id, name in run.items()})
        current = set(run.values())
        self._runs.keep(current)
        remembered: tuple[dict[str, Any], ...] = (self._described, self._stats_periods)
        for by_run in remembered:
            for name in set(by_run) - current:
                by_run.pop(name, None)

    def _heard(self, event: VmEvent) -> None:
        """Called in the thread of libvirt's event loop."""
        self._actuation.pending.changed(event.vm_id)
        if event.kind in _RUNS_ANEW:
            self._described.clear()

    def _forget(self, vm_id: str) -> None:
        """A run of a VM is over: nothing of it is kept, and what limited its interfaces is removed."""
        self._sampler.forget(vm_id)
        if not self._actuation.is_on(Resource.NET_RX):
            return
        try:
            self._network.gone(vm_id)
        except HypervisorError as error:
            _log.warning("%s: %s", vm_id, error)
