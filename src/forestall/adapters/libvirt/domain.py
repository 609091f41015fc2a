"""What a domain is, read from its XML: https://libvirt.org/formatdomain.html."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from forestall.guest.ports import PORT_NAME
from forestall.model.errors import HypervisorError

_UNITS = {"b": 1, "bytes": 1, "k": 1024, "kib": 1024, "kb": 1000, "m": 1024**2, "mib": 1024**2, "mb": 1000**2}
_UNITS |= {"g": 1024**3, "gib": 1024**3, "gb": 1000**3, "t": 1024**4, "tib": 1024**4, "tb": 1000**4}
_AGENT = "org.qemu.guest_agent.0"


@dataclass(frozen=True)
class VirtioMem:
    """A virtio-mem device: up to ``size_bytes``, in blocks, on top of what the VM started with.

    ``xml`` is the device's element, to be sent back with another ``requested``.
    """

    size_bytes: int
    block_bytes: int
    requested_bytes: int
    current_bytes: int
    xml: str

    def requesting(self, requested_bytes: int) -> str:
        """The element that asks for so many bytes, a whole number of blocks."""
        element = ElementTree.fromstring(self.xml)
        requested = element.find("target/requested")
        if requested is None:
            raise HypervisorError("a virtio-mem device without <requested>")
        requested.set("unit", "KiB")
        requested.text = str(requested_bytes // 1024)
        return ElementTree.tostring(element, encoding="unicode")


@dataclass(frozen=True)
class Interface:
    """A network interface: the host's device (empty: none), libvirt's type of it, whether a switch owns its QoS."""

    device: str
    kind: str
    openvswitch: bool


@dataclass(frozen=True)
class Domain:
    """A running domain.

    Attributes
    ----------
    name, uuid, number
        ``number`` is libvirt's ID of this run.
    kind
        ``kvm``, ``qemu`` (emulation without hardware, TCG), ``test``, ``xen``, ``lxc``, ...
    vcpus, max_vcpus
        vCPUs now, and at most.
    max_memory_bytes, memory_bytes
        ``memory`` and ``currentMemory``: what the guest may have with everything plugged, and has now.
    has_balloon, stats_period_seconds
        Whether there is a balloon device, and how often it asks the guest for statistics (0: never).
    virtio_mem, disks, interfaces
        Devices; of the disks the names of those that can be throttled (no empty drives).
    has_agent
        Whether QEMU's guest agent is connected.
    guest_socket
        The host's end of the port of Forestall's own agent; empty where there is none.
    """

    name: str
    uuid: str
    number: int
    kind: str
    vcpus: int
    max_vcpus: int
    max_memory_bytes: int
    memory_bytes: int
    has_balloon: bool
    stats_period_seconds: int
    virtio_mem: tuple[VirtioMem, ...]
    disks: tuple[str, ...]
    interfaces: tuple[Interface, ...]
    has_agent: bool
    guest_socket: str = ""

    @property
    def base_max_bytes(self) -> int:
        """Memory without virtio-mem when nothing is ballooned."""
        return self.max_memory_bytes - sum(device.size_bytes for device in self.virtio_mem)

    @property
    def plugged_bytes(self) -> int:
        """Memory that virtio-mem gives now."""
        return sum(device.current_bytes for device in self.virtio_mem)

    @property
    def base_bytes(self) -> int:
        """Memory without virtio-mem that the balloon leaves to the guest now."""
        return self.memory_bytes - self.plugged_bytes


def parse_domain(xml: str) -> Domain:
    """Read a live domain's XML.

    Raises
    ------
    HypervisorError
        It is not the XML of a domain.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise HypervisorError(f"libvirt's description of a domain is not XML: {error}") from error
    name, memory = root.findtext("name"), root.find("memory")
    if root.tag != "domain" or not name or memory is None:
        raise HypervisorError(f"libvirt's description of a domain lacks its name or memory: {xml[:80]!r}")
    max_memory_bytes = _bytes(memory)
    max_vcpus = int(root.findtext("vcpu", "1"))
    current, vcpu, balloon = root.find("currentMemory"), root.find("vcpu"), root.find("devices/memballoon")
    stats = root.find("devices/memballoon/stats")
    return Domain(
        name=name,
        uuid=root.findtext("uuid", ""),
        number=int(root.get("id", "-1")),
        kind=root.get("type", ""),
        vcpus=int(vcpu.get("current", max_vcpus)) if vcpu is not None else 1,
        max_vcpus=max_vcpus,
        max_memory_bytes=max_memory_bytes,
        memory_bytes=_bytes(current) if current is not None else max_memory_bytes,
        has_balloon=balloon is not None and balloon.get("model") != "none",
        stats_period_seconds=int(stats.get("period", 0)) if stats is not None else 0,
        virtio_mem=tuple(_virtio_mem(m) for m in root.findall("devices/memory[@model='virtio-mem']")),
        disks=tuple(filter(None, (_disk(disk) for disk in root.findall("devices/disk")))),
        interfaces=tuple(_interface(interface) for interface in root.findall("devices/interface")),
        has_agent=any(
            target.get("name") == _AGENT and target.get("state") == "connected"
            for target in root.findall("devices/channel/target")
        ),
        guest_socket=next(filter(None, (_guest_socket(channel) for channel in root.findall("devices/channel"))), ""),
    )


def _bytes(element: Element) -> int:
    return int(element.text or 0) * _UNITS[element.get("unit", "KiB").lower()]


def _bytes_at(element: Element, path: str) -> int:
    found = element.find(path)
    return _bytes(found) if found is not None else 0


def _virtio_mem(element: Element) -> VirtioMem:
    requested = _bytes_at(element, "target/requested")
    return VirtioMem(
        size_bytes=_bytes_at(element, "target/size"),
        block_bytes=_bytes_at(element, "target/block"),
        requested_bytes=requested,
        current_bytes=_bytes_at(element, "target/current"),
        xml=ElementTree.tostring(element, encoding="unicode").strip(),
    )


def _disk(element: Element) -> str:
    """Target of a disk that holds something and is no removable drive; else empty."""
    target = element.find("target")
    if target is None or element.get("device", "disk") not in ("disk", "lun") or element.find("source") is None:
        return ""
    return target.get("dev", "")


def _guest_socket(element: Element) -> str:
    """Unix socket of a channel, if it is that of our agent and QEMU listens on it."""
    source, target = element.find("source"), element.find("target")
    if source is None or target is None or element.get("type") != "unix" or target.get("name") != PORT_NAME:
        return ""
    return source.get("path", "") if source.get("mode", "bind") == "bind" else ""


def _interface(element: Element) -> Interface:
    target, port = element.find("target"), element.find("virtualport")
    return Interface(
        device=target.get("dev", "") if target is not None else "",
        kind=element.get("type", ""),
        openvswitch=port is not None and port.get("type") == "openvswitch",
    )
