"""Checks of what moves VMs: libvirt, Python packages, traffic control, and the VMs themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from forestall.adapters.host_facts.facts import HostFacts, Reach, VmFacts
from forestall.adapters.host_facts.finding import Finding, Status, install

_EXTRA = f"{sys.executable} -m pip install 'forestall[live]'"


def check_packages(facts: HostFacts) -> list[Finding]:
    """Python packages of the extra ``live``."""
    found = []
    for package, there in facts.packages.items():
        bindings = package == "libvirt-python"
        why = "without it no VM is seen" if bindings else "without it network traffic is not limited"
        if there:
            found.append(Finding(package, Status.OK, "installed", needed=bindings))
            continue
        fix = f"{install('libvirt headers', facts.family)} && {_EXTRA}" if bindings else _EXTRA
        status = Status.MISSING if bindings else Status.LIMITED
        found.append(Finding(package, status, "the Python package is not installed", why, fix, bindings))
    return found


def check_libvirt(facts: HostFacts) -> Finding:
    """The libvirt daemon: absent, not running, closed to this user, or good."""
    libvirt, why = facts.libvirt, "without it no VM is seen"
    if libvirt.reach is Reach.ANSWERS:
        what = f"{libvirt.version} answers at {libvirt.uri}; VMs that run: {len(libvirt.vms)}"
        return Finding("libvirt", Status.OK, what, needed=True)
    what, fix = {
        Reach.NO_BINDINGS: ("not asked: libvirt-python is not installed", _EXTRA),
        Reach.ABSENT: ("is not installed", install("libvirt", facts.family)),
        Reach.NOT_RUNNING: (f"{libvirt.daemon} is installed, but does not run", _start(facts)),
        Reach.DENIED: (f"{libvirt.uri} is closed to {facts.user}", _admit(facts)),
        Reach.FAILED: (f"{libvirt.uri}: {libvirt.detail}", "correct `connect` in forestall.toml, or --connect"),
    }[libvirt.reach]
    return Finding("libvirt", Status.MISSING, what, why, fix, True)


def _start(facts: HostFacts) -> str:
    if not facts.systemd:
        return f"{facts.libvirt.daemon} -d"
    unit = "virtqemud.socket" if facts.libvirt.daemon == "virtqemud" else "libvirtd"
    return f"systemctl enable --now {unit}"


def _admit(facts: HostFacts) -> str:
    if facts.user == "root":
        return "see unix_sock_group and auth_unix_rw in /etc/libvirt/libvirtd.conf"
    return f"usermod -aG libvirt {facts.user}, then log in again"


def check_traffic(facts: HostFacts) -> Finding:
    """Traffic control, as it was tried in a namespace of its own."""
    if not facts.traffic_problem and facts.user != "root":
        what, fix = f"works, but {facts.user} may not change it", "run Forestall as root, as forestall.service does"
        return Finding("traffic control", Status.LIMITED, what, "network traffic is not limited", fix)
    if not facts.traffic_problem:
        return Finding("traffic control", Status.OK, "HTB, clsact and ifb work (tried in a namespace of its own)")
    fix = "modprobe -a ifb sch_htb sch_ingress cls_u32 act_mirred; a kernel for clouds may lack them: take the full one"
    if "pyroute2" in facts.traffic_problem:
        fix = _EXTRA
    elif "namespace" in facts.traffic_problem:
        fix = "run `forestall doctor` as root"
    return Finding("traffic control", Status.LIMITED, facts.traffic_problem, "network traffic is not limited", fix)


def check_openvswitch(facts: HostFacts) -> Finding:
    """Open vSwitch, which deletes the QoS of others on its ports."""
    if facts.openvswitch == "running":
        return Finding("open vswitch", Status.OK, "runs; it keeps the QoS of its own ports to itself")
    fix = "systemctl start openvswitch-switch" if facts.openvswitch == "installed" else ""
    what = "is installed, but does not run" if fix else "is not installed"
    return Finding("open vswitch", Status.OK, f"{what}; not needed", "taps on Linux bridges do without", fix)


def check_vms(facts: HostFacts) -> list[Finding]:
    """What the VMs that run offer."""
    if not facts.libvirt.vms:
        return []
    return [check(facts.libvirt.vms) for check in (_check_balloon, _check_virtio_mem, _check_memfd)]


def _check_balloon(vms: Sequence[VmFacts]) -> Finding:
    silent = _names(vms, lambda vm: not vm.balloon_statistics)
    if not silent:
        return Finding("balloon", Status.OK, f"statistics of all {len(vms)} VMs")
    what = f"no statistics of {_some(silent)} ({len(silent)} of {len(vms)} VMs)"
    why = "what the guest needs is guessed from what QEMU holds"
    fix = f"virsh dommemstat {silent[0]} --period 1 --live; the guest needs the driver virtio_balloon"
    return Finding("balloon", Status.LIMITED, what, why, fix)


def _check_virtio_mem(vms: Sequence[VmFacts]) -> Finding:
    without = _names(vms, lambda vm: not vm.virtio_mem)
    if not without:
        return Finding("virtio-mem", Status.OK, f"all {len(vms)} VMs")
    what = f"{len(without)} of {len(vms)} VMs have none: {_some(without)}"
    why = "their memory is moved by the balloon, never above what they booted with"
    fix = f"virsh edit {without[0]}: <maxMemory> and <memory model='virtio-mem'>; from the next boot"
    return Finding("virtio-mem", Status.LIMITED, what, why, fix)


def _check_memfd(vms: Sequence[VmFacts]) -> Finding:
    without = _names(vms, lambda vm: not vm.memfd)
    if not without:
        return Finding("guest memory", Status.OK, f"shared memfd in all {len(vms)} VMs")
    what = f"{len(without)} of {len(vms)} VMs are not backed by a shared memfd: {_some(without)}"
    fix = f"virsh edit {without[0]}: <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
    return Finding("guest memory", Status.LIMITED, what, "their memory cannot be staged before they touch it", fix)


def _names(vms: Sequence[VmFacts], chosen: Callable[[VmFacts], bool]) -> list[str]:
    return [vm.name for vm in vms if chosen(vm)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
