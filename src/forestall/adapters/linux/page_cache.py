"""Files in the host's page cache: which blocks are there, bringing them in, letting them go.

Sources: posix_fadvise(2), mincore(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forestall.model.errors import HypervisorError
from forestall.model.samples import BoolArray, IntArray

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE_BYTES = mmap.PAGESIZE
AT_ONCE_BYTES = 128 << 10
"""The kernel reads no more at a word than a disk's largest request or its read-ahead, and forgets the rest."""


@dataclass
class _Opened:
    """A file that is held open, as it was found under its path."""

    descriptor: int
    identity: tuple[int, int]
    size_bytes: int
    mapping: mmap.mmap | None = None
    address: int = 0

    def close(self) -> None:
        if self.mapping is not None:
            self.mapping.close()
        os.close(self.descriptor)


class PageCache:
    """A :class:`~forestall.ports.blocks.FileCache` of this host.

    Parameters
    ----------
    block_bytes
        Size of a block: whole pages.
    """

    def __init__(self, block_bytes: int) -> None:
        if block_bytes < _PAGE_BYTES or block_bytes % _PAGE_BYTES:
            raise ValueError(f"a block of {block_bytes} bytes is not whole pages")
        self._block_bytes = block_bytes
        self._files: dict[str, _Opened] = {}

    @property
    def block_bytes(self) -> int:
        """Size of a block."""
        return self._block_bytes

    def blocks(self, path: str) -> int:
        """How many blocks a file has."""
        return -(-self._file(path).size_bytes // self._block_bytes)

    def present(self, path: str, number: IntArray) -> BoolArray:
        """Which blocks are in memory, all of their pages."""
        file = self._mapped(path)
        found = np.zeros(len(number), np.bool_)
        if file.mapping is None:
            return found
        order = np.argsort(number, kind="stable")
        for places in runs_of(number[order]):
            first, last = int(number[order[places.start]]), int(number[order[places.stop - 1]])
            resident = self._resident(path, file, first, last - first + 1)
            found[order[places]] = resident[number[order[places]] - first]
        return found

    def bring(self, path: str, first: int, blocks: int) -> None:
        """Have the kernel read blocks in; it begins, and does not wait."""
        at_once = max(AT_ONCE_BYTES // self._block_bytes, 1)
        for part in range(first, first + blocks, at_once):
            self._advise(path, part, min(at_once, first + blocks - part), os.POSIX_FADV_WILLNEED)

    def drop(self, path: str, first: int, blocks: int) -> None:
        """Have the kernel forget blocks that are clean."""
        self._advise(path, first, blocks, os.POSIX_FADV_DONTNEED)

    def keep(self, paths: Collection[str]) -> None:
        """Let go of all other files."""
        for path in self._files.keys() - set(paths):
            self._let_go(path)

    def close(self) -> None:
        """Let go of all files."""
        self.keep(())

    def _let_go(self, path: str) -> None:
        if (file := self._files.pop(path, None)) is not None:
            file.close()

    def _advise(self, path: str, first: int, blocks: int, advice: int) -> None:
        with _told(path):
            file = self._file(path)
            os.posix_fadvise(file.descriptor, first * self._block_bytes, blocks * self._block_bytes, advice)

    def _resident(self, path: str, file: _Opened, first: int, blocks: int) -> BoolArray:
        """Of a run of blocks, which are there; what lies behind the end of the file is not."""
        each = self._block_bytes // _PAGE_BYTES
        pages = -(-file.size_bytes // _PAGE_BYTES) - first * each
        if pages <= 0:
            return np.zeros(blocks, np.bool_)
        pages, whole = min(pages, blocks * each), blocks * each
        vector: NDArray[np.uint8] = np.ones(
            whole, np.uint8
        )  # the end of a last block that is no whole one is not waited for
        start = ctypes.c_void_p(file.address + first * self._block_bytes)
        if _LIBC.mincore(start, ctypes.c_size_t(pages * _PAGE_BYTES), vector.ctypes.data_as(ctypes.c_void_p)) != 0:
            raise HypervisorError(f"{path}: {os.strerror(ctypes.get_errno())}")
        resident: BoolArray = np.all((vector & 1).reshape(blocks, each) == 1, axis=1)
        resident[-(-pages // each) :] = False
        return resident

    def _mapped(self, path: str) -> _Opened:
        file = self._file(path)
        if file.mapping is None and file.size_bytes:
            with _told(path):
                file.mapping = mmap.mmap(file.descriptor, file.size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            file.address = np.frombuffer(file.mapping, np.uint8, 1).ctypes.data
        return file

    def _file(self, path: str) -> _Opened:
        """The file under a path, opened anew where it is another by now or has another size."""
        with _told(path):
            try:
                there = os.stat(path)
            except OSError:
                self._let_go(path)  # or what it takes on the disk would stay with us
                raise
            file, identity = self._files.get(path), (there.st_dev, there.st_ino)
            regular = stat.S_ISREG(there.st_mode)
            if file is not None and file.identity == identity and (not regular or file.size_bytes == there.st_size):
                return file
            if not regular and not stat.S_ISBLK(there.st_mode):
                raise HypervisorError(f"{path}: is neither a file nor a block device")
            self._let_go(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
            self._files[path] = opened = _Opened(descriptor, identity, size_bytes)
            return opened


def runs_of(number: IntArray) -> Iterator[slice]:
    """Places of runs of numbers that rise by at most one, in numbers (block,) that do not fall."""
    ends = np.flatnonzero(np.diff(number) > 1) + 1
    for first, end in pairwise((0, *ends.tolist(), len(number))):
        if end > first:
            yield slice(first, end)


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HypervisorError(f"{path}: {error.strerror}") from error
