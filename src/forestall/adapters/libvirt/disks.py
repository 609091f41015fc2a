"""Drives of a domain, and which of them go through the host's page cache: https://libvirt.org/formatdomain.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from forestall.adapters.qemu.disk_places import Image

THROUGH_PAGE_CACHE = ("default", "writeback", "writethrough", "unsafe")
"""Modes of a disk in which QEMU reads through the host's page cache (libvirt's ``driver/@cache``)."""
NOT_AS_THEY_ARE = {
    "source/encryption": "encrypted",
    "source/slices": "a slice of its file",
    "source/dataStore": "its data in another file",
}
"""Elements of disks whose bytes lie elsewhere than their offsets say."""


@dataclass(frozen=True)
class Disks:
    """Drives of a VM.

    Attributes
    ----------
    staged
        Images, by target, of those that go through the page cache.
    others
        How the others are set, by target.
    """

    staged: Mapping[str, Image] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """All drives."""
        return (*self.staged, *self.others)

    def why_not(self) -> str:
        """Why nothing is staged, where nothing is."""
        if not self.others:
            return "it has no disk"
        how = ", ".join(f"{target}: {how}" for target, how in self.others.items())
        return f"none of its disks goes through the host's page cache ({how})"


def disks_of(xml: str) -> Disks:
    """Drives from a live domain's XML."""
    staged, others = {}, {}
    for disk in ElementTree.fromstring(xml).findall("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is None or source is None:
            continue
        name, driver = target.get("dev", ""), disk.find("driver")
        if how := _elsewhere(disk, source, driver):
            others[name] = how
            continue
        alone = disk.find("shareable") is None and disk.find("readonly") is None
        image_format = "raw" if driver is None else driver.get("type", "raw")
        staged[name] = Image(source.get("file") or source.get("dev") or "", image_format, alone)
    return Disks(staged, others)


def _elsewhere(disk: Element, source: Element, driver: Element | None) -> str:
    """Why a drive's blocks are not to be found in the page cache; empty if they are."""
    if not (source.get("file") or source.get("dev")):
        return str(disk.get("type", "no file"))
    if disk.get("device", "disk") not in ("disk", "lun"):
        return str(disk.get("device"))
    mode = "default" if driver is None else driver.get("cache", "default")
    if mode not in THROUGH_PAGE_CACHE:
        return f"cache={mode}"
    return next((how for path, how in NOT_AS_THEY_ARE.items() if disk.find(path) is not None), "")
