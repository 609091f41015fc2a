"""Who writes to the memory of a VM besides the threads of its process: the kernel, devices, and other processes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from forestall.model.errors import HypervisorError, Unsupported

_UNSTOPPABLE = ("/dev/vhost-", "/dev/vfio/", "anon_inode:kvm-vfio")
_SOCKET = "socket:"


class OtherWriters:
    """Knows whether a VM has any.

    Processes that share the memory (back ends of vhost-user) are told of it through a socket of the VM's process. So
    all processes of the host are looked at only when that process has another set of sockets than it had then.

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
        self._sockets: frozenset[str] | None = None

    def refuse(self) -> None:
        """Do nothing if nobody else writes to the memory of the VM.

        Raises
        ------
        Unsupported
            Somebody may: vhost, a device that was passed through, another process.
        HypervisorError
            The process is gone.
        """
        targets = open_files(self._pid, self._root).values()
        for target in targets:
            if target.startswith(_UNSTOPPABLE):
                raise Unsupported(f"{target} writes to its memory also while it stands still")
        sockets = frozenset(target for target in targets if target.startswith(_SOCKET))
        if sockets != self._sockets:
            self._refuse_sharers()
            self._sockets = sockets

    def _refuse_sharers(self) -> None:
        known = {self._pid, os.getpid()}
        for folder in self._root.iterdir():
            if folder.name.isdigit() and int(folder.name) not in known and self._shares(folder):
                raise Unsupported(f"process {folder.name} shares its memory, and does not stand still with it")

    def _shares(self, folder: Path) -> bool:
        with suppress(OSError):
            for line in (folder / "maps").read_text("utf-8", "replace").splitlines():
                fields = line.split(maxsplit=5)
                if "/memfd:" in line and len(fields) > 5 and int(fields[4]) == self._inode:
                    return True
        return False


def open_files(pid: int, root: Path = Path("/proc")) -> dict[Path, str]:
    """What a process has open.

    Raises
    ------
    HypervisorError
        The process is gone.
    """
    found = {}
    try:
        for link in (root / f"{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found[link] = str(link.readlink())
    except OSError as error:
        raise HypervisorError(f"open files of process {pid}: {error.strerror}") from error
    return found
