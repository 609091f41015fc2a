"""What is known about a host; plain values, so that a check needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Reach(StrEnum):
    """What became of the attempt to talk to libvirt."""

    ANSWERS = "answers"
    NO_BINDINGS = "no bindings"
    ABSENT = "absent"
    NOT_RUNNING = "not running"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True)
class VmFacts:
    """What a running VM offers, as its definition and libvirt say."""

    name: str
    accelerated: bool = True
    balloon_statistics: bool = True
    virtio_mem: bool = False
    memfd: bool = False


@dataclass(frozen=True)
class LibvirtFacts:
    """The libvirt daemon: ``daemon`` is the program that is installed, empty if none is; ``detail`` is its error."""

    uri: str
    reach: Reach
    detail: str = ""
    version: str = ""
    daemon: str = ""
    vms: tuple[VmFacts, ...] = ()


@dataclass(frozen=True)
class CgroupFacts:
    """Control groups: ``layout`` is ``v1``, ``v2``, ``hybrid`` or ``none``.

    ``controllers`` are those of the group of ``vm_pid``, the first QEMU process that was found, or of the whole host
    where there is none. ``idle_class`` is whether groups have ``cpu.idle``; None where there is no group to look at.
    """

    layout: str
    controllers: frozenset[str] = frozenset()
    vm_pid: int | None = None
    idle_class: bool | None = None


@dataclass(frozen=True)
class StateFacts:
    """The state folder: who holds its lock or its store, as ``pid (command)``, and whether that is Forestall.

    ``samples_problem`` is why the PostgreSQL database of samples cannot be used, empty if it can; None where there is
    none.
    """

    folder: Path
    writable: bool = True
    free_bytes: int = 0
    daemon: str = ""
    store_holder: str = ""
    samples_problem: str | None = None


@dataclass(frozen=True)
class ClockFacts:
    """The host's clock; ``synchronised`` is None where the kernel does not tell."""

    synchronised: bool | None
    largest_error_seconds: float = 0.0


@dataclass(frozen=True)
class HostFacts:
    """Everything that is looked at.

    Attributes
    ----------
    system, release
        Name and version of the kernel.
    family
        Family of the distribution: ``debian``, ``fedora``, ``suse``, ``arch``, or empty.
    user
        Who asks; ``root`` may do everything.
    kvm_device, kvm_usable, cpu_virtualisation
        Whether ``/dev/kvm`` exists, whether this user may open it, and whether the processor has VT-x or AMD-V
        (None where processors do not tell).
    packages
        Whether Python packages are there, by name.
    pressure
        Whether the kernel tells pressure stall information.
    traffic_problem
        Why traffic control did not work when it was tried; empty if it did.
    openvswitch
        ``running``, ``installed`` or ``absent``.
    configuration_problem
        What is wrong with ``forestall.toml``; empty if nothing.
    """

    system: str
    release: str
    family: str
    user: str
    kvm_device: bool
    kvm_usable: bool
    cpu_virtualisation: bool | None
    libvirt: LibvirtFacts
    cgroups: CgroupFacts
    state: StateFacts
    clock: ClockFacts
    packages: Mapping[str, bool] = field(default_factory=dict)
    pressure: bool = True
    traffic_problem: str = ""
    openvswitch: str = "absent"
    systemd: bool = True
    damon: bool = False
    configuration_problem: str = ""
