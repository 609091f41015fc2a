"""The monitoring threads of the kernel's data access monitor (DAMON), each looking at memory of one process.

DAMON is one for the whole host, and is taken only while nobody has it. That it was taken is written down first, so that
a process that comes after one that died knows what it may switch off.

Sources: admin-guide/mm/damon/usage.rst, mm/damon/design.rst, ABI/testing/sysfs-kernel-mm-damon.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from forestall.model.errors import StoreError, Unsupported

ADMIN = Path("/sys/kernel/mm/damon/admin")
THREADS = 61
"""So many at most, a number that nobody else would choose; those that have nothing to do cost nothing."""
REGIONS = 10, 100
SAMPLES = 10
"""Looks at a region whose results are added up before regions are merged and split."""
_OURS = "fvaddr"
"""Ranges of a process' addresses that do not change: the only thing that we have it look at."""
_COUNT = "kdamonds/nr_kdamonds"
_ANY = str((1 << 32) - 1)


class Region(NamedTuple):
    """A part of a process' memory that is used alike.

    Attributes
    ----------
    start, end
        Addresses.
    accesses
        In how many of the last :data:`SAMPLES` looks it was found used.
    age
        For how many times that many looks this has been so.
    """

    start: int
    end: int
    accesses: int
    age: int


class Tree(Protocol):
    """Files of a few bytes, in folders."""

    def read(self, name: str) -> str:
        """What stands in one."""
        ...

    def write(self, name: str, text: str) -> None:
        """Write into one."""
        ...

    def names(self, folder: str) -> list[str]:
        """What is in a folder."""
        ...


class Sysfs:
    """DAMON's files as the kernel has them."""

    def __init__(self, root: Path = ADMIN) -> None:
        self._root = root

    def read(self, name: str) -> str:
        """As in :class:`Tree`."""
        return (self._root / name).read_text("utf-8").strip()

    def write(self, name: str, text: str) -> None:
        """As in :class:`Tree`."""
        (self._root / name).write_text(text, "utf-8")

    def names(self, folder: str) -> list[str]:
        """As in :class:`Tree`."""
        return os.listdir(self._root / folder)


class NotOurs(Unsupported):
    """Somebody else has DAMON, or has taken it meanwhile."""


class Kdamonds:
    """All monitoring threads, while they are ours; a thread is named by its number.

    Whatever is written, it is looked first whether they are still ours: the kernel lets anybody take threads that have
    nothing to do. A lock keeps out other processes of Forestall.

    Parameters
    ----------
    note
        File in which it is written down that they are; it is locked meanwhile.
    tree
        DAMON's files.
    """

    def __init__(self, note: Path, tree: Tree) -> None:
        self._note, self._tree = note, tree
        self._lock: IO[str] | None = None
        self._pids: dict[int, int] = {}

    @property
    def taken(self) -> bool:
        """Whether they are ours, as far as we know."""
        return self._lock is not None

    def take(self) -> None:
        """Take DAMON, unless somebody has it.

        Raises
        ------
        NotOurs
            Somebody else has it.
        StoreError
            It cannot be written down that we do.
        OSError
            This kernel has none, or does not want.
        """
        count = int(self._tree.read(_COUNT))
        with ExitStack() as on_error:
            lock = on_error.enter_context(_locked(self._note))
            if count and not self._is_left_over(lock, count):
                raise NotOurs("somebody else uses it")
            for thread in range(count):
                self._switch_off(thread)
            lock.seek(0)
            lock.truncate()
            lock.write(str(THREADS))
            lock.flush()
            if count != THREADS:
                self._tree.write(_COUNT, str(THREADS))
            on_error.pop_all()
        self._lock = lock

    def _is_left_over(self, lock: IO[str], count: int) -> bool:
        """Whether a process of ours that died has left it so: it was written down, and nothing is as we never do it."""
        return lock.read().strip() == str(count) and all(map(self._may_be_left_over, range(count)))

    def _may_be_left_over(self, thread: int) -> bool:
        if int(self._tree.read(f"kdamonds/{thread}/contexts/nr_contexts")) == 0:
            return True
        context = f"kdamonds/{thread}/contexts/0"
        if self._tree.read(f"{context}/operations") == _OURS:
            return True
        # It died before it had said what is to be looked at.
        return not self.is_on(thread) and int(self._tree.read(f"{context}/targets/nr_targets")) == 0

    def give_back(self) -> None:
        """Leave DAMON to others.

        Raises
        ------
        OSError
            Something could not be ended; it may be tried again.
        """
        if self._lock is None:
            return
        self._check()
        failed: OSError | None = None
        for thread in range(THREADS):
            try:
                self._switch_off(thread)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed
        self._tree.write(_COUNT, "0")
        self._note.unlink(missing_ok=True)
        self.forsake()

    def forsake(self) -> None:
        """Touch nothing of it any more: it is somebody else's."""
        if self._lock is not None:
            self._lock.close()
        self._lock, self._pids = None, {}

    def _check(self, thread: int | None = None) -> None:
        """See whether all threads are still ours, and what one of them looks at."""
        if int(self._tree.read(_COUNT)) != THREADS:
            raise NotOurs("somebody else has taken it")
        if thread is not None and thread in self._pids:
            context = f"kdamonds/{thread}/contexts/0"
            theirs = self._tree.read(f"{context}/operations"), self._tree.read(f"{context}/targets/0/pid_target")
            if theirs != (_OURS, str(self._pids[thread])):
                raise NotOurs("somebody else has taken it")

    def begin(self, thread: int, pid: int, address: int, size_bytes: int, sample_seconds: float) -> None:
        """Have a thread look at memory of a process."""
        context = f"kdamonds/{thread}/contexts/0"
        self.end(thread)
        self._write(f"kdamonds/{thread}/contexts", nr_contexts=1)
        self._write(context, operations=_OURS)
        self._write(f"{context}/monitoring_attrs/nr_regions", max=REGIONS[1], min=REGIONS[0])
        self._write_intervals(thread, sample_seconds)
        self._write(f"{context}/targets", nr_targets=1)
        self._write(f"{context}/targets/0", pid_target=pid)
        self._pids[thread] = pid
        self._write(f"{context}/targets/0/regions", nr_regions=1)
        self._write(f"{context}/targets/0/regions/0", start=address, end=address + size_bytes)
        self._write(f"{context}/schemes", nr_schemes=1)
        self._write(f"{context}/schemes/0", action="stat")
        for what, most in (("sz", str((1 << 64) - 1)), ("nr_accesses", _ANY), ("age", _ANY)):
            self._write(f"{context}/schemes/0/access_pattern/{what}", min=0, max=most)
        self._write(f"kdamonds/{thread}", state="on")

    def _write_intervals(self, thread: int, sample_seconds: float) -> None:
        sample = round(1e6 * sample_seconds)
        folder = f"kdamonds/{thread}/contexts/0/monitoring_attrs/intervals"
        self._write(folder, sample_us=sample, aggr_us=SAMPLES * sample, update_us=SAMPLES * sample)

    def _write(self, folder: str, **values: object) -> None:
        for name, value in values.items():
            self._tree.write(f"{folder}/{name}", str(value))

    def change(self, thread: int, sample_seconds: float) -> None:
        """Have it look more or less often."""
        self._check(thread)
        self._write_intervals(thread, sample_seconds)
        self._write(f"kdamonds/{thread}", state="commit")

    def end(self, thread: int) -> None:
        """Have a thread look no more."""
        self._check(thread)
        self._switch_off(thread)
        self._pids.pop(thread, None)

    def _switch_off(self, thread: int) -> None:
        with suppress(PermissionError):  # it has ended by itself in this moment
            if self.is_on(thread):
                self._write(f"kdamonds/{thread}", state="off")

    def is_on(self, thread: int) -> bool:
        """Whether it looks at something; it ends by itself with the process."""
        return self._tree.read(f"kdamonds/{thread}/state") == "on"

    def pid(self, thread: int) -> int:
        """Its process id."""
        return int(self._tree.read(f"kdamonds/{thread}/pid"))

    def regions(self, thread: int) -> list[Region]:
        """What it found; waits until regions are merged the next time, which may take seconds."""
        self._check(thread)
        self._write(f"kdamonds/{thread}", state="update_schemes_tried_regions")
        folder = f"kdamonds/{thread}/contexts/0/schemes/0/tried_regions"
        return sorted(self._region(f"{folder}/{name}") for name in self._tree.names(folder) if name.isdecimal())

    def _region(self, folder: str) -> Region:
        start, end, accesses, age = (
            int(self._tree.read(f"{folder}/{name}")) for name in ("start", "end", "nr_accesses", "age")
        )
        return Region(start, end, accesses, age)


def _locked(path: Path) -> IO[str]:
    """A file that no other process has open so; its lock goes with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise NotOurs("another process of Forestall uses it") from error
    file.seek(0)
    return file
