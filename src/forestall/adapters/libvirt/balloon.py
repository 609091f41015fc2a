"""The balloon: memory that the guest hands back, or gets again. Source: virtio specification, 5.5."""

from __future__ import annotations

import libvirt

from forestall.adapters.libvirt.actuator import Vm
from forestall.adapters.libvirt.connection import Handle
from forestall.adapters.libvirt.errors import translated

STEP_BYTES = 1024 * 1024
STATS_PERIOD_SECONDS = 1
_DRIVERS = ("QEMU", "TEST", "Xen")


def balloon_refusal(vm: Vm) -> str:
    """Why there is no balloon; empty if there is one."""
    if vm.driver not in _DRIVERS:
        return f"memory is not moved under libvirt's driver {vm.driver}"
    if not vm.domain.has_balloon and vm.driver == "QEMU":
        return "the VM has no memory balloon"
    return ""


def set_balloon(vm: Vm, base_bytes: int) -> None:
    """Ask the guest to keep so much of the memory that it started with; what virtio-mem adds does not count."""
    with translated(f"cannot move the balloon of {vm.domain.name}"):
        vm.handle.setMemoryFlags(base_bytes // 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def set_stats_period(handle: Handle, seconds: int) -> None:
    """How often the balloon asks the guest for statistics; 0: never."""
    with translated(f"cannot ask {handle.name()} for memory statistics"):
        handle.setMemoryStatsPeriod(seconds, libvirt.VIR_DOMAIN_AFFECT_LIVE)
