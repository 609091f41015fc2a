"""Network throughput of a VM, in bytes/s as the guest receives and sends, over all its interfaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from forestall.adapters.libvirt.actuator import Effect, Restored, Vm
from forestall.adapters.libvirt.domain import Domain
from forestall.adapters.linux.namespaces import Namespaces
from forestall.adapters.linux.traffic_control import TrafficControl
from forestall.model.resources import Resource
from forestall.ports.traffic import Taps

RX, TX = Resource.NET_RX, Resource.NET_TX
_TAPS = ("ethernet", "bridge", "network")
_LEAST_BYTES_PER_S = 1000


class Network:
    """An :class:`~forestall.adapters.libvirt.actuator.Actuator` over the kernel's traffic control.

    Parameters
    ----------
    is_local
        Whether the VMs' taps are on this machine.
    """

    resources: tuple[Resource, ...] = (RX, TX)

    def __init__(self, *, is_local: bool) -> None:
        self._is_local = is_local
        self._traffic = TrafficControl()
        self._namespaces = Namespaces()
        self._limited: dict[str, Taps] = {}

    def refusal(self, vm: Vm) -> str:
        """Whether every interface is a tap here that nobody else shapes."""
        if not self._is_local:
            return "taps can be shaped only from the VM's own host"
        if vm.driver != "QEMU" or vm.process is None:
            return "the process of the VM cannot be seen from here"
        if not vm.domain.interfaces:
            return "the VM has no network interface"
        for interface in vm.domain.interfaces:
            if interface.openvswitch:
                return f"{interface.device} is a port of Open vSwitch, which owns its QoS"
            if interface.kind not in _TAPS or not interface.device:
                return f"an interface of type {interface.kind!r} has no tap that could be shaped"
        return self._traffic.refusal(_taps(vm))

    def step(self, vm: Vm) -> float:
        """Least that is useful: a thousand bytes a second."""
        return float(_LEAST_BYTES_PER_S)

    def means(self, vm: Vm) -> str:
        """``tc``."""
        return "tc"

    def ceiling(self, vm: Vm) -> float:
        """Any."""
        return math.inf

    def in_force(self, vm: Vm) -> Mapping[Resource, float]:
        """Our limits; inf without one."""
        if not self._reaches(vm):
            return dict.fromkeys(self.resources, math.inf)
        return self._traffic.limits(_taps(vm))

    def set(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        """Install, change or remove the limit of one direction."""
        return self._limit(vm, resource, max(amount, float(_LEAST_BYTES_PER_S)))

    def settings(self, vm: Vm) -> dict[str, Any]:
        """Our limits, None without one, and where they are."""
        limits = {r.value: None if math.isinf(a) else a for r, a in self.in_force(vm).items()}
        return limits | {"taps": list(_taps(vm).devices), "identity": vm.domain.uuid}

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Restored]:
        """As it was: usually without any limit of ours."""
        if not self._reaches(vm):
            return []
        restored, now = [], self._traffic.limits(_taps(vm))
        for resource in self.resources:
            original = values.get(resource.value)
            amount = math.inf if original is None else float(original)
            if now[resource] != amount:
                restored.append(Restored(resource, amount, self._limit(vm, resource, amount)))
        return restored

    def gone(self, vm_id: str, values: Mapping[str, Any] | None = None) -> None:
        """Remove the limits of a VM that is gone: a tap that was not made by libvirt outlives it, and so does an ifb.

        Its taps are those that we limited or, if it was another process of ours that did, those in its settings.
        """
        taps = self._limited.pop(vm_id, None)
        if taps is None and values and values.get("taps"):
            taps = Taps(tuple(values["taps"]), None, str(values["identity"]))
        if taps is None or not self._is_local:
            return
        for resource in self.resources:
            self._traffic.limit(taps, resource, math.inf)
        for namespace in (None, *self._namespaces.paths()):
            self._traffic.sweep(namespace)

    def close(self) -> None:
        """Let go of the namespaces."""
        self._namespaces.close()

    def _limit(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        self._limited[vm.domain.name] = replace(_taps(vm), namespace=self._namespaces.kept(vm.namespace))
        expected = self._traffic.limit(_taps(vm), resource, amount)
        return Effect("tc", self._traffic.limits(_taps(vm))[resource], expected)

    def _reaches(self, vm: Vm) -> bool:
        return self._is_local and vm.process is not None and bool(_taps(vm).devices)


def _taps(vm: Vm) -> Taps:
    return Taps(tap_names(vm.domain), vm.namespace, vm.domain.uuid)


def tap_names(domain: Domain) -> tuple[str, ...]:
    """Names of the taps of a VM."""
    return tuple(i.device for i in domain.interfaces if i.kind in _TAPS and i.device)
