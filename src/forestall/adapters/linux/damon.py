"""Which addresses of VMs' memory are used, and how often, by the kernel's data access monitor (DAMON).

A thread of the kernel for each VM looks at one page of each of some regions now and then; regions that are used alike
are merged, others are split. Of a guest on KVM it sees what the processor marks for the guest, which clear_refs does
not. How often it looks follows what that costs. Asking the kernel takes as long as a few looks, and nobody else can ask
meanwhile: all of it is done by one thread here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forestall.adapters.linux.kdamonds import SAMPLES, THREADS, Kdamonds, Region, Sysfs, Tree
from forestall.model.errors import StoreError, Unsupported
from forestall.ports.guest_pages import UsedRange

NOTE = "damon.json"
FIRST_SECONDS, LEAST_SECONDS, MOST_SECONDS = 0.2, 0.05, 0.4
"""From one look at a region to the next."""
PERIOD_SECONDS = 60.0
"""What was not used for so long is not told; a VM is asked about as often."""
IDLE_SHARE = 0.25
END_SECONDS = 2 * SAMPLES * MOST_SECONDS
_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_TIMES = 14 - 3
"""Position of ``utime`` in /proc/PID/stat, counted behind the name."""


class DamonWatch:
    """Memory of one process that is watched."""

    def __init__(self, pid: int, address: int, size_bytes: int) -> None:
        self.pid, self.address, self.size_bytes = pid, address, size_bytes
        self.sample_seconds = FIRST_SECONDS
        self.asked_at = self.cpu_seconds = 0.0
        self.found: tuple[UsedRange, ...] | None = None
        self.lost = ""
        self.closed = False

    def used(self) -> tuple[UsedRange, ...] | None:
        """What was used within :data:`PERIOD_SECONDS`, by the newest look; None: there was none yet.

        Raises
        ------
        Unsupported
            It is not watched any more.
        """
        if self.lost:
            raise Unsupported(self.lost)
        return self.found

    def close(self) -> None:
        """Watch it no more."""
        self.closed = True

    def take(self, regions: list[Region]) -> None:
        """What the kernel has found: of that, what is used, or was until lately."""
        found, lately = [], PERIOD_SECONDS / (SAMPLES * self.sample_seconds)
        for region in regions:
            first, end = max(region.start, self.address), min(region.end, self.address + self.size_bytes)
            if first < end and (region.accesses or region.age < lately):
                found.append(UsedRange(first - self.address, end - first, min(region.accesses / SAMPLES, 1.0)))
        self.found = tuple(found)


class Damon:
    """Watches memory of processes.

    Parameters
    ----------
    folder
        Where it is written down that DAMON is ours.
    core_ratio
        Share of a core that watching one VM may take.
    tree, now, cpu_seconds
        DAMON's files, monotonic time, and CPU time of a thread of the kernel.

    Raises
    ------
    Unsupported
        This kernel has none, or somebody else uses it.
    """

    def __init__(
        self,
        folder: Path,
        core_ratio: float,
        tree: Tree | None = None,
        now: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[int], float] | None = None,
    ) -> None:
        self._ratio, self._now, self._cpu_seconds = core_ratio, now, cpu_seconds or _cpu_seconds
        self._new: list[DamonWatch] = []
        self._watches: dict[int, DamonWatch] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="damon", daemon=True)
        try:
            self._threads = Kdamonds(folder / NOTE, tree or Sysfs())
        except (OSError, ValueError, StoreError, Unsupported) as error:
            raise Unsupported(f"DAMON cannot be used: {_reason(error)}") from error

    def start(self) -> None:
        """Do what is to be done, until :meth:`close`."""
        self._thread.start()

    def watch(self, pid: int, address: int, size_bytes: int) -> DamonWatch:
        """Watch memory of a process, soon."""
        watch = DamonWatch(pid, address, size_bytes)
        self._new.append(watch)
        return watch

    def close(self) -> None:
        """Watch nothing more, and leave DAMON to others; what has not ended in time is ended by who comes next."""
        self._closed.set()
        if self._thread.ident is None:
            self._give_back()
        else:
            self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._closed.wait(1.0):
            self.beat()
        self._give_back()

    def _give_back(self) -> None:
        with suppress(OSError, ValueError):
            self._threads.give_back()

    def beat(self) -> None:
        """Begin with what is new, end what is not wanted any more, ask about those that it is time for."""
        for thread, watch in list(self._watches.items()):
            if watch.closed or watch.lost:
                with suppress(OSError, ValueError):
                    self._threads.end(thread)
                del self._watches[thread]
        while self._new:
            self._begin(self._new.pop(0))
        for thread, watch in self._watches.items():
            if self._now() >= watch.asked_at + PERIOD_SECONDS and not self._closed.is_set():
                self._ask(thread, watch)

    def _begin(self, watch: DamonWatch) -> None:
        thread = next((k for k in range(THREADS) if k not in self._watches), None)
        if thread is None:
            watch.lost = f"DAMON watches {THREADS} VMs already"
            return
        try:
            self._threads.begin(thread, watch.pid, watch.address, watch.size_bytes, watch.sample_seconds)
        except (OSError, ValueError) as error:
            watch.lost = f"DAMON does not watch process {watch.pid}: {_reason(error)}"
            return
        watch.asked_at = self._now()
        self._watches[thread] = watch

    def _ask(self, thread: int, watch: DamonWatch) -> None:
        try:
            watch.take(self._threads.regions(thread))
            spent = self._cpu_seconds(self._threads.pid(thread))
            now = self._now()
            self._adapt(thread, watch, (spent - watch.cpu_seconds) / max(now - watch.asked_at, 1e-9))
            watch.cpu_seconds, watch.asked_at = spent, now
        except (OSError, ValueError) as error:
            watch.lost = f"DAMON does not watch process {watch.pid} any more: {_reason(error)}"

    def _adapt(self, thread: int, watch: DamonWatch, ratio: float) -> None:
        """Look less often where it costs too much, more often where it costs next to nothing."""
        factor = 2.0 if ratio > self._ratio else 0.5 if ratio < IDLE_SHARE * self._ratio else 1.0
        seconds = min(max(watch.sample_seconds * factor, LEAST_SECONDS), MOST_SECONDS)
        if seconds != watch.sample_seconds:
            self._threads.change(thread, seconds)
            watch.sample_seconds = seconds


def _cpu_seconds(pid: int) -> float:
    """CPU time of a thread of the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[_CPU_TIMES]) + int(fields[_CPU_TIMES + 1])) / _TICKS


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
