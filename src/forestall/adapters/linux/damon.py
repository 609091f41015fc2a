"""Which addresses of VMs' memory are used, and how often, by the kernel's data access monitor (DAMON).

A thread of the kernel for each VM looks at one page of each of some regions now and then; regions that are used alike
are merged, others are split. Of a guest on KVM it sees what the processor marks for the guest, which clear_refs does
not. How often it looks follows what that costs. Asking the kernel takes as long as a few looks, and nobody else can ask
meanwhile: all of it is done by one thread here, a step at a time. DAMON is taken when a VM is to be watched, and given
back when none is any more.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forestall.adapters.linux.kdamonds import SAMPLES, THREADS, Kdamonds, NotOurs, Region, Sysfs, Tree
from forestall.model.errors import StoreError, Unsupported
from forestall.ports.guest_pages import Used, UsedRange

NOTE = "damon.lock"
FIRST_SECONDS, LEAST_SECONDS, MOST_SECONDS = 0.2, 0.05, 0.4
"""From one look at a region to the next."""
PERIOD_SECONDS = 60.0
"""What was not used for so long is not told; a VM is asked about as often."""
LEASE_SECONDS = 300.0
"""A VM that nobody has asked about for so long is not watched; what was found so long ago is not told."""
AGAIN_SECONDS, BUSY_SECONDS = 60.0, 10.0
"""While somebody else asks the kernel, it is tried again at once, for so long; then after a while."""
BEAT_SECONDS, END_SECONDS = 0.2, 8.0
IDLE_SHARE, DEAR = 0.25, 4.0
"""It looks more often below this share of what it may cost, and gives a VM up above so many times that."""
MOST_RANGES = 16
ALIKE = 0.1
_INEXACT = 3
"""Times between two merges of regions, by which the kernel's clock may differ in a period."""
_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_TIMES = 14 - 3
"""Position of ``utime`` in /proc/PID/stat, counted behind the name."""


class DamonWatch:
    """Memory of one process that is watched while somebody asks about it."""

    def __init__(self, pid: int, address: int, size_bytes: int, now: Callable[[], float]) -> None:
        self.pid, self.address, self.size_bytes, self._now = pid, address, size_bytes, now
        self.wanted_at = -math.inf
        self.found: Used | None = None
        self.found_at = -math.inf
        self.why_not = "DAMON has not begun with it"
        self.is_lost = self.closed = False

    def used(self) -> Used | None:
        """What was used within :data:`PERIOD_SECONDS`, by the newest look, an estimate; None: there was none yet.

        Raises
        ------
        Unsupported
            It is not watched.
        """
        now, self.wanted_at = self._now(), self._now()
        if self.why_not:
            raise Unsupported(self.why_not)
        if self.found is not None and now > self.found_at + LEASE_SECONDS:
            raise Unsupported("DAMON has not told for long")
        return self.found

    def close(self) -> None:
        """Watch it no more."""
        self.closed = True

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has asked of late."""
        return not (self.closed or self.is_lost) and self._now() <= self.wanted_at + LEASE_SECONDS

    def take(self, regions: list[Region], sample_seconds: float) -> None:
        """What the kernel has found: of that, what is used, or was until lately; the busiest parts by name."""
        ranges, lately = [], PERIOD_SECONDS / (SAMPLES * sample_seconds)
        for region in sorted(regions):
            first, end = max(region.start, self.address), min(region.end, self.address + self.size_bytes)
            if first < end and (region.accesses or region.age + _INEXACT < lately):
                share = min(region.accesses / SAMPLES, 1.0)
                ranges.append(UsedRange(first - self.address, end - first, share))
        used_bytes, ranges = sum(one.size_bytes for one in ranges), _merged(ranges)
        busiest = sorted(ranges, key=lambda one: (-one.share, -one.size_bytes))[:MOST_RANGES]
        self.found = Used(used_bytes, tuple(sorted(busiest, key=lambda one: one.offset_bytes)))
        self.found_at = self._now()


class _On:
    """A VM that a thread of the kernel looks at."""

    def __init__(self, watch: DamonWatch, now: float) -> None:
        self.watch, self.asked_at = watch, now
        self.sample_seconds, self.cpu_seconds = FIRST_SECONDS, 0.0


class Damon:
    """Watches memory of processes.

    Parameters
    ----------
    folder
        Where it is written down that DAMON is ours.
    core_ratio
        Share of a core that watching one VM may take.
    note
        Takes one line for the operator, each once.
    tree, now, cpu_seconds
        DAMON's files, monotonic time, and CPU time of a thread of the kernel.
    """

    def __init__(
        self,
        folder: Path,
        core_ratio: float,
        note: Callable[[str], None],
        tree: Tree | None = None,
        now: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[int], float] | None = None,
    ) -> None:
        self._threads = Kdamonds(folder / NOTE, tree or Sysfs())
        self._ratio, self._now, self._cpu_seconds = core_ratio, now, cpu_seconds or _cpu_seconds
        self._note, self._noted = note, set[str]()
        self._watches: list[DamonWatch] = []
        self._on: dict[int, _On] = {}
        self._again_at, self._busy_since = -math.inf, math.inf
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="damon", daemon=True)

    def start(self) -> None:
        """Do what is to be done, until :meth:`close`."""
        self._thread.start()

    def watch(self, pid: int, address: int, size_bytes: int) -> DamonWatch:
        """Watch memory of a process, as soon as somebody asks about it."""
        watch = DamonWatch(pid, address, size_bytes, self._now)
        self._watches.append(watch)
        return watch

    def close(self) -> None:
        """Watch nothing more, and leave DAMON to others; what has not ended in time is ended by who comes next."""
        self._closed.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self.beat()
        for watch in self._watches:
            watch.close()
        until = self._now() + END_SECONDS
        while self._threads.taken and self._now() < until:
            self.beat()
            time.sleep(BEAT_SECONDS)

    def beat(self) -> None:
        """A step: begin with a VM, end with one, or ask about the one that was not asked about for longest."""
        try:
            self._step()
            self._busy_since = math.inf
        except NotOurs as error:
            self._threads.forsake()
            self._on.clear()
            self._put_off(str(error))
        except (OSError, ValueError, StoreError) as error:
            self._busy_since = min(self._busy_since, self._now())
            if not _is_busy(error) or self._now() > self._busy_since + BUSY_SECONDS:
                self._put_off(_reason(error))

    def _put_off(self, why: str) -> None:
        """DAMON cannot be used now: try again after a while."""
        self._again_at, self._busy_since = self._now() + AGAIN_SECONDS, math.inf
        for watch in self._watches:
            watch.why_not = f"DAMON cannot be used: {why}"
        self._tell(f"which memory VMs use is told by marks in their page tables: DAMON cannot be used: {why}")

    def _tell(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._note(line)

    def _step(self) -> None:
        self._watches = [watch for watch in self._watches if not watch.closed]
        for thread, on in list(self._on.items()):
            if not on.watch.is_wanted:
                self._threads.end(thread)
                del self._on[thread]
                on.watch.why_not = on.watch.why_not or "DAMON has not begun with it"
        watched = {id(on.watch) for on in self._on.values()}
        new = [watch for watch in self._watches if watch.is_wanted and id(watch) not in watched]
        put_off = self._now() < self._again_at
        if not self._on and (not new or put_off):
            self._threads.give_back()
            return
        if new and not put_off and len(self._on) < THREADS:
            self._begin(new[0])
        due = min(self._on.items(), key=lambda one: one[1].asked_at, default=None)
        if due is not None and self._now() >= due[1].asked_at + PERIOD_SECONDS:
            self._ask(*due)

    def _begin(self, watch: DamonWatch) -> None:
        if not self._threads.taken:
            self._threads.take()
        thread = next(k for k in range(THREADS) if k not in self._on)
        try:
            self._threads.begin(thread, watch.pid, watch.address, watch.size_bytes, FIRST_SECONDS)
        except OSError as error:
            if _is_busy(error):
                raise
            self._lose(watch, _reason(error))
            return
        self._on[thread] = _On(watch, self._now())
        watch.why_not, watch.found = "", None

    def _lose(self, watch: DamonWatch, why: str) -> None:
        """A VM cannot be watched, for good."""
        watch.is_lost, watch.why_not = True, f"DAMON does not watch process {watch.pid}: {why}"
        if os.path.exists(f"/proc/{watch.pid}"):
            self._tell(watch.why_not)

    def _ask(self, thread: int, on: _On) -> None:
        try:
            regions = self._threads.regions(thread)
            spent = self._cpu_seconds(self._threads.pid(thread))
        except (OSError, ValueError) as error:
            if _is_busy(error):
                raise
            self._lose(on.watch, _reason(error))
            return
        on.watch.take(regions, on.sample_seconds)
        now = self._now()
        ratio = (spent - on.cpu_seconds) / max(now - on.asked_at, 1e-9)
        on.cpu_seconds, on.asked_at = spent, now
        self._adapt(thread, on, ratio)

    def _adapt(self, thread: int, on: _On, ratio: float) -> None:
        """Look less often where it costs too much, more often where it costs next to nothing."""
        factor = 2.0 if ratio > self._ratio else 0.5 if ratio < IDLE_SHARE * self._ratio else 1.0
        seconds = min(max(on.sample_seconds * factor, LEAST_SECONDS), MOST_SECONDS)
        if seconds != on.sample_seconds:
            self._threads.change(thread, seconds)
            on.sample_seconds = seconds
        elif ratio > DEAR * self._ratio:
            self._lose(on.watch, "it takes too much of a core")


def end_left_over(folder: Path, tree: Tree | None = None) -> None:
    """Give DAMON back that a process which is gone has left taken.

    Raises
    ------
    Unsupported
        It cannot be given back.
    """
    if not (folder / NOTE).exists():
        return
    threads = Kdamonds(folder / NOTE, tree or Sysfs())
    try:
        threads.take()
        threads.give_back()
    except NotOurs:  # somebody is at it
        return
    except (OSError, ValueError, StoreError) as error:
        raise Unsupported(f"DAMON cannot be given back: {_reason(error)}") from error
    finally:
        threads.forsake()


def _merged(ranges: list[UsedRange]) -> list[UsedRange]:
    """Neighbours that are used alike, together."""
    found: list[UsedRange] = []
    for one in ranges:
        last = found[-1] if found else None
        if last and last.offset_bytes + last.size_bytes == one.offset_bytes and abs(last.share - one.share) < ALIKE:
            size = last.size_bytes + one.size_bytes
            share = (last.size_bytes * last.share + one.size_bytes * one.share) / size
            found[-1] = UsedRange(last.offset_bytes, size, share)
        else:
            found.append(one)
    return found


def _cpu_seconds(pid: int) -> float:
    """CPU time of a thread of the kernel."""
    with suppress(FileNotFoundError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[_CPU_TIMES]) + int(fields[_CPU_TIMES + 1])) / _TICKS
    return 0.0


def _is_busy(error: Exception) -> bool:
    """Whether somebody else asks the kernel at this moment."""
    return isinstance(error, OSError) and error.errno == errno.EBUSY


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
