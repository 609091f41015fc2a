"""How many vCPUs a VM has: more are plugged in while it runs; they are taken out only where that is known to work.

Plugging takes libvirt some 20 ms, but counts only when the guest has brought the vCPU online, which shows in the run
time of its thread: it stays at zero until then. Neither is done where QEMU emulates (TCG): unplugging crashes it, and
so does plugging once a guest has worked for some minutes. Measured with QEMU 7.2: 12 guests that were young took a
vCPU, both of two that were not ended with ``tcg_region_initial_alloc__locked: assertion failed``, no room being left
for the code of another vCPU. A guest without an agent may ignore that a vCPU is to go: elsewhere the quota holds it to
less, and a guest with an agent switches the vCPU off (0.1 s) while it stays plugged in.
"""

from __future__ import annotations

import logging

import libvirt

from forestall.adapters.libvirt.actuator import Vm
from forestall.adapters.libvirt.errors import translated
from forestall.model.errors import HypervisorError

_log = logging.getLogger(__name__)
_AWAKE_SECONDS = 0.01
AGENT_SECONDS = 5
"""The longest wait for a guest's agent; by itself libvirt waits for ever, and that is for the guest to end."""


def plug_refusal(driver: str, kind: str, *, emulated: bool = False) -> str:
    """Why no vCPU can be added; empty if one can.

    Parameters
    ----------
    driver, kind
        libvirt's name of the hypervisor, and of the domain's type.
    emulated
        Add one although QEMU emulates.
    """
    if driver != "QEMU":
        return f"vCPUs are not added under libvirt's driver {driver}"
    if kind != "kvm" and not emulated:
        return f"adding a vCPU may crash QEMU without KVM (the domain is of type {kind!r})"
    return ""


def unplug_refusal(vm: Vm) -> str:
    """Why no vCPU can be taken out; empty if one can."""
    if vm.domain.kind != "kvm":
        return f"taking a vCPU out crashes QEMU without KVM (the domain is of type {vm.domain.kind!r})"
    if not vm.domain.has_agent:
        return "a vCPU is taken out only with the guest agent's help, which is not connected"
    return ""


def run_on(vm: Vm, count: int) -> bool:
    """Have the guest's agent run the guest on ``count`` vCPUs, others switched off; whether it did anything.

    An agent that is not there, does not know how or does not answer changes nothing: the quota still holds.
    """
    if not vm.domain.has_agent:
        return False
    try:
        with translated(f"cannot ask the agent of {vm.domain.name}"):
            vm.handle.agentSetResponseTimeout(AGENT_SECONDS)
            if len(_numbers(vm.handle.guestVcpus()["online"])) == count:
                return False
            vm.handle.setVcpusFlags(count, libvirt.VIR_DOMAIN_VCPU_GUEST)
    except HypervisorError as error:
        _log.info("%s", error)
        return False
    return True


def set_vcpus(vm: Vm, count: int) -> None:
    """Plug in, or take out, up to ``count`` vCPUs."""
    with translated(f"cannot give {vm.domain.name} {count} vCPUs"):
        if count < vm.domain.vcpus:
            vm.handle.agentSetResponseTimeout(AGENT_SECONDS)
            vm.handle.setVcpusFlags(count, libvirt.VIR_DOMAIN_VCPU_GUEST)
        vm.handle.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _numbers(text: str) -> list[int]:
    """Numbers in a list of CPUs such as ``0-2,5``."""
    ranges = (part.partition("-") for part in text.split(",") if part)
    return [n for first, _, last in ranges for n in range(int(first), int(last or first) + 1)]


def asleep(vm: Vm, first: int, count: int) -> list[int]:
    """Those of the vCPUs ``first`` to ``count - 1`` that the guest has not brought online."""
    with translated(f"cannot ask for the vCPUs of {vm.domain.name}"):
        vcpus = vm.handle.vcpus()[0]
    run_seconds = {number: time_ns / 1e9 for number, _, time_ns, _ in vcpus}
    return [number for number in range(first, count) if run_seconds.get(number, 0.0) < _AWAKE_SECONDS]
