"""What can be moved under which driver of libvirt, and why not."""

from __future__ import annotations

from collections.abc import Mapping

from forestall.model.resources import Resource

_CPU, _MEMORY = Resource.CPU, Resource.MEMORY
_THROTTLES = (Resource.DISK_READ, Resource.DISK_WRITE, Resource.NET_RX, Resource.NET_TX)


def _all(reason: str) -> dict[Resource, str]:
    return dict.fromkeys(Resource, reason)


_REFUSALS: Mapping[str, Mapping[Resource, str]] = {
    "QEMU": {},
    "TEST": _all("libvirt's test driver has no live throttles")
    | {_CPU: "libvirt's test driver has no quota for a running VM", _MEMORY: ""},
    "Xen": dict.fromkeys(_THROTTLES, "libvirt's Xen driver has no throttles for disks and interfaces")
    | {_CPU: "Xen's scheduler has a cap in percent, which is not used"},
    "LXC": _all("containers are observed only"),
    "ESX": _all("libvirt's ESX driver is only read from"),
    "VMware": _all("libvirt's VMware driver is only read from"),
    "VBOX": _all("libvirt's VirtualBox driver is only read from"),
    "Hyper-V": _all("libvirt's Hyper-V driver is only read from"),
}


def driver_refusal(driver: str, resource: Resource) -> str:
    """Why a resource cannot be moved under a driver; empty if it may be possible, depending on the VM."""
    known = _REFUSALS.get(driver)
    return f"libvirt's driver {driver} was never tried" if known is None else known.get(resource, "")
