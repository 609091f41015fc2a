"""Whether libvirt answers, and what its running VMs offer; nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from forestall.adapters.host_facts.facts import LibvirtFacts, Reach, VmFacts

MOST_VMS = 200
"""Not more VMs than this are looked at."""
DAEMONS = ("libvirtd", "virtqemud")

Connect = Callable[[str], Any]
"""Opens a read-write connection to a URI, as ``libvirt.open`` does."""


def open_connection(uri: str) -> Any:
    """Connect to libvirt, and keep its errors off standard error."""
    import libvirt

    libvirt.registerErrorHandler(lambda _, __: None, None)
    return libvirt.open(uri)


def probe_libvirt(uri: str, daemon: str, connect: Connect = open_connection) -> LibvirtFacts:
    """Connect to libvirt and look at the VMs that run.

    Parameters
    ----------
    uri
        Where.
    daemon
        The libvirt daemon that is installed here; empty if none is.
    connect
        Opens the connection.
    """
    try:
        connection = connect(uri)
    except ImportError:
        return LibvirtFacts(uri, Reach.NO_BINDINGS, daemon=daemon)
    except Exception as error:  # libvirtError, whose class is known only where libvirt is installed
        text = " ".join(str(error).split())
        return LibvirtFacts(uri, reach_of(text, daemon), text, daemon=daemon)
    try:
        version = _version(connection.getLibVersion())
        vms = tuple(_vm_of(domain) for domain in connection.listAllDomains(_ACTIVE)[:MOST_VMS])
        return LibvirtFacts(uri, Reach.ANSWERS, version=version, daemon=daemon, vms=vms)
    except Exception as error:  # a daemon that goes away meanwhile
        return LibvirtFacts(uri, Reach.FAILED, " ".join(str(error).split()), daemon=daemon)
    finally:
        connection.close()


_ACTIVE = 1  # VIR_CONNECT_LIST_DOMAINS_ACTIVE


def reach_of(text: str, daemon: str) -> Reach:
    """Understand the error of a connection that could not be opened."""
    if re.search(r"permission denied|authentication|access denied|polkit", text, re.IGNORECASE):
        return Reach.DENIED
    if re.search(r"no such file|connection refused|failed to connect socket", text, re.IGNORECASE):
        return Reach.NOT_RUNNING if daemon else Reach.ABSENT
    return Reach.FAILED


def vm_facts(name: str, xml: str, statistics: dict[str, int]) -> VmFacts:
    """Read a VM's definition and the statistics of its balloon.

    ``usable`` among the statistics is there only if the guest's driver reports, which it does when asked to.
    """
    root = ElementTree.fromstring(xml)
    source = root.find("memoryBacking/source")
    return VmFacts(
        name,
        accelerated=root.get("type") != "qemu",
        balloon_statistics="usable" in statistics,
        virtio_mem=root.find("devices/memory[@model='virtio-mem']") is not None,
        memfd=source is not None and source.get("type") == "memfd",
    )


def _vm_of(domain: Any) -> VmFacts:
    try:
        statistics = dict(domain.memoryStats())
    except Exception:  # a driver that has none, or a VM that has just ended
        statistics = {}
    return vm_facts(domain.name(), domain.XMLDesc(0), statistics)


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
