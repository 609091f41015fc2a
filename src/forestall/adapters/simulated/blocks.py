"""Disks of VMs whose files live in sets of numbers, and a page cache over them that takes its time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from forestall.model.errors import HypervisorError
from forestall.model.samples import BoolArray, IntArray
from forestall.ports.blocks import DiskFile, Requests


class SimulatedFileCache:
    """As :class:`~forestall.ports.blocks.FileCache`.

    Parameters
    ----------
    block_bytes
        Size of a block.
    slow
        Whether what is brought arrives only when :meth:`arrive` says so.

    Attributes
    ----------
    sizes
        Blocks of each file, by its path.
    resident
        What is in memory: paths and numbers.
    brought, dropped
        What was asked for, in order: paths, first blocks and counts.
    """

    def __init__(self, block_bytes: int = 65536, *, slow: bool = False) -> None:
        self.block_bytes, self._slow = block_bytes, slow
        self.sizes: dict[str, int] = {}
        self.resident: set[tuple[str, int]] = set()
        self.brought: list[tuple[str, int, int]] = []
        self.dropped: list[tuple[str, int, int]] = []
        self._on_the_way: list[tuple[str, int]] = []

    def blocks(self, path: str) -> int:
        """How many blocks a file has."""
        if path not in self.sizes:
            raise HypervisorError(f"{path}: No such file or directory")
        return self.sizes[path]

    def present(self, path: str, number: IntArray) -> BoolArray:
        """Which blocks are in memory."""
        self.blocks(path)
        return np.array([(path, n) in self.resident for n in number.tolist()], np.bool_)

    def bring(self, path: str, first: int, blocks: int) -> None:
        """Have blocks read; they arrive at once, or when told to."""
        end = min(first + blocks, self.blocks(path))
        self.brought.append((path, first, blocks))
        self._on_the_way += [(path, number) for number in range(first, end)]
        if not self._slow:
            self.arrive()

    def arrive(self, most: int | None = None) -> None:
        """Let what was asked for first arrive."""
        self.resident.update(self._on_the_way[:most])
        del self._on_the_way[:most]

    def drop(self, path: str, first: int, blocks: int) -> None:
        """Forget blocks."""
        self.blocks(path)
        self.dropped.append((path, first, blocks))
        self.resident -= {(path, number) for number in range(first, first + blocks)}

    def keep(self, paths: Collection[str]) -> None:
        """Nothing to let go of."""

    def close(self) -> None:
        """Nothing to let go of."""


class SimulatedBlockWatch:
    """As :class:`~forestall.ports.blocks.BlockWatch`, of a VM that reads what it is told to.

    Parameters
    ----------
    cache
        The host's page cache.
    files
        What its disks lie in.
    now
        Tells the time, seconds UTC.

    Attributes
    ----------
    waited
        Of the blocks that it has read, how many were not in memory.
    watched, gone
        Whether it is watched, and whether it has ended.
    """

    def __init__(self, cache: SimulatedFileCache, files: Sequence[DiskFile], now: Callable[[], float]) -> None:
        self.files, self._cache, self._now = list(files), cache, now
        self._requests: list[tuple[float, int, int, bool]] = []
        self.waited = 0
        self.watched, self.gone = True, False

    def use(self, blocks: Iterable[int], file: int = 0, *, write: bool = False) -> None:
        """The VM reads or writes blocks of a file."""
        for number in blocks:
            block = self.files[file].path, number
            self.waited += block not in self._cache.resident and not write
            self._cache.resident.add(block)
            if self.watched:
                self._requests.append((self._now(), file, number, write))

    def take(self) -> Requests:
        """What it asked for."""
        if self.gone:
            raise HypervisorError("the VM is gone")
        taken, self._requests = self._requests, []
        at, file, number, write = (np.array([row[k] for row in taken]) for k in range(4))
        size = np.full(len(taken), self._cache.block_bytes, np.int64)
        offset = number.astype(np.int64) * self._cache.block_bytes
        return Requests(at.astype(np.float64), file.astype(np.int32), offset, size, write.astype(np.bool_))

    def rest(self) -> None:
        """Watch no more for a while."""
        self.watched = False

    def resume(self) -> None:
        """Watch again."""
        if self.gone:
            raise HypervisorError("the VM is gone")
        self.watched = True

    def close(self) -> None:
        """Watch no more."""
        self.watched = False
