"""How much CPU time a VM may use: the quota of the kernel's bandwidth control, and its shares where cores are short.

``global_quota`` caps the VM as a whole, QEMU's own threads included, which is what its demand is measured by;
``vcpu_quota`` caps each vCPU by itself and stands in where a driver lacks the other. ``cpu_shares`` say in which
proportion VMs run while all of them together want more than the host has. Sources: libvirt's
``virDomainSetSchedulerParametersFlags``, sched-bwc.rst, cgroup-v2.rst. Measured: a quota of half a core gave 0.42 core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from forestall.adapters.libvirt.actuator import Vm
from forestall.adapters.libvirt.errors import translated
from forestall.model.errors import HypervisorError, Unsupported

PERIOD_US = 500_000
"""Longer than the kernel's usual 100 ms: what is decided is what a VM may use over seconds, not over the moment.

Measured: a task that works for 60 ms a second was done in 0.41 s at a quota of 0.12 core in periods of 100 ms, in
0.27 s in periods of 250 ms, in 0.12 s in periods of a second. A VM that is out of quota stands still until the next.
"""
LEAST_CORES = 0.01
_LEAST_US, _MOST_US = 1000, 17_592_186_044_415
LEAST_SHARES = 2
SHARES = "cpu_shares"
_KEPT = ("global_quota", "global_period", "vcpu_quota", "vcpu_period", SHARES)


@dataclass(frozen=True)
class CpuQuota:
    """Scheduler parameters of a VM, as they are now."""

    parameters: Mapping[str, int]

    @classmethod
    def read(cls, vm: Vm) -> CpuQuota:
        """Ask libvirt; :class:`Unsupported` where the driver has no quota."""
        try:
            with translated(f"cannot read the CPU quota of {vm.domain.name}"):
                parameters = vm.handle.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except HypervisorError as error:
            cause = error.__cause__
            if isinstance(cause, libvirt.libvirtError) and cause.get_error_code() == libvirt.VIR_ERR_INVALID_ARG:
                raise Unsupported("the driver has no CPU quota for a running VM") from error
            raise
        if "global_quota" not in parameters and "vcpu_quota" not in parameters:
            raise Unsupported("the driver has no CPU quota")
        return cls.of(parameters)

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> CpuQuota:
        """From libvirt's parameters; "no quota", which it reads as -1, 0 or a value too large to be set, as -1."""
        return cls({k: -1 if k.endswith("_quota") and not 0 < v <= _MOST_US else v for k, v in parameters.items()})

    @property
    def is_global(self) -> bool:
        """Whether there is one for the VM as a whole."""
        return "global_quota" in self.parameters

    def others_cap(self, vcpus: int) -> float:
        """Cores that a quota leaves which is not the one that we move; inf without one."""
        return self._cap("vcpu") * vcpus if self.is_global else math.inf

    def cores(self, vcpus: int) -> float:
        """Cores in force."""
        ours = self._cap("global") if self.is_global else self._cap("vcpu") * vcpus
        return min(float(vcpus), ours, self.others_cap(vcpus))

    def settings(self) -> dict[str, int]:
        """What might be changed, and the other quota."""
        return {key: int(self.parameters[key]) for key in _KEPT if key in self.parameters}

    def wanted(self, cores: float, vcpus: int) -> dict[str, int]:
        """Parameters for so many cores; no quota from ``vcpus`` on."""
        kind, share = ("global", 1) if self.is_global else ("vcpu", vcpus)
        if cores >= vcpus:
            return {f"{kind}_quota": -1}
        quota_us = max(math.ceil(max(cores, LEAST_CORES) / share * PERIOD_US - 1e-6), _LEAST_US)
        return {f"{kind}_period": PERIOD_US, f"{kind}_quota": quota_us}

    def write(self, vm: Vm, wanted: Mapping[str, int]) -> CpuQuota:
        """Set what differs, and read all of it back."""
        changed = {key: value for key, value in wanted.items() if self.parameters.get(key) != value}
        if not changed:
            return self
        with translated(f"cannot set the CPU quota of {vm.domain.name}"):
            vm.handle.setSchedulerParametersFlags(changed, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return CpuQuota.read(vm)

    def _cap(self, kind: str) -> float:
        quota, period = self.parameters.get(f"{kind}_quota", -1), self.parameters.get(f"{kind}_period", PERIOD_US)
        return quota / period if quota > 0 and period > 0 else math.inf


def shares(own: int, share: float) -> dict[str, int]:
    """Parameters that leave a VM that share (0 to 1) of its own shares."""
    return {SHARES: min(max(round(own * share), LEAST_SHARES), own)}


def settings_as_quota(values: Mapping[str, Any]) -> dict[str, int]:
    """Kept settings as parameters."""
    return {key: int(values[key]) for key in _KEPT if key in values}
