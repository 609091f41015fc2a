"""virtio-mem: memory in blocks on top of what a VM started with. Source: https://virtio-mem.gitlab.io."""

from __future__ import annotations

from collections.abc import Sequence

import libvirt

from forestall.adapters.libvirt.actuator import Vm, rounded_up
from forestall.adapters.libvirt.domain import VirtioMem
from forestall.adapters.libvirt.errors import translated


def shares(devices: Sequence[VirtioMem], extra_bytes: float) -> list[int]:
    """What to request of each device, so that together they give at least ``extra_bytes``: the first one first."""
    requests = []
    for device in devices:
        share = min(max(rounded_up(extra_bytes, device.block_bytes), 0), device.size_bytes)
        requests.append(share)
        extra_bytes -= share
    return requests


def request(vm: Vm, requests: Sequence[int]) -> None:
    """Ask each device for its bytes, where it was not asked for as many already."""
    for device, requested_bytes in zip(vm.domain.virtio_mem, requests, strict=False):
        if device.requested_bytes != requested_bytes:
            with translated(f"cannot resize the virtio-mem device of {vm.domain.name}"):
                vm.handle.updateDeviceFlags(device.requesting(requested_bytes), libvirt.VIR_DOMAIN_AFFECT_LIVE)
