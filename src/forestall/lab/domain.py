"""The definition of a guest for libvirt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from forestall.guest.ports import PORT_NAME
from forestall.lab.accelerator import Accelerator
from forestall.lab.place import Place
from forestall.lab.plan import GuestPlan, Pace

CHANNEL, QEMU_CHANNEL = "org.forestall.lab.0", "org.qemu.guest_agent.0"
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=1 psi=1 swiotlb=noforce memhp_default_state=online_movable"
TRANSLATED_ARGUMENTS = "tsc=reliable clocksource=tsc hpet=disable mitigations=off"
"""On the translator a look at any other clock leaves the guest, and there is nothing to mitigate."""
AGENT_BUDGET_RATIO, TRANSLATED_AGENT_BUDGET_RATIO = 0.01, 0.12
"""Share of a core that Forestall's agent may use in a guest; translated, everything costs several times as much."""
TRANSLATED_CODE_MIB = 64
MEMORY_BLOCK_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Boot:
    """What every guest starts from, and how all of them live; ``epoch`` is midnight of their first day, seconds."""

    kernel: Path
    initramfs: Path
    accelerator: Accelerator
    pace: Pace
    epoch: float


def domain_xml(place: Place, plan: GuestPlan, boot: Boot) -> str:
    """The definition of a guest; see libvirt's "Domain XML format"."""
    kvm = boot.accelerator is Accelerator.KVM
    domain = Element("domain", type="kvm" if kvm else "qemu")
    _text(domain, "name", place.domain(plan.name))
    _text(domain, "uuid", uuid5(NAMESPACE_URL, place.domain(plan.name)))
    _memory(domain, plan)
    _text(domain, "vcpu", plan.max_cpus, placement="static", current=str(plan.cpus))
    _boot(domain, plan, boot)
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    if not kvm:
        _text(SubElement(features, "tcg"), "tb-cache", TRANSLATED_CODE_MIB, unit="MiB")
    _cpu(domain, plan, kvm)
    SubElement(domain, "clock", offset="utc")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "restart")
    _devices(SubElement(domain, "devices"), place, plan)
    return ElementTree.tostring(domain, encoding="unicode")


def _text(parent: Element, tag: str, text: object, **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = str(text)
    return element


def _memory(domain: Element, plan: GuestPlan) -> None:
    """Memory that other processes can map, so that it can be looked at and staged from outside."""
    if plan.growth_bytes:
        _text(domain, "maxMemory", plan.memory_bytes + plan.growth_bytes, slots="2", unit="bytes")
    _text(domain, "memory", plan.memory_bytes, unit="bytes")
    backing = SubElement(domain, "memoryBacking")
    SubElement(backing, "source", type="memfd")
    SubElement(backing, "access", mode="shared")


def _boot(domain: Element, plan: GuestPlan, boot: Boot) -> None:
    ours = {
        "guest": plan.name,
        "role": plan.role,
        "day": boot.pace.day_seconds,
        "load": boot.pace.load_ratio,
        "report": boot.pace.report_seconds,
        "epoch": boot.epoch,
        "port": plan.port,
        "address": f"{plan.address}/24",
        "gateway": plan.host_address,
        "budget": AGENT_BUDGET_RATIO if boot.accelerator is Accelerator.KVM else TRANSLATED_AGENT_BUDGET_RATIO,
    }
    arguments = " ".join(f"forestall.{key}={value}" for key, value in ours.items())
    if boot.accelerator is not Accelerator.KVM:
        arguments = f"{TRANSLATED_ARGUMENTS} {arguments}"
    system = SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="pc")
    _text(system, "kernel", boot.kernel)
    _text(system, "initrd", boot.initramfs)
    _text(system, "cmdline", f"{KERNEL_ARGUMENTS} {arguments}")


def _cpu(domain: Element, plan: GuestPlan, kvm: bool) -> None:
    if kvm:
        cpu = SubElement(domain, "cpu", mode="host-passthrough")
    else:
        cpu = SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64", fallback="forbid")
    if plan.growth_bytes:
        numa = SubElement(cpu, "numa")
        cpus = f"0-{plan.max_cpus - 1}"
        SubElement(numa, "cell", id="0", cpus=cpus, memory=str(plan.memory_bytes // 1024), unit="KiB")


def _devices(devices: Element, place: Place, plan: GuestPlan) -> None:
    folder = place.guest_folder(plan.name)
    disk = SubElement(devices, "disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type="qcow2", cache="none", io="threads")
    SubElement(disk, "source", file=str(folder / "disk.qcow2"))
    SubElement(disk, "target", dev="vda", bus="virtio")

    interface = SubElement(devices, "interface", type="ethernet")
    SubElement(interface, "mac", address=plan.mac)
    SubElement(interface, "target", dev=plan.tap, managed="no")
    SubElement(interface, "model", type="virtio")
    driver = SubElement(interface, "driver")  # without offloads every packet is what shaping takes it for
    for side in ("host", "guest"):
        SubElement(driver, side, csum="off", tso4="off", tso6="off", ecn="off", ufo="off")

    sockets = {
        CHANNEL: place.port(plan.name),
        QEMU_CHANNEL: place.agent(plan.name),
        PORT_NAME: place.profile(plan.name),
    }
    for name, socket in sockets.items():
        channel = SubElement(devices, "channel", type="unix")
        SubElement(channel, "source", mode="bind", path=str(socket))
        SubElement(channel, "target", type="virtio", name=name)

    serial = SubElement(devices, "serial", type="file")
    SubElement(serial, "source", path=str(folder / "console.log"))
    balloon = SubElement(devices, "memballoon", model="virtio")
    SubElement(balloon, "stats", period="1")
    if plan.growth_bytes:
        _growing_memory(devices, plan)


def _growing_memory(devices: Element, plan: GuestPlan) -> None:
    memory = SubElement(devices, "memory", model="virtio-mem")
    target = SubElement(memory, "target")
    _text(target, "size", plan.growth_bytes // 1024, unit="KiB")
    _text(target, "node", 0)
    _text(target, "block", MEMORY_BLOCK_BYTES // 1024, unit="KiB")
    _text(target, "requested", 0, unit="KiB")
