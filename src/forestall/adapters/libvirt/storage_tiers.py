"""Disks of VMs under libvirt on tiers, which are storage pools or folders; and how one is moved while its VM runs.

Sources: libvirt's virDomainBlockCopy, virDomainBlockJobAbort, virConnectGetAllDomainStats; formatdomain.html,
"mirror".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from forestall.adapters.files.writing import sync_folder
from forestall.adapters.libvirt.connection import Connection, Handle
from forestall.adapters.libvirt.disks import NOT_AS_THEY_ARE
from forestall.adapters.libvirt.errors import is_missing, translated
from forestall.adapters.qemu.images import has_backing, why_in_use, why_not_copied
from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.tiers import Copy, DiskName, Move, Standing, Tier, TierDisk

_STATISTICS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_COPY = libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_COUNTS = ("rd.reqs", "wr.reqs", "rd.times", "wr.times")
_SECTOR = 512
_AT_ONCE_BYTES = 1 << 20
"""So much of an image is on its way at a time; the VM's own requests wait behind it. QEMU's default is 16 MiB."""


class StorageTiers:
    """A :class:`~forestall.ports.tiers.DiskTiers` of one host.

    Parameters
    ----------
    connection
        To libvirt, on this host.
    tiers
        The quickest first: name of an active storage pool, or a folder from the root; and milliseconds of a request.
    """

    def __init__(self, connection: Connection, tiers: Sequence[tuple[str, float]]) -> None:
        self._connection, self._stated = connection, tuple(tiers)

    def tiers(self) -> tuple[Tier, ...]:
        """Every tier."""
        found = []
        for name, request_ms in self._stated:
            folder = self._folder(name)
            try:
                room = os.statvfs(folder)
            except OSError as error:
                raise HypervisorError(f"tier {name}: {folder}: {error.strerror}") from error
            why_kept = "" if os.access(folder, os.W_OK) else f"{folder} cannot be written to"
            found.append(Tier(name, folder, request_ms, room.f_bavail * room.f_frsize, why_kept))
        if len({os.path.realpath(tier.folder) for tier in found}) < len(found):
            raise HypervisorError(f"two of the tiers {', '.join(tier.name for tier in found)} are one folder")
        return tuple(found)

    def disks(self) -> tuple[TierDisk, ...]:
        """Every disk of a running VM; one that is busy, be it that the daemon asks it too, is not waited for."""
        folders = {os.path.realpath(tier.folder): tier.name for tier in self.tiers()}
        with translated("cannot read what disks were asked"):
            told = self._connection.handle().getAllDomainStats(libvirt.VIR_DOMAIN_STATS_BLOCK, _STATISTICS)
        found: list[TierDisk] = []
        for handle, counts in told:
            with suppress(HypervisorError):  # it has ended meanwhile
                found += _disks_of(handle, counts, folders)
        return tuple(found)

    def standing(self, move: Move) -> Standing:
        """How things stand with a disk."""
        handle = self._handle(move)
        if handle is None:
            return Standing("", "", None)
        with translated(f"cannot look at {move.vm_id}"):
            live = _disk(handle.XMLDesc(), move.target) if handle.isActive() else None
            kept = _disk(handle.XMLDesc(_DEFINITION), move.target) if handle.isPersistent() else None
            job = handle.blockJobInfo(move.target) if live is not None else None
        copy = None
        mirror = None if live is None else live.find("mirror")
        if mirror is not None and (_image(mirror) or mirror.get("file")) == move.destination:
            if not job:
                raise HypervisorError(f"libvirt does not say how far disk {move.target} of {move.vm_id} is copied")
            copy = Copy(int(job["cur"]), int(job["end"]), mirror.get("ready") == "yes")
        return Standing(_image(live), _image(kept), copy)

    def begin(self, move: Move) -> None:
        """Have QEMU mirror the image into a new one, which libvirt makes."""
        handle = self._running(move)
        with translated(f"cannot look at {move.vm_id}"):
            disk = _disk(handle.XMLDesc(), move.target)
        if disk is None or _image(disk) != move.source:
            raise HypervisorError(f"disk {move.target} of {move.vm_id} is not {move.source} any more")
        if os.path.lexists(move.destination):
            raise HypervisorError(f"{move.destination} is there already")
        image_format = _format(disk)
        if why := why_not_copied(move.source, image_format):
            raise Unsupported(f"{move.source} is not moved: {why}")
        there = Element("disk", type="file")
        ElementTree.SubElement(there, "driver", name="qemu", type=image_format)
        ElementTree.SubElement(there, "source", file=move.destination)
        flags = _COPY | (libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW if has_backing(move.source, image_format) else 0)
        speed = {
            libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: move.bytes_per_s,
            libvirt.VIR_DOMAIN_BLOCK_COPY_BUF_SIZE: _AT_ONCE_BYTES,
        }
        with translated(f"cannot copy {move.source} to {move.destination}"):
            handle.blockCopy(move.target, ElementTree.tostring(there, "unicode"), speed, flags)

    def settle(self, move: Move, path: str) -> None:
        """Write the image to the disk, and the definition of the VM."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(Path(path).parent)
        except OSError as error:
            raise HypervisorError(f"{path}: {error.strerror}") from error
        handle = self._handle(move)
        if handle is None:
            return
        with translated(f"cannot write {path} into the definition of {move.vm_id}"):
            if not handle.isPersistent():
                return
            disk = _disk(handle.XMLDesc(_DEFINITION), move.target)
            source = None if disk is None else disk.find("source")
            if disk is None or source is None or _image(disk) not in (move.source, move.destination):
                return  # somebody has set another one: it stays
            if _image(disk) != path:
                source.set("file", path)
                handle.updateDeviceFlags(ElementTree.tostring(disk, "unicode"), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            disk = _disk(handle.XMLDesc(_DEFINITION), move.target)
        if _image(disk) != path:
            raise HypervisorError(f"the definition of {move.vm_id} has {_image(disk)!r} still, not {path}")

    def switch(self, move: Move) -> None:
        """Have QEMU go over to the copy."""
        handle = self._running(move)
        with translated(f"cannot switch disk {move.target} of {move.vm_id} over to {move.destination}"):
            handle.blockJobAbort(move.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            there = _image(_disk(handle.XMLDesc(), move.target))
        if there != move.destination:
            raise HypervisorError(f"disk {move.target} of {move.vm_id} is {there} still, not {move.destination}")

    def end_copy(self, move: Move) -> None:
        """Have QEMU mirror no more."""
        if self.standing(move).copy is not None:
            with translated(f"cannot end the copying of disk {move.target} of {move.vm_id}"):
                self._running(move).blockJobAbort(move.target)

    def remove(self, move: Move, path: str) -> str:
        """Remove an image, unless a VM has it, running or not, or any process has it open as an image."""
        if not os.path.lexists(path):
            return ""
        if used := self._why_used(path):
            return f"{path} is kept: {used}"
        if not os.path.isfile(path) or os.path.islink(path):
            return f"{path} is kept: it is no plain file"
        if path == move.source and (used := why_in_use(path, self._format_of(move))):
            return f"{path} is kept: {used}"
        try:
            os.unlink(path)
            sync_folder(Path(path).parent)
        except OSError as error:
            return f"{path} is kept: {error.strerror}"
        for changed in (move.source, move.destination):
            self._tell_pools(changed)
        return ""

    def _why_used(self, path: str) -> str:
        """Which VM has an image in its description, running or not; or why that cannot be known. Empty: none."""
        real = os.path.realpath(path)
        try:
            with translated("cannot list the VMs"):
                handles = self._connection.handle().listAllDomains()
            for handle in handles:
                for xml in _descriptions(handle):
                    if any(os.path.realpath(used) == real for used in _files(xml)):
                        with translated("a VM"):
                            return f"{handle.name()} has it"
                    if any(os.path.realpath(self._volume(*volume)) == real for volume in _volumes(xml)):
                        with translated("a VM"):
                            return f"{handle.name()} has it"
        except HypervisorError as error:
            return f"it cannot be known whether a VM has it: {error}"
        return ""

    def _volume(self, pool: str, volume: str) -> str:
        """Path of a volume of a storage pool."""
        with translated(f"cannot tell where volume {volume} of the storage pool {pool} lies"):
            return str(self._connection.handle().storagePoolLookupByName(pool).storageVolLookupByName(volume).path())

    def _format_of(self, move: Move) -> str:
        """Format of the images of a disk, as the VM has them; without the VM, the one that has nothing to be read."""
        handle = self._handle(move)
        with translated(f"cannot look at {move.vm_id}"):
            disk = None if handle is None else _disk(handle.XMLDesc(), move.target)
        return "raw" if disk is None else _format(disk)

    def _tell_pools(self, path: str) -> None:
        """Have the storage pools see what is in their folders now; without them nothing is lost."""
        with suppress(HypervisorError), translated("pools"):
            self._connection.handle().storagePoolLookupByTargetPath(os.path.dirname(path)).refresh()

    def _folder(self, name: str) -> str:
        if name.startswith("/"):
            return name
        with translated(f"tier {name}: is no storage pool"):
            pool = self._connection.handle().storagePoolLookupByName(name)
            if not pool.isActive():
                raise HypervisorError(f"tier {name}: the storage pool is not active")
            root = ElementTree.fromstring(pool.XMLDesc())
        if (folder := root.findtext("target/path")) and root.get("type") in ("dir", "fs", "netfs"):
            return folder
        raise Unsupported(f"tier {name}: a storage pool of type {root.get('type')} has no folder of images")

    def _handle(self, move: Move) -> Handle | None:
        """The VM whatever its name, running or not; None if there is none."""
        try:
            with translated(f"cannot look up {move.vm_id}"):
                return self._connection.handle().lookupByUUIDString(move.uuid)
        except HypervisorError as error:
            if is_missing(error.__cause__):
                return None
            raise

    def _running(self, move: Move) -> Handle:
        handle = self._handle(move)
        with translated(f"cannot look at {move.vm_id}"):
            if handle is None or not handle.isActive():
                raise HypervisorError(f"{move.vm_id} does not run")
        return handle


def _disks_of(handle: Handle, counts: Mapping[str, Any], folders: Mapping[str, str]) -> Iterator[TierDisk]:
    with translated("the VM is gone"):
        vm_id, uuid, run = str(handle.name()), str(handle.UUIDString()), str(handle.ID())
        root = ElementTree.fromstring(handle.XMLDesc())
        whole = _whole(handle)
    place = {str(counts.get(f"block.{i}.name")): i for i in range(int(counts.get("block.count", 0)))}
    for disk in root.findall("devices/disk"):
        if disk.get("device", "disk") != "disk":
            continue
        target, path = _target(disk), _image(disk)
        size_bytes = 0
        with suppress(OSError):
            size_bytes = os.stat(path).st_blocks * _SECTOR
        told = {key: counts.get(f"block.{place.get(target)}.{key}") for key in _COUNTS}
        yield TierDisk(
            DiskName(vm_id, target),
            run,
            uuid,
            path,
            folders.get(os.path.dirname(os.path.realpath(path)), "") if path else "",
            size_bytes,
            int(told["rd.reqs"] or 0) + int(told["wr.reqs"] or 0),
            (int(told["rd.times"] or 0) + int(told["wr.times"] or 0)) / 1e9,
            whole or _refusal(disk),
            counted=None not in told.values(),
        )


def _whole(handle: Handle) -> str:
    """Why no disk of a VM can be moved; empty if they can."""
    try:
        with translated("its snapshots cannot be counted"):
            found = handle.snapshotNum() or handle.listAllCheckpoints()
    except HypervisorError as error:
        return str(error)
    return "its VM has snapshots or checkpoints, which would lose it" if found else ""


def _refusal(disk: Element) -> str:
    """Why a disk cannot be moved; empty if it can."""
    if disk.get("type") != "file" or not _image(disk):
        return f"is no image file, but of type {disk.get('type')}"
    for tag, what in (("readonly", "is read only"), ("shareable", "is shared by VMs"), ("transient", "is transient")):
        if disk.find(tag) is not None:
            return what
    return next((f"has {how}" for path, how in NOT_AS_THEY_ARE.items() if disk.find(path) is not None), "")


def _disk(xml: str, target: str) -> Element | None:
    disks = ElementTree.fromstring(xml).findall("devices/disk")
    return next((disk for disk in disks if _target(disk) == target), None)


def _target(disk: Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _image(disk: Element | None) -> str:
    source = None if disk is None else disk.find("source")
    return "" if source is None else source.get("file", "")


def _format(disk: Element) -> str:
    driver = disk.find("driver")
    return "raw" if driver is None else driver.get("type", "raw")


def _descriptions(handle: Handle) -> list[str]:
    """What a VM runs with, and what it will be started with; none of one that has gone meanwhile."""
    try:
        with translated("cannot read the description of a VM"):
            found = [str(handle.XMLDesc())]
            return [*found, str(handle.XMLDesc(_DEFINITION))] if handle.isPersistent() else found
    except HypervisorError as error:
        if is_missing(error.__cause__):
            return []
        raise


def _volumes(xml: str) -> Iterator[tuple[str, str]]:
    """Storage pool and name of each volume that a description names."""
    for source in ElementTree.fromstring(xml).iter("source"):
        if source.get("pool"):
            yield source.get("pool", ""), source.get("volume", "")


def _files(xml: str) -> set[str]:
    """Every file that a description names: images, and those that they are laid over."""
    return {path for element in ElementTree.fromstring(xml).iter() if (path := element.get("file"))}
