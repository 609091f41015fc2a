"""Pages of a VM whose memory is a memfd that is shared with its process (QEMU: memory-backend-memfd, share=on).

What the VM has touched stands in the page table of its process; what the host has in memory, in the page cache of the
memfd. A page that the host has and the VM never touched is all zeros, and punching a hole into it changes nothing that
can be read. So a page is given back only if, at a moment when every thread of the process stands still, it is neither
in the page table nor anything but zeros: even if the page table no longer knew of a touched page (a page that was
reclaimed, or moved), its content would not change. What writes to the memory without the process' threads (vhost,
devices that were passed through, processes that share the memory: adapters/linux/other_writers) would not stand still:
such VMs are refused. What was paged out is the VM's, and left alone.

Sources: memfd_create(2), madvise(2), mincore(2), fallocate(2), proc_pid_statm(5), admin-guide/mm/pagemap.rst,
admin-guide/mm/transhuge.rst.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from forestall.adapters.linux.numa import Nodes, close_to
from forestall.adapters.linux.other_writers import OtherWriters, open_files
from forestall.adapters.linux.page_table import PageTable
from forestall.adapters.linux.stillness import still
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.samples import BoolArray, IntArray
from forestall.ports.guest_pages import Used

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_POPULATE_WRITE = 23
AT_ONCE = 1024
"""So many pages are given back while the process stands still: a few milliseconds."""
NODE_SECONDS = 1.0
LEAST_BYTES = 1 << 20
"""A smaller memfd is not the memory of a VM."""
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ...s ([0-9a-f]+) \S+ (\d+) +/memfd:(\S*)", re.MULTILINE)
_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ")
_REFERENCED = re.compile(r"^Referenced: +(\d+) kB")
_OBJECT = re.compile(r'\{[^{}]*"qom-type":"memory-backend-memfd"[^{}]*\}')
_DEVICE_PREFIX = "mem"
"""libvirt names the memory of devices (virtio-mem, DIMMs) so; that of the VM itself is pc.ram or ram-node."""
_HUGE_BYTES = 2 << 20
_SHMEM_HUGE = "sys/kernel/mm/transparent_hugepage/shmem_enabled"


class Region(NamedTuple):
    """A memfd that the process has mapped.

    Attributes
    ----------
    address, offset, bytes
        Where it is mapped, from which byte of it on, and how much.
    inode, name
        Which memfd it is.
    """

    address: int
    offset: int
    bytes: int
    inode: int
    name: str


class Watch(Protocol):
    """Watches memory of one process; see :mod:`forestall.adapters.linux.damon`."""

    def used(self) -> Used | None:
        """What was used lately; None: it is not known yet. Raises Unsupported while it is not watched."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...


class MemfdPages:
    """The pages of one VM; see :class:`~forestall.ports.guest_pages.GuestPages`.

    Parameters
    ----------
    pid
        Process of the VM.
    root
        Where ``/proc`` is.
    at_rest
        Has a process stand still.
    watch
        Watches which memory of a process (address, bytes) is used; None: the marks of use in its page table tell.
    """

    def __init__(
        self,
        pid: int,
        root: Path = Path("/proc"),
        at_rest: Callable[[int], AbstractContextManager[bool]] = still,
        watch: Callable[[int, int, int], Watch] | None = None,
    ) -> None:
        self._pid, self._root, self._at_rest = pid, root, at_rest
        self.stood_seconds = 0.0
        self._cleared = False
        self._nodes = Nodes(root.parent)
        self._near: int | None = None
        self._node_at = float("-inf")
        self._region = region_of(pid, root)
        self._writers = OtherWriters(pid, self._region.inode, root)
        self._writers.refuse()
        with ExitStack() as on_error:
            self._memory = _open_memfd(pid, self._region, root)
            on_error.callback(os.close, self._memory)
            self._table = _opened(root / f"{pid}/pagemap")
            on_error.callback(os.close, self._table)
            self._page_table = PageTable(self._table)
            self._sizes = _opened(root / f"{pid}/statm")
            on_error.callback(os.close, self._sizes)
            if os.fstatvfs(self._memory).f_bsize != mmap.PAGESIZE:
                raise Unsupported("its memory is of huge pages that are set aside for it: they are there already")
            self.page_bytes = mmap.PAGESIZE
            self.pages = self._region.bytes // self.page_bytes
            self._window = _mapped(self._memory, self._region)
            # Nobody's memory is to be found in a core dump of ours.
            self._window.madvise(mmap.MADV_DONTDUMP)
            on_error.pop_all()
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._window))
        self.grain_pages = max(_HUGE_BYTES // self.page_bytes, 1) if _has_huge_shared_pages(root.parent) else 1
        self._watch = watch(pid, self._region.address, self._region.bytes) if watch is not None else None

    def close(self) -> None:
        """Let go of the VM; what is populated stays so."""
        if self._watch is not None:
            self._watch.close()
        self._window.close()
        os.close(self._memory)
        os.close(self._table)
        os.close(self._sizes)

    def resident(self) -> int:
        """As in the port; the shared pages of statm."""
        try:
            return int(os.pread(self._sizes, 256, 0).split()[2])
        except (OSError, IndexError) as error:
            raise HypervisorError(f"process {self._pid} of the VM is gone") from error

    def touched(self, first: int, pages: int) -> BoolArray:
        """As in the port."""
        try:
            known = self._page_table.has(self._region.address + first * self.page_bytes, pages)
        except OSError as error:
            raise HypervisorError(f"page table of process {self._pid}: {error.strerror}") from error
        if len(known) < pages:
            raise HypervisorError(f"process {self._pid} of the VM is gone")
        return known

    def populated(self, first: int, pages: int) -> BoolArray:
        """As in the port; what was paged out is not in memory."""
        self._within(first, pages)
        resident = np.zeros(pages, np.uint8)
        start, size = self._start + first * self.page_bytes, pages * self.page_bytes
        if _LIBC.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_void_p(resident.ctypes.data)):
            raise HypervisorError(f"memory of process {self._pid}: {os.strerror(ctypes.get_errno())}")
        there: BoolArray = (resident & 1).astype(np.bool_)
        return there

    def populate(self, first: int, pages: int) -> None:
        """As in the port."""
        self._within(first, pages)
        start, size = first * self.page_bytes, pages * self.page_bytes
        try:
            with close_to(self._node()):
                self._window.madvise(_POPULATE_WRITE, start, size)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise Unsupported("this kernel does not populate memory (Linux 5.14 or newer does)") from error
            raise HypervisorError(f"the host has no memory for {pages} pages: {error.strerror}") from error
        finally:
            self._window.madvise(mmap.MADV_DONTNEED, start, size)  # it is the VM's: nothing of it counts as ours

    def used(self) -> Used | None:
        """As in the port: as who watches this VM says, else by marks of use."""
        if self._watch is not None:
            with suppress(Unsupported):
                return self._watch.used()
        return self._marked()

    def _marked(self) -> Used | None:
        """What the process, and so the VM, has used since the marks of use in its page table were cleared.

        The kernel clears the marks of all of the process (clear_refs in proc_pid_clear_refs(5)); nothing else changes
        but that what it has not used since looks older when memory is short.
        """
        folder = self._root / str(self._pid)
        try:
            maps = (folder / "smaps").read_text("utf-8", "replace") if self._cleared else ""
            (folder / "clear_refs").write_text("1")
        except (FileNotFoundError, ProcessLookupError) as error:
            if (folder / "statm").exists():
                raise Unsupported("this kernel does not tell which memory is used") from error
            raise HypervisorError(f"process {self._pid} of the VM is gone") from error
        except OSError as error:
            raise Unsupported(f"which memory is used cannot be told: {error.strerror}") from error
        before, self._cleared = self._cleared, True
        return Used(_referenced(maps, self._region)) if before else None

    def _node(self) -> int | None:
        """Where the VM runs, by a look that is not old."""
        if self._nodes.several and time.monotonic() - self._node_at > NODE_SECONDS:
            self._node_at, self._near = time.monotonic(), self._nodes.of(self._pid)
        return self._near

    def give_back(self, pages: IntArray) -> IntArray:
        """As in the port."""
        self._writers.refuse()
        pages = np.unique(pages)
        if len(pages):
            self._within(int(pages[0]), int(pages[-1] - pages[0]) + 1)
        parts = [pages[k : k + AT_ONCE] for k in range(0, len(pages), AT_ONCE)]
        return np.concatenate([np.zeros(0, np.int64), *map(self._give_back, parts)])

    def _give_back(self, pages: IntArray) -> IntArray:
        """Give back pages (increasing), if the process comes to rest."""
        began = time.monotonic()
        try:
            with self._at_rest(self._pid) as resting:
                return self._punched(pages) if resting and self._writers.are_the_same() else pages[:0]
        finally:
            self.stood_seconds += time.monotonic() - began

    def _punched(self, pages: IntArray) -> IntArray:
        """Punch holes where nothing was touched, while the process rests; which pages those were."""
        gone = [pages[:0]]
        for run in _runs(pages):
            first, count = int(run[0]), len(run)
            for free in _runs(run[~self.touched(first, count) & self.populated(first, count)]):
                for empty in _runs(free[self._empty(int(free[0]), len(free))]):
                    self._punch(int(empty[0]), len(empty))
                    gone.append(empty)
        return np.concatenate(gone)

    def _empty(self, first: int, pages: int) -> BoolArray:
        """Which pages are all zeros."""
        content = np.frombuffer(os.pread(self._memory, pages * self.page_bytes, self._offset(first)), np.uint64)
        return np.logical_not(content.reshape(pages, -1).any(axis=1))

    def _punch(self, first: int, pages: int) -> None:
        offset, size = ctypes.c_int64(self._offset(first)), ctypes.c_int64(pages * self.page_bytes)
        if _LIBC.fallocate(self._memory, _KEEP_SIZE | _PUNCH_HOLE, offset, size):
            number = ctypes.get_errno()
            raise HypervisorError(f"memory of process {self._pid} is not given back: {os.strerror(number)}")

    def _offset(self, page: int) -> int:
        return self._region.offset + page * self.page_bytes

    def _within(self, first: int, pages: int) -> None:
        if first < 0 or pages < 1 or first + pages > self.pages:
            raise HypervisorError(f"pages {first} to {first + pages - 1} of a VM that has {self.pages}")


def region_of(pid: int, root: Path = Path("/proc")) -> Region:
    """The largest memfd that a process shares, and that is not the memory of a device which comes and goes.

    Raises
    ------
    Unsupported
        It shares none that is large enough for the memory of a VM.
    HypervisorError
        The process is gone.
    """
    try:
        maps = (root / f"{pid}/maps").read_text("utf-8", "replace")
        command = (root / f"{pid}/cmdline").read_text("utf-8", "replace")
    except OSError as error:
        raise HypervisorError(f"process {pid} of the VM is gone") from error
    regions = [
        Region(int(start, 16), int(offset, 16), int(end, 16) - int(start, 16), int(inode), name)
        for start, end, offset, inode, name in _MAPPING.findall(maps)
    ]
    of_devices = _bytes_of_devices(command)
    largest = max((r for r in regions if r.bytes not in of_devices), key=lambda region: region.bytes, default=None)
    if largest is None or largest.bytes < LEAST_BYTES:
        raise Unsupported("its memory is no shared memfd: <memoryBacking><source type='memfd'/><access mode='shared'/>")
    return largest


def _referenced(maps: str, region: Region) -> int:
    """Bytes marked as used in what ``/proc/PID/smaps`` says of a region, which may be in several parts."""
    end, within, found = region.address + region.bytes, False, 0
    for line in maps.splitlines():
        if head := _HEAD.match(line):
            within = region.address <= int(head[1], 16) < end
        elif within and (said := _REFERENCED.match(line)):
            found += int(said[1]) << 10
    return found


def _bytes_of_devices(command: str) -> set[int]:
    """Sizes of memory that is a device's and not also that of the VM itself, from a command line of QEMU."""
    sizes: dict[bool, set[int]] = {True: set(), False: set()}
    for text in _OBJECT.findall(command):
        with suppress(ValueError, KeyError, TypeError):
            backend = json.loads(text)
            sizes[str(backend["id"]).startswith(_DEVICE_PREFIX)].add(int(backend["size"]))
    return sizes[True] - sizes[False]


def _has_huge_shared_pages(root: Path) -> bool:
    """Whether the kernel makes huge pages of shared memory by itself: then what is staged should be whole ones."""
    try:
        return bool({"[always]", "[within_size]", "[force]"} & set((root / _SHMEM_HUGE).read_text().split()))
    except OSError:
        return False


def _open_memfd(pid: int, region: Region, root: Path) -> int:
    """A descriptor of our own of the memfd that is mapped there."""
    for name, target in open_files(pid, root):
        if target.startswith(f"/memfd:{region.name}"):
            descriptor = _opened(root / f"{pid}/fd/{name}", os.O_RDWR)
            if os.fstat(descriptor).st_ino == region.inode:
                return descriptor
            os.close(descriptor)
    raise Unsupported(f"process {pid} has closed the descriptor of its memory")


def _mapped(memory: int, region: Region) -> mmap.mmap:
    """The VM's memory, as far as its process has it, in our own addresses."""
    try:
        return mmap.mmap(memory, region.bytes, offset=region.offset)
    except (OSError, ValueError) as error:
        raise HypervisorError(f"the memory of the VM cannot be mapped: {error}") from error


def _opened(path: Path, flags: int = os.O_RDONLY) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(f"{path}: {error.strerror}") from error


def _runs(pages: IntArray) -> list[IntArray]:
    """Pages (increasing) in runs of neighbours."""
    return np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1) if len(pages) else []
