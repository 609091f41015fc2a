"""Processes of VMs as ``/proc`` shows them; the root is an argument, so that a test can build its own. See proc(5)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

STATE, START_TIME = 3 - 3, 22 - 3
"""Positions of ``state`` and ``starttime`` in /proc/PID/stat, counted behind the name (proc_pid_stat(5))."""
STOPPED = "T"
ENDED = ("Z", "X")
"""States of a process that has ended; it is listed until its parent has taken note, which may be never."""

_DAEMONS = frozenset(range(1000)) | frozenset(range(60000, 65534))
"""Users with these numbers are daemons; others are people's (login.defs(5), subuid(5))."""
_OWNER = re.compile(r"^Uid:\s+(\d+)", re.MULTILINE)

_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class ScheduleTime:
    """Seconds that a thread ran, and that it was ready and waited for a core."""

    run_seconds: float
    wait_seconds: float


class Processes:
    """Reads of ``/proc``; a process that is gone reads as nothing, never as an error."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root

    def of_vms(self, uuids: Collection[str]) -> Mapping[str, int]:
        """Process of each VM, by UUID: the QEMU that was started with ``-uuid UUID``.

        Anybody on the host can write such a command line. Where several processes have one, those of people's accounts
        are not believed, and nobody is if several are left.
        """
        wanted, claims = set(uuids), defaultdict[str, list[int]](list)
        for folder in self._root.iterdir() if wanted else ():
            if folder.name.isdigit() and (uuid := _uuid(_read(folder / "cmdline"))) in wanted:
                claims[uuid].append(int(folder.name))
        believed = {
            uuid: pids if len(pids) == 1 else [pid for pid in pids if self._owner(pid) in _DAEMONS]
            for uuid, pids in claims.items()
        }
        return {uuid: pids[0] for uuid, pids in believed.items() if len(pids) == 1}

    def is_of_vm(self, pid: int, uuid: str) -> bool:
        """Whether a process that is there is that of a VM."""
        return _uuid(_read(self._root / f"{pid}/cmdline")) == uuid

    def birth(self, pid: int) -> str:
        """What no other process has, before or after: this boot, and the start of the process in ticks.

        Empty for one that has ended.
        """
        stat, boot_id = _read(self._root / f"{pid}/stat"), _read(self._root / "sys/kernel/random/boot_id").strip()
        fields = stat.rpartition(")")[2].split()
        runs = len(fields) > START_TIME and fields[STATE] not in ENDED
        return f"{boot_id}/{fields[START_TIME]}" if runs else ""

    def is_stopped(self, pid: int) -> bool:
        """Whether a process was stopped by a signal: it answers nobody until it is let go on."""
        fields = _read(self._root / f"{pid}/stat").rpartition(")")[2].split()
        return fields[STATE : STATE + 1] == [STOPPED]

    def control_groups(self, pid: int) -> Mapping[str, str]:
        """Control group of a process by controller; the unified tree of version 2 has the name ``""`` (cgroups(7))."""
        lines = (line.split(":", 2) for line in _read(self._root / f"{pid}/cgroup").splitlines())
        return {
            name: path for _, names, path in (line for line in lines if len(line) == 3) for name in names.split(",")
        }

    def vcpu_times(self, pid: int) -> Mapping[int, ScheduleTime]:
        """Run and wait time of each vCPU's thread; QEMU names them ``CPU 0/KVM``."""
        times = {}
        for task in self._tasks(pid):
            word, _, rest = _read(task / "comm").strip().partition(" ")
            number, fields = rest.partition("/")[0], _read(task / "schedstat").split()
            if word == "CPU" and number.isdigit() and len(fields) >= 2:
                times[int(number)] = ScheduleTime(int(fields[0]) / 1e9, int(fields[1]) / 1e9)
        return times

    def network_namespace(self, pid: int) -> Path | None:
        """Path of a process's network namespace; None where it is ours, or the process is gone."""
        theirs, ours = self._root / f"{pid}/ns/net", self._root / "self/ns/net"
        try:
            return None if theirs.stat().st_ino == ours.stat().st_ino else theirs
        except OSError:
            return None

    def _owner(self, pid: int) -> int:
        """Real user of a process; -1 where it is gone. (What ``/proc/PID`` belongs to is up to the process.)"""
        found = _OWNER.search(_read(self._root / f"{pid}/status"))
        return int(found[1]) if found else -1

    def _tasks(self, pid: int) -> list[Path]:
        try:
            return list((self._root / f"{pid}/task").iterdir())
        except OSError:
            return []


def free_bytes(root: Path = Path("/proc")) -> int:
    """Memory that can be had without swapping (MemAvailable of proc_meminfo(5)); 0 where it is not told."""
    found = _AVAILABLE.search(_read(root / "meminfo"))
    return int(found[1]) * 1024 if found else 0


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _uuid(command_line: str) -> str:
    words = command_line.split("\0")
    return words[words.index("-uuid") + 1] if "-uuid" in words[:-1] else ""
