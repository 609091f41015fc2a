"""What the scheduler counts of the threads of many VMs, read in one go.

A read costs little more than its system calls: every file stays open, and all that was read is parsed at once. Counters
of a thread that runs are those of the last tick of its core (up to 4 ms old at 250 ticks a second); the time that it
waits is counted when it gets a core; and time in which a quota holds it back counts as waiting too. Source:
scheduler/sched-stats.rst of the kernel's documentation (``/proc/PID/schedstat``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from forestall.adapters.linux.core_threads import Thread, VmThreads
from forestall.model.samples import FloatArray, IntArray

COUNTERS = 3
"""Nanoseconds run, nanoseconds waited, times put on a core."""
_LONGEST = 96


class GuestTimes:
    """Counters of one VM's threads; what an ended thread had stays counted.

    Parameters
    ----------
    threads
        Which threads there are.
    proc_root
        Where to look.
    whole_process
        Whether the run time of threads that are no vCPUs is wanted too; what they waited never is.

    Attributes
    ----------
    open
        Descriptor of each thread's counters.
    counted
        Which counters of each thread count, 1 or 0.
    last
        Array (thread, counter), in the order of ``open``: what was read last.
    ended
        Array (counter,): what ended threads had.
    """

    def __init__(self, threads: VmThreads, proc_root: Path, *, whole_process: bool) -> None:
        self._threads, self._proc_root, self._whole_process = threads, proc_root, whole_process
        self.open: dict[Thread, int] = {}
        self.counted: dict[Thread, tuple[int, int, int]] = {}
        self.last = np.zeros((0, COUNTERS), np.int64)
        self.ended = np.zeros(COUNTERS, np.int64)

    def look(self) -> bool:
        """Find threads that came and went since the last look; whether there were any."""
        now = self._threads.look()
        wanted = now.vcpus | now.others if self._whole_process else now.vcpus
        if wanted == self.open.keys():
            return False
        last = dict(zip(self.open, self.last, strict=True))
        for thread in self.open.keys() - wanted:
            self.ended += last.pop(thread) * self.counted.pop(thread)
            os.close(self.open.pop(thread))
        for thread in sorted(wanted - self.open.keys()):
            with suppress(OSError):  # it may have ended since it was seen
                path = self._proc_root / "{}/task/{}/schedstat".format(*thread)
                self.open[thread] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self.counted[thread] = (1, 1, 1) if thread in now.vcpus else (1, 0, 0)
                last[thread] = np.zeros(COUNTERS, np.int64)
        self.last = np.array([last[thread] for thread in self.open], np.int64).reshape(-1, COUNTERS)
        return True

    def close(self) -> None:
        """Let go of all threads; safe to repeat."""
        while self.open:
            os.close(self.open.popitem()[1])
        self.counted.clear()
        self.last = self.last[:0]


class SchedulerTimes:
    """Counters of all VMs' threads, laid side by side."""

    def __init__(self, guests: Sequence[GuestTimes]) -> None:
        self._guests = guests
        self._lay()

    def read(self) -> tuple[FloatArray, set[int]]:
        """Counters (vm, counter) so far, and the positions of VMs of which a thread has ended."""
        ended: set[int] = set()
        if not self._read_together():
            self._read_alone(ended)
        sums = self._ended.copy()
        np.add.at(sums, self._owner, self._values * self._counted)
        return sums.astype(np.float64), ended

    def look(self, positions: Iterable[int]) -> None:
        """Find threads of these VMs that came and went."""
        self.keep()
        changed = [self._guests[i].look() for i in positions]
        if any(changed):
            self._lay()

    def let_go(self, positions: Iterable[int]) -> None:
        """Count nothing of these VMs any more."""
        self.keep()
        for i in positions:
            self._guests[i].close()
        self._lay()

    def keep(self) -> None:
        """Leave with each VM what was read last of it."""
        for guest, begin, end in zip(self._guests, self._bounds, self._bounds[1:], strict=False):
            guest.last = self._values[begin:end]

    def _lay(self) -> None:
        guests = self._guests
        self._bounds = np.cumsum([0, *(len(guest.open) for guest in guests)]).tolist()
        self._files = [file for guest in guests for file in guest.open.values()]
        self._owner = np.repeat(np.arange(len(guests)), [len(guest.open) for guest in guests])
        counted = [row for guest in guests for row in guest.counted.values()]
        self._counted = np.array(counted, np.int64).reshape(-1, COUNTERS)
        self._ended = np.array([guest.ended for guest in guests], np.int64).reshape(-1, COUNTERS)
        none = np.zeros((0, COUNTERS), np.int64)
        self._values: IntArray = np.concatenate([none, *(guest.last for guest in guests)])

    def _read_together(self) -> bool:
        """Read all; False, and nothing read, if one of them has ended."""
        try:
            text = b"".join([os.pread(file, _LONGEST, 0) for file in self._files])
        except OSError:
            return False
        values = np.fromstring(text, np.int64, sep=" ") if text else np.zeros(0, np.int64)
        if values.size != self._values.size:
            return False
        self._values = values.reshape(-1, COUNTERS)
        return True

    def _read_alone(self, ended: set[int]) -> None:
        """Read one after the other; one that has ended keeps what it had."""
        self._values = self._values.copy()
        for row, file in enumerate(self._files):
            fields = _fields(file)
            if len(fields) == COUNTERS:
                self._values[row] = fields
            else:
                ended.add(int(self._owner[row]))


def _fields(file: int) -> list[int]:
    try:
        return [int(field) for field in os.pread(file, _LONGEST, 0).split()]
    except OSError:
        return []
