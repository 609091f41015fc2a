"""CPU of a VM, in cores: its quota and, where that is allowed, its shares and the number of its vCPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from forestall.adapters.libvirt.actuator import Effect, Progress, Restored, Vm, Watch, rounded_up
from forestall.adapters.libvirt.cpu_quota import LEAST_CORES, SHARES, CpuQuota, settings_as_quota, shares
from forestall.adapters.libvirt.domain import Domain
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.libvirt.vcpus import asleep, plug_refusal, run_on, set_vcpus, unplug_refusal
from forestall.model.errors import Unsupported
from forestall.model.resources import Resource

CPU = Resource.CPU
_STEPS_PER_CORE = round(1 / LEAST_CORES)


class Cpu:
    """An :class:`~forestall.adapters.libvirt.actuator.Actuator`.

    Parameters
    ----------
    hotplug
        Whether vCPUs are added when a VM is given more cores than it has vCPUs.
    emulated
        Whether also where QEMU emulates.
    shares
        Whether a VM that is given less than all its vCPUs keeps that part of its own shares.
    """

    resources: tuple[Resource, ...] = (CPU,)

    def __init__(self, *, hotplug: bool, emulated: bool = False, shares: bool = False) -> None:
        self._hotplug, self._emulated, self._moves_shares = hotplug, emulated, shares
        self._own_shares: dict[str, int] = {}

    def refusal(self, vm: Vm) -> str:
        """Whether the driver has a quota."""
        try:
            CpuQuota.read(vm)
        except Unsupported as error:
            return str(error)
        return ""

    def step(self, vm: Vm) -> float:
        """A hundredth of a core: the least that libvirt takes."""
        return LEAST_CORES

    def means(self, vm: Vm) -> str:
        """``vcpu`` where one may have to be plugged in, else ``quota``."""
        return "vcpu" if self._vcpus_at_most(vm) > vm.domain.vcpus else "quota"

    def ceiling(self, vm: Vm) -> float:
        """Any: from the number of vCPUs on there is no quota."""
        return math.inf

    def limit(self, vcpus: int, domain: Domain, driver: str) -> float:
        """Most cores that a VM with so many vCPUs can be given."""
        return float(vcpus if self._plug_refusal(driver, domain) else domain.max_vcpus)

    def in_force(self, vm: Vm) -> Mapping[Resource, float]:
        """Quota, and not more than there are vCPUs."""
        try:
            return {CPU: CpuQuota.read(vm).cores(vm.domain.vcpus)}
        except Unsupported:
            return {CPU: float(vm.domain.vcpus)}

    def held(self, vm_handle: Any) -> float:
        """What counts against the inventory, without reading the description."""
        with translated("cannot ask a VM for its vCPUs"):
            vcpus = vm_handle.info()[3]
            parameters = vm_handle.schedulerParameters()
        return CpuQuota.of(parameters).cores(vcpus)

    def set(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        """Plug in what is missing, then set the quota."""
        quota = CpuQuota.read(vm)
        cores = amount if math.isinf(amount) else rounded_up(amount * _STEPS_PER_CORE, 1) / _STEPS_PER_CORE
        before = vm.domain.vcpus
        if self._hotplug and unplug_refusal(vm):
            run_on(vm, before)  # some may have been switched off instead of being taken out
        vcpus = max(min(math.ceil(cores), self._vcpus_at_most(vm)), before) if math.isfinite(cores) else before
        if vcpus > before:
            set_vcpus(vm, vcpus)
        now = quota.write(vm, quota.wanted(cores, vcpus) | self._shares(vm, quota, min(cores / vcpus, 1.0)))
        in_force, expected = now.cores(vcpus), min(max(cores, LEAST_CORES), float(vcpus), now.others_cap(vcpus))
        if vcpus > before and asleep(vm, before, vcpus):
            return Effect("vcpu", in_force, expected, _watch(before, vcpus))
        if vcpus < min(cores, vm.domain.max_vcpus) and self._hotplug:
            return Effect("quota", in_force, expected, remark=self._plug_refusal(vm.driver, vm.domain))
        remark = f"another quota leaves {now.others_cap(vcpus):g} cores" if now.others_cap(vcpus) < cores else ""
        return Effect("vcpu" if vcpus > before else "quota", in_force, expected, remark=remark)

    def settings(self, vm: Vm) -> dict[str, Any]:
        """Number of vCPUs, quotas and shares; ``moves_shares`` says whether the latter are about to be moved."""
        try:
            quota = CpuQuota.read(vm)
        except Unsupported:
            return {}
        return {"vcpus": vm.domain.vcpus, "moves_shares": self._moves_shares, **quota.settings()}

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Restored]:
        """Quota as it was; vCPUs that were added are taken out.

        Where they cannot be, the guest's agent switches them off if there is one, and a quota holds the VM down.
        """
        if "vcpus" not in values:
            return []
        quota, vcpus, original = CpuQuota.read(vm), vm.domain.vcpus, int(values["vcpus"])
        wanted, refusal = settings_as_quota(values), ""
        if not (self._moves_shares or values.get("moves_shares")):
            wanted.pop(SHARES, None)  # never moved by us: what an operator has set meanwhile stays
        self._own_shares.pop(_run(vm), None)
        amount = CpuQuota(wanted).cores(original)
        if vcpus > original and not (refusal := unplug_refusal(vm)):
            set_vcpus(vm, original)
            vcpus = original
        if vcpus > original and run_on(vm, original):
            refusal = f"{refusal}; switched off in the guest"
        if vcpus > original and CpuQuota(wanted).cores(vcpus) > amount:
            wanted |= quota.wanted(amount, vcpus)
        if not refusal and vcpus == vm.domain.vcpus and not _differs(quota, wanted):
            return []
        effect = Effect("quota", quota.write(vm, wanted).cores(vcpus), min(amount, vcpus))
        return [Restored(CPU, amount, effect, refusal)]

    def _shares(self, vm: Vm, quota: CpuQuota, share: float) -> dict[str, int]:
        """Parameters that leave a VM a share of the shares that it had before; none where they stay as they are."""
        if not self._moves_shares or SHARES not in quota.parameters:
            return {}
        return shares(self._own_shares.setdefault(_run(vm), quota.parameters[SHARES]), share)

    def _vcpus_at_most(self, vm: Vm) -> int:
        return vm.domain.vcpus if self._plug_refusal(vm.driver, vm.domain) else vm.domain.max_vcpus

    def _plug_refusal(self, driver: str, domain: Domain) -> str:
        refusal = plug_refusal(driver, domain.kind, emulated=self._emulated)
        return refusal if self._hotplug else "adding vCPUs is switched off"


def _run(vm: Vm) -> str:
    return f"{vm.domain.uuid}/{vm.domain.number}"


def _differs(quota: CpuQuota, wanted: Mapping[str, int]) -> bool:
    return any(quota.parameters.get(key) != value for key, value in wanted.items())


def _watch(first: int, count: int) -> Watch:
    def look(vm: Vm) -> Progress:
        in_force = CpuQuota.read(vm).cores(vm.domain.vcpus)
        missing = asleep(vm, first, count)
        return Progress(
            in_force, f"the guest did not bring vCPU {', '.join(map(str, missing))} online" if missing else ""
        )

    return look
