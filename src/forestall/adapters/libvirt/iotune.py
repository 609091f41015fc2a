"""Disk throughput of a VM, in bytes/s over all its disks: one throttle group in QEMU for each VM.

Source: libvirt's ``virDomainSetBlockIoTune``, QEMU's docs/throttle.txt. Measured: two disks read at once at a limit of
1 MiB/s gave 1.0 MiB/s together. A disk on which somebody else has set limits is left alone: a group has one set of
limits for all of its disks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import libvirt

from forestall.adapters.libvirt.actuator import Effect, Restored, Vm
from forestall.adapters.libvirt.errors import translated
from forestall.model.resources import Resource

READ, WRITE = Resource.DISK_READ, Resource.DISK_WRITE
_KEY = {READ: "read_bytes_sec", WRITE: "write_bytes_sec"}
_LEAST_BYTES_PER_S = 4096
_GROUP = "forestall"
Tune = dict[str, Any]


class Iotune:
    """An :class:`~forestall.adapters.libvirt.actuator.Actuator`."""

    resources: tuple[Resource, ...] = (READ, WRITE)

    def refusal(self, vm: Vm) -> str:
        """Whether there is a disk, and nobody else's limit on any."""
        if vm.driver != "QEMU":
            return f"disks are not throttled under libvirt's driver {vm.driver}"
        if not vm.domain.disks:
            return "the VM has no disk that can be throttled"
        theirs = [disk for disk, tune in _read(vm).items() if _limits(tune) and tune.get("group_name") != _GROUP]
        return f"disk {', '.join(theirs)} has limits that somebody else set" if theirs else ""

    def step(self, vm: Vm) -> float:
        """Least that is useful: a block of 4 KiB a second."""
        return float(_LEAST_BYTES_PER_S)

    def means(self, vm: Vm) -> str:
        """``iotune``."""
        return "iotune"

    def ceiling(self, vm: Vm) -> float:
        """Any."""
        return math.inf

    def in_force(self, vm: Vm) -> Mapping[Resource, float]:
        """Limits of our group; inf without one."""
        if vm.driver != "QEMU" or not vm.domain.disks:
            return dict.fromkeys(self.resources, math.inf)
        return _in_force(_read(vm))

    def set(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        """Set both directions on every disk, the other one as it is."""
        tunes = _read(vm)
        wanted = {**_in_force(tunes), resource: amount}
        values: Tune = {
            _KEY[r]: 0 if math.isinf(a) else max(math.ceil(a), _LEAST_BYTES_PER_S) for r, a in wanted.items()
        }
        if any(values.values()):
            values["group_name"] = _GROUP
        for disk in vm.domain.disks:
            _write(vm, disk, tunes[disk], values)
        return Effect("iotune", _in_force(_read(vm))[resource], float(values[_KEY[resource]] or math.inf))

    def settings(self, vm: Vm) -> dict[str, Any]:
        """Every limit of every disk."""
        if vm.driver != "QEMU":
            return {}
        return {disk: _limits(tune) | _group(tune) for disk, tune in _read(vm).items()}

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Restored]:
        """Each disk as it was; one that was added since loses our limits."""
        before = _read(vm) if vm.driver == "QEMU" else {}
        changed = False
        for disk, tune in before.items():
            original: Tune = dict(values.get(disk, {} if tune.get("group_name") == _GROUP else tune))
            if _limits(tune) | _group(tune) != _limits(original) | _group(original):
                _write(vm, disk, tune, dict.fromkeys(_limits(tune), 0) | original)
                changed = True
        if not changed:
            return []
        had, has = _in_force(before), _in_force(_read(vm))
        return [Restored(r, has[r], Effect("iotune", has[r], has[r])) for r in self.resources if had[r] != has[r]]


def _read(vm: Vm) -> dict[str, Tune]:
    with translated(f"cannot read the disk limits of {vm.domain.name}"):
        return {disk: vm.handle.blockIoTune(disk, libvirt.VIR_DOMAIN_AFFECT_LIVE) for disk in vm.domain.disks}


def _write(vm: Vm, disk: str, before: Tune, values: Tune) -> None:
    if all(before.get(key) == value for key, value in values.items()):
        return
    with translated(f"cannot set the limits of disk {disk} of {vm.domain.name}"):
        vm.handle.setBlockIoTune(disk, values, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _limits(tune: Tune) -> Tune:
    """Limits that are set."""
    return {key: value for key, value in tune.items() if key != "group_name" and value}


def _group(tune: Tune) -> Tune:
    """Throttle group of a disk that has limits; without limits it has none."""
    return {"group_name": tune["group_name"]} if _limits(tune) and tune.get("group_name") else {}


def _in_force(tunes: Mapping[str, Tune]) -> dict[Resource, float]:
    """Limit over all disks: ours, or what others set on every one of them."""
    if any(tune.get("group_name") == _GROUP for tune in tunes.values()):
        ours = next(tune for tune in tunes.values() if tune.get("group_name") == _GROUP)
        return {r: float(ours.get(key) or math.inf) for r, key in _KEY.items()}
    return {
        r: math.fsum(float(tune.get(key) or tune.get("total_bytes_sec") or math.inf) for tune in tunes.values())
        if tunes
        else math.inf
        for r, key in _KEY.items()
    }
