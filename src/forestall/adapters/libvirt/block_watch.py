"""What a VM asks of its disks, by QEMU's own trace: switched on in a running VM over its monitor, and off again.

QEMU writes each request into a file in memory (adapters/linux/scratch_file) that it is given as a descriptor. The file
cannot grow beyond its bound, and QEMU never waits for who reads. When this process is killed, QEMU traces on into the
full file, until :func:`clear_up` switches it off. libvirt marks a VM whose monitor somebody has used ("tainted:
custom-monitor").

Sources: libvirt's virDomainQemuMonitorCommandWithFiles; QEMU's ``add-fd``, ``trace-event-set-state``, ``logfile``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import numpy as np

from forestall.adapters.libvirt.connection import Connection, Handle, NotRunning
from forestall.adapters.libvirt.disks import disks_of
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.linux.proc import Processes
from forestall.adapters.qemu.disk_places import Asker, DiskPlaces
from forestall.adapters.qemu.trace_log import EVENTS, Traced, TraceLog, tracer_of, traces_on_here
from forestall.adapters.qemu.which_disk import Counts, WhichDisk
from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.blocks import DiskFile, Requests

LOOK_AGAIN_SECONDS = 60.0
MOST_UNCLEAR = 10_000
"""So many requests are kept until it is known to which disk they were."""
_HMP = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
_THEIRS = ("-D", "-d", "-trace")
"""Options of a QEMU that somebody else traces."""


class TracedDisks:
    """A :class:`~forestall.ports.blocks.BlockWatch` of one VM under libvirt.

    Parameters
    ----------
    connection
        To libvirt.
    vm_id, pid
        Name of the VM, and its process.
    asker
        Tells where the bytes of the disk in an image lie.

    Raises
    ------
    Unsupported
        None of its disks goes through the page cache, or it cannot be traced; the text says why.
    HypervisorError
        It is gone.
    """

    def __init__(self, connection: Connection, vm_id: str, pid: int, asker: Asker) -> None:
        self._connection, self._vm_id, self._pid, self._asker = connection, vm_id, pid, asker
        self._processes = Processes()
        self._uuid = str(connection.domain(vm_id).UUIDString())
        self._disks = disks_of(self._description())
        if not self._disks.staged:
            raise Unsupported(self._disks.why_not())
        _refuse_theirs(pid)
        self.files: list[DiskFile] = []
        self._places = DiskPlaces(self._disks.staged, asker, self.files)
        self._log: TraceLog | None = None
        self._which = WhichDisk({})
        self._unclear = Traced.none()
        self._look_again_at = 0.0
        self.resume()

    def take(self) -> Requests:
        """What it asked for since the last call."""
        if self._log is None:
            return Requests.none()
        now, traced, which = time.monotonic(), self._log.take(), self._which
        if now >= self._look_again_at and not self._processes.is_stopped(self._pid):
            self._look_again(now)
        if not len(traced.at):
            if not os.path.exists(f"/proc/{self._pid}"):
                raise HypervisorError(f"{self._vm_id} is gone")
            return Requests.none()
        which.take_in(traced)
        if which.is_due(now) and not self._processes.is_stopped(self._pid):
            which.compare(self._counts(), now)
        if len(self._unclear.at):
            traced = Traced.together([self._unclear, traced])
        clear = np.isin(traced.backend, list(which.found))
        self._unclear = traced.chosen(~clear).chosen(slice(-MOST_UNCLEAR, None))
        return self._places.locate(traced.chosen(clear), which.found)

    def rest(self) -> None:
        """Switch the trace off."""
        if self._log is not None:
            with suppress(NotRunning):
                switch_off(self._handle())
            self._log.close()
            self._log = None

    def resume(self) -> None:
        """Switch the trace on."""
        if self._log is not None:
            return
        handle, log = self._handle(), TraceLog()
        try:
            _write_into(handle, log.file)
            self._which = WhichDisk(self._counts(), self._which.found)
            _switch(handle, enable=True)
        except HypervisorError:
            log.close()
            with suppress(HypervisorError):
                switch_off(handle)
            raise
        self._log, self._look_again_at = log, time.monotonic() + LOOK_AGAIN_SECONDS

    def close(self) -> None:
        """Switch the trace off for good."""
        try:
            self.rest()
        finally:
            if self._log is not None:
                self._log.close()
                self._log = None

    def _look_again(self, now: float) -> None:
        """See whether the disks are what they were, and where their bytes lie by now."""
        self._look_again_at = now + LOOK_AGAIN_SECONDS
        if disks_of(self._description()) != self._disks:
            raise HypervisorError("its disks have changed: they are looked at anew")
        self._places.look_again()

    def _handle(self) -> Handle:
        """The VM, by a connection that lives; not another one that has its name by now."""
        _refuse_stopped(self._pid)
        handle = self._connection.domain(self._vm_id)
        if str(handle.UUIDString()) != self._uuid:
            raise NotRunning(f"{self._vm_id} is another VM by now")
        return handle

    def _description(self) -> str:
        handle = self._handle()
        with translated(f"cannot read the description of {self._vm_id!r}"):
            return str(handle.XMLDesc())

    def _counts(self) -> dict[str, Counts]:
        """Bytes read and written of each drive, as QEMU counts them; not of those that it does not count."""
        handle, found = self._handle(), {}
        for target in self._disks.targets:
            with suppress(HypervisorError), translated(target):
                _, read, _, written, _ = handle.blockStats(target)
                found[target] = read, written
        return found


def watches(connection: Connection) -> Callable[[str, int], TracedDisks]:
    """What opens a watch of a VM by its name and process."""
    asker = Asker()
    return lambda vm_id, pid: TracedDisks(connection, vm_id, pid, asker)


def switch_off(handle: Handle) -> None:
    """End the trace of a VM, and let go of the file."""
    _switch(handle, enable=False)
    _tell(handle, f"logfile {os.devnull}")


def clear_up(connection: Connection) -> dict[str, str]:
    """Switch off what processes that are gone have left on; names of those VMs, and why one is traced still.

    Nobody is asked where no process of this host is traced.

    Raises
    ------
    HypervisorError
        Nobody answers.
    """
    if not connection.is_local or not (left := traces_on_here()):
        return {}
    with translated("cannot list the VMs"):
        domains = connection.handle().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    outcome = {}
    for handle in domains:
        with translated("cannot name a VM"):
            uuid, vm_id = str(handle.UUIDString()), str(handle.name())
        for pid in [pid for pid, words in left.items() if uuid in words]:
            outcome[vm_id] = ""
            try:
                _refuse_stopped(pid)
                switch_off(handle)
            except HypervisorError as error:
                outcome[vm_id] = str(error)
    return outcome


def _refuse_stopped(pid: int) -> None:
    """A process that is stopped does not answer, and all other VMs would wait for it."""
    if Processes().is_stopped(pid):
        raise HypervisorError("its process is stopped")


def _refuse_theirs(pid: int) -> None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError as error:
        raise HypervisorError(f"its process is gone: {error.strerror}") from error
    if theirs := [word for word in _THEIRS if word in words]:
        raise Unsupported(f"somebody else traces its QEMU ({', '.join(theirs)})")
    if (other := tracer_of(pid)) is not None and other.is_alive and other.pid != os.getpid():
        raise Unsupported(f"another process of Forestall traces it ({other.pid})")


def _write_into(handle: Handle, file: int) -> None:
    """Have QEMU write its log into a file that is handed to it."""
    given = _ask(handle, {"execute": "add-fd", "arguments": {"opaque": "forestall"}}, file)
    try:
        _tell(handle, f"logfile /proc/self/fd/{given['fd']}")
    finally:
        _ask(handle, {"execute": "remove-fd", "arguments": {"fdset-id": given["fdset-id"]}})


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
