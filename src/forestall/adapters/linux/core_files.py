"""What stays open of a VM: the files of one folder, and the process that all of it hangs on.

Standard library only: the process that puts VMs back when all else has failed starts with this and little more.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from forestall.adapters.linux.proc import ENDED, START_TIME, STATE, Processes

_LONGEST_LINE, _LONGEST_STAT = 4096, 1024
_MINOR_FAULTS, _MAJOR_FAULTS = 10 - 3, 12 - 3
"""Positions of fields of /proc/PID/stat, counted behind the name (proc_pid_stat(5))."""

MOST_FILES = 1 << 16


def allow_many_files() -> None:
    """Let this process have as many files open as it may, up to 65,536: the usual 1,024 are those of a hundred VMs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class OpenFiles:
    """Small files of a folder, opened once and kept open; what is not there is left out.

    An open file of a control group belongs to that group alone: once the group is removed every access fails with
    ``ENODEV``, whatever has been made since under the same name.

    Raises
    ------
    OSError
        The folder is not there, or a file that is there must not be written to.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}
        present = os.listdir(folder)
        try:
            for name in set(names).intersection(present):
                self._open[name] = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    def __contains__(self, name: str) -> bool:
        return name in self._open

    def read(self, name: str) -> str:
        """First line of a file."""
        return os.pread(self._open[name], _LONGEST_LINE, 0).split(b"\n", 1)[0].decode("ascii")

    def write(self, name: str, value: object) -> None:
        """Write one line."""
        os.pwrite(self._open[name], f"{value}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Close all; safe to repeat."""
        while self._open:
            os.close(self._open.popitem()[1])


class Life:
    """A process from its birth to its end, never another one that is given its number later.

    An open file of ``/proc/PID`` stays with its process, so one read tells whether that process still runs.

    Parameters
    ----------
    pid, proc_root
        The process, and where to look.

    Raises
    ------
    OSError
        No such process.
    """

    def __init__(self, pid: int, proc_root: Path) -> None:
        self.pid = pid
        self._stat = os.open(proc_root / f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        self.birth = Processes(proc_root).birth(pid)

    def goes_on(self) -> bool:
        """Whether the process runs and is the one that it was; a zombie does not run."""
        fields = self._fields()
        return self._is_it(fields) and fields[STATE] not in ENDED

    def faults(self) -> float:
        """Page faults so far, minor and major; NaN when the process is gone."""
        fields = self._fields()
        return float(int(fields[_MINOR_FAULTS]) + int(fields[_MAJOR_FAULTS])) if self._is_it(fields) else float("nan")

    def close(self) -> None:
        """Let go of the process; safe to repeat."""
        if self._stat >= 0:
            os.close(self._stat)
        self._stat = -1

    def _is_it(self, fields: list[str]) -> bool:
        return len(fields) > START_TIME and self.birth.endswith(f"/{fields[START_TIME]}")

    def _fields(self) -> list[str]:
        try:
            return os.pread(self._stat, _LONGEST_STAT, 0).rpartition(b")")[2].decode("ascii").split()
        except OSError:
            return []
