"""Who writes to the memory of a VM besides the threads of its process: the kernel, devices, and other processes."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from forestall.model.errors import HypervisorError, Unsupported

_UNSTOPPABLE = ("/dev/vhost-", "/dev/vfio/", "anon_inode:kvm-vfio")
_SHARED = "vhost-user"
_MAPPED = re.compile(r"^\S+ \S+ \S+ \S+ (\d+) +/memfd:", re.MULTILINE)
_ASYNCHRONOUS = "anon_inode:[io_uring]", "/[aio]"
_SCANNED = re.compile(r"^pgscan_anon (\d+)$", re.MULTILINE)
FRESH_SECONDS = 1.0
UNSETTLED_SECONDS = 60.0
"""For so long after a device was opened somebody may begin to share the memory."""

Files = tuple[tuple[str, str], ...]
"""What a process has open: names of descriptors, and what they are."""


class OtherWriters:
    """Knows whether a VM has any.

    Who shares the memory (the back end of a vhost-user device) must be told of it, and of when there is something in
    it, through descriptors of the VM's process. So all processes of the host are looked at again when that process has
    others open than when they were last, and for a while after that.

    Parameters
    ----------
    pid
        Process of the VM.
    inode
        Which memfd its memory is.
    root
        Where ``/proc`` is.
    """

    def __init__(self, pid: int, inode: int, root: Path = Path("/proc")) -> None:
        self._pid, self._inode, self._root = pid, inode, root
        self._seen: Files | None = None
        self._changed_at = float("-inf")
        self._scanned = self._pages_scanned()

    def refuse(self) -> None:
        """Do nothing if nobody else writes to the memory of the VM.

        Raises
        ------
        Unsupported
            Somebody may: vhost, a device that was passed through, another process.
        HypervisorError
            The process is gone.
        """
        seen, now = open_files(self._pid, self._root), time.monotonic()
        if seen != self._seen or now - self._changed_at < UNSETTLED_SECONDS:
            self._refuse(seen)
        if seen != self._seen:
            self._changed_at = now if self._seen is not None else float("-inf")
            self._seen = seen
        if self._scanned != self._pages_scanned() and self._is_asynchronous():
            # A page into which the kernel still reads from a disk may have been taken out of the page table meanwhile.
            raise Unsupported("the host pages memory out while the VM's disks are read by the kernel (io_uring, aio)")

    def are_the_same(self) -> bool:
        """Whether nothing was opened or closed since :meth:`refuse`."""
        return open_files(self._pid, self._root) == self._seen

    def _refuse(self, files: Files) -> None:
        for _, target in files:
            if target.startswith(_UNSTOPPABLE):
                raise Unsupported(f"{target} writes to its memory also while it stands still")
        if _SHARED in _text(self._root / f"{self._pid}/cmdline"):
            raise Unsupported(f"it has a {_SHARED} device, whose back end does not stand still with it")
        # What is known of everybody from a moment ago is enough when the VM is looked at for the first time.
        for pid in _sharers(self._root, FRESH_SECONDS if self._seen is None else 0.0).get(self._inode, ()):
            if pid not in (self._pid, os.getpid()):
                raise Unsupported(f"process {pid} shares its memory, and does not stand still with it")

    def _is_asynchronous(self) -> bool:
        uring, aio = _ASYNCHRONOUS
        return any(target == uring for _, target in self._seen or ()) or aio in _text(self._root / f"{self._pid}/maps")

    def _pages_scanned(self) -> str:
        """How many pages the kernel has looked at so far to page them out."""
        found = _SCANNED.search(_text(self._root / "vmstat"))
        return found[1] if found else ""


_known: dict[Path, tuple[float, dict[int, list[int]]]] = {}


def _sharers(root: Path, fresh_seconds: float) -> dict[int, list[int]]:
    """Processes that have each memfd mapped, not longer ago than so many seconds."""
    at, found = _known.get(root, (float("-inf"), {}))
    if time.monotonic() - at <= fresh_seconds:
        return found
    found = {}
    for folder in root.iterdir():
        if folder.name.isdigit():
            for inode in set(_MAPPED.findall(_text(folder / "maps"))):
                found.setdefault(int(inode), []).append(int(folder.name))
    _known[root] = time.monotonic(), found
    return found


def open_files(pid: int, root: Path = Path("/proc")) -> Files:
    """What a process has open.

    Raises
    ------
    HypervisorError
        The process is gone.
    """
    found = []
    try:
        for name in os.listdir(root / f"{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                found.append((name, os.readlink(root / f"{pid}/fd/{name}")))
    except OSError as error:
        raise HypervisorError(f"open files of process {pid}: {error.strerror}") from error
    return tuple(sorted(found))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
