"""What a VM asks of its disks, by QEMU's own trace: switched on in a running VM over its monitor, and off again.

QEMU writes each request into a file in memory (adapters/linux/scratch_file) that it is given as a descriptor. The file
cannot grow beyond its bound and vanishes with its last user, so nothing has to be put back when this process dies; QEMU
never waits for who reads. libvirt marks a VM whose monitor somebody has used ("tainted: custom-monitor").

Sources: libvirt's virDomainQemuMonitorCommandWithFiles; QEMU's ``add-fd``, ``trace-event-set-state``, ``logfile``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import libvirt_qemu
import numpy as np
from numpy.typing import NDArray

from forestall.adapters.libvirt.connection import Connection, Handle
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.linux.proc import Processes
from forestall.adapters.qemu.extents import Extents, extents_of
from forestall.adapters.qemu.trace_log import EVENTS, NAME, Traced, TraceLog
from forestall.adapters.qemu.which_disk import WhichDisk
from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.blocks import DiskFile, Requests

THROUGH_PAGE_CACHE = ("default", "writeback", "writethrough", "unsafe")
"""Modes of a disk in which QEMU reads through the host's page cache (libvirt's ``driver/@cache``)."""
LOOK_AGAIN_SECONDS, COMPARE_SECONDS = 60.0, 0.1
MOST_UNCLEAR = 10_000
"""So many requests are kept until it is known to which disk they were."""
_HMP = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
_THEIRS = ("-D", "-d", "-trace")
"""Options of a QEMU that somebody else traces."""
Ask = Callable[[str, str], Extents]


class TracedDisks:
    """A :class:`~forestall.ports.blocks.BlockWatch` of one VM under libvirt.

    Parameters
    ----------
    connection
        To libvirt.
    vm_id, pid
        Name of the VM, and its process.
    ask
        Tells where the bytes of the disk in an image (path, format) lie.

    Raises
    ------
    Unsupported
        None of its disks goes through the page cache, or it cannot be traced; the text says why.
    HypervisorError
        It is gone.
    """

    def __init__(self, connection: Connection, vm_id: str, pid: int, ask: Ask = extents_of) -> None:
        self._vm_id, self._handle = vm_id, connection.domain(vm_id)
        self._pid = pid
        with translated(f"cannot read the description of {vm_id!r}"):
            disks, others = disks_of(self._handle.XMLDesc())
        if not disks:
            why = f"none of its disks goes through the host's page cache ({others})" if others else "it has no disk"
            raise Unsupported(why)
        _refuse_theirs(pid)
        self.files: list[DiskFile] = []
        self._places = _Places(disks, ask, self.files)
        self._log: TraceLog | None = None
        self._which = WhichDisk({})
        self._unclear = Traced.none()
        self._compare_at = 0.0
        self.resume()

    def take(self) -> Requests:
        """What it asked for since the last call."""
        if self._log is None:
            return Requests.none()
        traced, which = self._log.take(), self._which
        if not len(traced.at):
            if not os.path.exists(f"/proc/{self._pid}"):
                raise HypervisorError(f"{self._vm_id} is gone")
            return Requests.none()
        which.take_in(traced)
        if which.is_open and time.monotonic() >= self._compare_at:
            self._compare_at = time.monotonic() + COMPARE_SECONDS
            which.compare(self._counts())
        if len(self._unclear.at):
            traced = Traced.together([self._unclear, traced])
        clear = np.isin(traced.backend, list(which.found))
        self._unclear = traced.chosen(~clear).chosen(slice(-MOST_UNCLEAR, None))
        return self._places.locate(traced.chosen(clear), which.found)

    def rest(self) -> None:
        """Switch the trace off."""
        log, self._log = self._log, None
        if log is not None:
            log.close()
            with suppress(HypervisorError):  # it is gone, and the trace with it
                switch_off(self._handle)

    def resume(self) -> None:
        """Switch the trace on."""
        if self._log is not None:
            return
        log = TraceLog()
        try:
            given = _ask(self._handle, {"execute": "add-fd", "arguments": {"opaque": NAME}}, log.file)
            _tell(self._handle, f"logfile /proc/self/fd/{given['fd']}")
            _ask(self._handle, {"execute": "remove-fd", "arguments": {"fdset-id": given["fdset-id"]}})
            self._which = WhichDisk(self._counts(), self._which.found)
            _switch(self._handle, enable=True)
        except HypervisorError:
            log.close()
            raise
        self._log = log

    def close(self) -> None:
        """Switch the trace off for good."""
        self.rest()
        self._places.close()

    def _counts(self) -> dict[str, tuple[int, int]]:
        """Bytes read and written of each disk and drive, as QEMU counts them."""
        found = {}
        for target in self._places.targets:
            with suppress(HypervisorError), translated(target):
                _, read, _, written, _ = self._handle.blockStats(target)
                found[target] = read, written
        return found


def switch_off(handle: Handle) -> None:
    """End the trace of a VM, and let go of the file."""
    _switch(handle, enable=False)
    _tell(handle, f"logfile {os.devnull}")


def is_traced(pid: int) -> bool:
    """Whether a process has our file open: it is traced, even if who has switched it on is gone."""
    folder = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        return any(os.readlink(folder / name).rpartition("/")[2] == NAME for name in os.listdir(folder))
    return False


def disks_of(xml: str) -> tuple[dict[str, tuple[str, str] | None], str]:
    """Drives of a domain: target to path and format of its image, None where it does not go through the page cache.

    Empty if none does; the text then says how the disks are set.
    """
    drives: dict[str, tuple[str, str] | None] = {}
    modes = []
    for disk in ElementTree.fromstring(xml).findall("devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is None or source is None:
            continue
        path = source.get("file") or source.get("dev") or ""
        mode = "default" if driver is None else driver.get("cache", "default")
        image_format = "raw" if driver is None else driver.get("type", "raw")
        staged = bool(path) and mode in THROUGH_PAGE_CACHE and disk.get("device", "disk") in ("disk", "lun")
        drives[target.get("dev", "")] = (path, image_format) if staged else None
        modes.append(f"{target.get('dev')}: {f'cache={mode}' if path else disk.get('type', 'no file')}")
    return (drives if any(drives.values()) else {}), ", ".join(modes)


class _Places:
    """Where on the host the bytes of a VM's disks lie; asked in the background, now and then anew."""

    def __init__(self, disks: dict[str, tuple[str, str] | None], ask: Ask, files: list[DiskFile]) -> None:
        self.targets = tuple(disks)
        self._disks, self._ask, self._files = disks, ask, files
        self._extents: dict[str, Extents] = {}
        self._closed = threading.Event()
        for target, disk in disks.items():
            if disk is not None and disk[1] == "raw":
                self._extents[target] = ask(*disk)
        if len(self._extents) < sum(disk is not None for disk in disks.values()):
            threading.Thread(target=self._keep_asking, name="extents", daemon=True).start()

    def locate(self, traced: Traced, which: dict[int, str]) -> Requests:
        """Requests whose place is known."""
        parts, order = [], []
        for backend in np.unique(traced.backend).tolist():
            extents = self._extents.get(which.get(backend, ""))
            if extents is None:
                continue
            (own,) = np.nonzero(traced.backend == backend)
            known, file, offset, size = extents.locate(traced.offset_bytes[own], traced.size_bytes[own])
            own = own[known]
            numbers = self._numbers(extents)[file[known]]
            parts.append(Requests(traced.at[own], numbers, offset[known], size[known], traced.write[own]))
            order.append(own)
        if not parts:
            return Requests.none()
        return Requests.together(parts).chosen(np.argsort(np.concatenate(order), kind="stable"))

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _numbers(self, extents: Extents) -> NDArray[np.int32]:
        """Index among the VM's files of each file of a disk."""
        self._files.extend(file for file in extents.files if file not in self._files)
        return np.array([self._files.index(file) for file in extents.files], np.int32)

    def _keep_asking(self) -> None:
        while True:
            for target, disk in self._disks.items():
                if disk is not None and disk[1] != "raw" and not self._closed.is_set():
                    with suppress(HypervisorError):  # what was known stays
                        self._extents[target] = self._ask(*disk)
            if self._closed.wait(LOOK_AGAIN_SECONDS):
                return


def _refuse_theirs(pid: int) -> None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError as error:
        raise HypervisorError(f"its process is gone: {error.strerror}") from error
    if theirs := [word for word in _THEIRS if word in words]:
        raise Unsupported(f"somebody else traces its QEMU ({', '.join(theirs)})")


def _switch(handle: Handle, *, enable: bool) -> None:
    for event in EVENTS:
        arguments = {"name": event, "enable": enable, "ignore-unavailable": not enable}
        _ask(handle, {"execute": "trace-event-set-state", "arguments": arguments})


def _ask(handle: Handle, command: dict[str, Any], *files: int) -> dict[str, Any]:
    """Have QEMU's monitor do something (QMP); what it returns."""
    doing = f"QEMU cannot {command['execute']}"
    with translated(doing):
        if files:
            said, _ = libvirt_qemu.qemuMonitorCommandWithFiles(handle, json.dumps(command), list(files), 0)
        else:
            said = libvirt_qemu.qemuMonitorCommand(handle, json.dumps(command), 0)
    answer = json.loads(said)
    if "error" in answer:
        raise Unsupported(f"{doing}: {answer['error'].get('desc', 'it gives no reason')}")
    found: dict[str, Any] = answer.get("return", {})
    return found


def _tell(handle: Handle, line: str) -> None:
    """Have QEMU's monitor for people do something that the other one cannot (HMP); it says only what goes wrong."""
    with translated(f"QEMU cannot {line.split()[0]}"):
        said: str = libvirt_qemu.qemuMonitorCommand(handle, line, _HMP)
    if said.strip():
        raise Unsupported(" ".join(said.split()))


def watches(connection: Connection) -> Callable[[str, int], TracedDisks]:
    """What opens a watch of a VM by its name and process."""
    return lambda vm_id, pid: TracedDisks(connection, vm_id, pid)


def clear_up(connection: Connection) -> list[str]:
    """Switch off what somebody who is gone has left on; names of those VMs.

    Raises
    ------
    HypervisorError
        Nobody answers, or a VM cannot be reached.
    """
    if not connection.is_local:
        return []
    with translated("cannot list the VMs"):
        domains = connection.handle().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        handles = {handle.UUIDString(): handle for handle in domains}
    traced = [handles[uuid] for uuid, pid in Processes().of_vms(handles).items() if is_traced(pid)]
    for handle in traced:
        switch_off(handle)
    return [str(handle.name()) for handle in traced]
