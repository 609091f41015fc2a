"""Counters of the VMs of a host, read every few hundredths of a second. Sources: proc_pid_stat(5), proc_pid_io(5),
admin-guide/cgroup-v1/cpuacct.rst, admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from forestall.adapters.linux.core_files import Life
from forestall.adapters.linux.core_limits import own_group
from forestall.adapters.linux.core_threads import VmThreads
from forestall.adapters.linux.core_times import GuestTimes, SchedulerTimes
from forestall.model.samples import BoolArray, FloatArray
from forestall.ports.cores import CoreUse

_LONGEST = 4096
_READS, _WRITES = 5, 7
"""Positions of the values of ``syscr`` and ``syscw`` among the words of /proc/PID/io."""
NOT_THERE = -1
"""Instead of the descriptor of a file that is not there."""


class GuestFiles:
    """What is open of one VM.

    Parameters
    ----------
    pid, proc_root, cgroup_root
        Its process, and where to look.

    Raises
    ------
    OSError
        No such process.
    """

    def __init__(self, pid: int, proc_root: Path, cgroup_root: Path) -> None:
        self.life = Life(pid, proc_root)
        folder, self._usage, self._word, self._unit_seconds = _usage(pid, proc_root, cgroup_root)
        self._io = _open(proc_root / f"{pid}/io")
        by_threads = self._usage == NOT_THERE
        self.times = GuestTimes(VmThreads(pid, folder, proc_root), proc_root, whole_process=by_threads)
        self.times.look()
        self.gone = False
        if not self.life.goes_on():
            self.close()
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    def used_seconds(self, by_threads: float) -> float:
        """CPU time used so far: what the VM's group is charged with, or that of its threads where it has none."""
        if self._usage == NOT_THERE:
            return by_threads
        try:
            return int(os.pread(self._usage, _LONGEST, 0).split(None, 2)[self._word]) * self._unit_seconds
        except OSError:
            return math.nan

    def operations(self) -> float:
        """Reads and writes that the process asked for so far; NaN where that is not told."""
        with suppress(OSError):
            words = os.pread(self._io, _LONGEST, 0).split() if self._io != NOT_THERE else []
            if len(words) > _WRITES:
                return float(int(words[_READS]) + int(words[_WRITES]))
        return math.nan

    def close(self) -> None:
        """Let go of the VM; safe to repeat."""
        self.gone = True
        self.life.close()
        self.times.close()
        for file in (self._usage, self._io):
            if file != NOT_THERE:
                os.close(file)
        self._usage = self._io = NOT_THERE


class CoreCounters:
    """Counters of some VMs, in their order.

    Threads of all VMs are looked for again once in ``look_seconds``, a few VMs at each read; those of a VM of which a
    thread has ended, at once.

    Parameters
    ----------
    guests
        What is open of each VM.
    now
        Tells the monotonic time, seconds.
    look_seconds
        How often to look for threads.
    """

    def __init__(self, guests: Sequence[GuestFiles], now: Callable[[], float], look_seconds: float) -> None:
        self._guests, self._now, self._look_seconds = guests, now, look_seconds
        self._times = SchedulerTimes([guest.times for guest in guests])
        self._faults, self._operations = np.full((2, len(guests)), np.nan)
        self._looked_at, self._due, self._next = now(), 0.0, 0

    def read(self, *, all_counters: bool) -> CoreUse:
        """Read them; see :meth:`forestall.ports.cores.CoreHost.read`."""
        at = self._now()
        self._look(self._turn(at))
        times, ended = self._times.read()
        self._look(ended)
        if all_counters:
            self._faults = np.array([guest.life.faults() for guest in self._guests], np.float64)
            self._operations = np.array([guest.operations() for guest in self._guests], np.float64)
        by_threads = (times[:, 0] / 1e9).tolist()
        used = [guest.used_seconds(mine) for guest, mine in zip(self._guests, by_threads, strict=True)]
        gone: BoolArray = np.array([guest.gone for guest in self._guests], np.bool_)
        columns = (np.array(used), times[:, 1] / 1e9, times[:, 2], self._faults, self._operations)
        return CoreUse(at, *(_unless(gone, column) for column in columns))

    def keep(self) -> None:
        """Leave with each VM what was read last of it, so that others may go on from there."""
        self._times.keep()

    def _turn(self, now: float) -> list[int]:
        """VMs whose turn it is to be looked at."""
        count = len(self._guests)
        self._due = min(self._due + count * (now - self._looked_at) / self._look_seconds, count)
        self._looked_at = now
        begin, turns = self._next, int(self._due)
        self._due -= turns
        self._next = (begin + turns) % max(count, 1)
        return [(begin + i) % count for i in range(turns)]

    def _look(self, positions: Collection[int]) -> None:
        there = [i for i in positions if not self._guests[i].gone]
        if gone := [i for i in there if not self._guests[i].life.goes_on()]:
            self._times.let_go(gone)
            for i in gone:
                self._guests[i].close()
        if alive := [i for i in there if i not in gone]:
            self._times.look(alive)


def _usage(pid: int, proc_root: Path, cgroup_root: Path) -> tuple[Path | None, int, int, float]:
    """A VM's own group, the file that tells what it has used, which word of it, and the unit of that in seconds."""
    folder = own_group("cpuacct", pid, proc_root, cgroup_root)
    if folder and (file := _open(folder / "cpuacct.usage")) != NOT_THERE:
        return folder, file, 0, 1e-9
    folder = own_group("cpu", pid, proc_root, cgroup_root)
    if folder and (folder / "cpu.max").exists() and (file := _open(folder / "cpu.stat")) != NOT_THERE:
        return folder, file, 1, 1e-6
    return folder, NOT_THERE, 0, 0.0


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return NOT_THERE


def _unless(gone: BoolArray, values: FloatArray) -> FloatArray:
    return np.where(gone, np.nan, values)
