"""What the VMs of one trust group read from their disks, and what they will read next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import BoolArray, IntArray
from forestall.ports.blocks import DiskFile, Requests
from forestall.staging.loop import Staged, StagingLoop
from forestall.staging.settings import StagingSettings

REACH = 63
"""Blocks ahead: a slow disk needs many on their way at a time, and one that is not read in vain costs little."""
MEMORY_BLOCKS = 256
"""Whether it pays is judged by so many blocks: known programs and others come in turn, some hundred blocks each."""
KEEP_BLOCKS = 256
"""What is staged is taken to be of no use when so many other blocks were used since."""
HISTORY, SLOTS = 1 << 18, 1 << 17
STREAMS = 256
PAST_AT_ONCE, MOST_PAST_BLOCKS = 256, 50_000
"""So many blocks a model begins with: half a second's work."""
MOST_BLOCKS, MOST_AT_ONCE = 64, 8_192
"""Of one request no more blocks are looked at (discards and zeros go over whole disks), and of a beat, the latest."""


class Used(NamedTuple):
    """Blocks that VMs used, in order; arrays (block,): space and number of each, and whether it was written."""

    space: NDArray[np.int32]
    number: IntArray
    write: BoolArray

    def chosen(self, which: BoolArray) -> Used:
        """Some of them."""
        return Used(self.space[which], self.number[which], self.write[which])


@dataclass(frozen=True, eq=False)
class Past:
    """What VMs of a trust group read before this process began, in order; arrays (access,) but for names.

    Attributes
    ----------
    paths, vm_ids
        Files, and VMs.
    path, vm
        Indices into them.
    offset_bytes, size_bytes
        Where in the file, and how much.
    """

    paths: tuple[str, ...]
    vm_ids: tuple[str, ...]
    path: IntArray
    vm: IntArray
    offset_bytes: IntArray
    size_bytes: IntArray


@dataclass(frozen=True)
class BlockView:
    """A trust group's account of its disks since the loop began; blocks.

    Attributes
    ----------
    vms, staged_bytes
        VMs whose disks are watched, and what is staged for them now.
    hits, real_hits, late, misses
        Blocks read that were staged and there, or would have been where it is only followed; those that were; that were
        on their way still; and that were neither staged nor in use before.
    staged, wasted
        Blocks that were staged, or would have been; and of these nobody read so many in time.
    precision, coverage
        Of what was staged and is settled, the share that was read; and of what was not in use before, the share that
        was there when it was read. None while nothing is known.
    threshold
        What is read with a higher probability is staged; above 1 nothing is, for it would not pay.
    """

    vms: int = 0
    staged_bytes: int = 0
    hits: int = 0
    real_hits: int = 0
    late: int = 0
    misses: int = 0
    staged: int = 0
    wasted: int = 0
    precision: float | None = None
    coverage: float | None = None
    threshold: float = 0.0


@dataclass
class BlockAccount:
    """Counts of :class:`BlockView`."""

    hits: int = 0
    real_hits: int = 0
    late: int = 0
    misses: int = 0
    staged: int = 0
    wasted: int = 0

    def view(self, vms: int, staged_bytes: int, threshold: float) -> BlockView:
        """Everything."""
        right, read = self.hits + self.late, self.hits + self.late + self.misses
        return BlockView(
            vms=vms,
            staged_bytes=staged_bytes,
            hits=self.hits,
            real_hits=self.real_hits,
            late=self.late,
            misses=self.misses,
            staged=self.staged,
            wasted=self.wasted,
            precision=right / (right + self.wasted) if right + self.wasted else None,
            coverage=self.hits / read if read else None,
            threshold=threshold,
        )


class BlockGroup:
    """One trust group: its own model, and names of files and VMs as that model's numbers.

    A block is a block of a file, so VMs over one base image learn from each other, and those with a disk of their own
    from what they did before.

    Parameters
    ----------
    block_bytes
        Size of a block.
    cache_blocks
        So many blocks the host is believed to keep for the group.
    least_precision
        What it costs to have the disk read a block ahead, over what it costs a VM to wait for one: no less of what is
        staged must be read.
    """

    def __init__(self, block_bytes: int, cache_blocks: int, least_precision: float) -> None:
        self._block_bytes = block_bytes
        settings = StagingSettings(
            cache_items=cache_blocks,
            waste_cost=0.0,
            stage_cost=least_precision,
            reach=REACH,
            memory_accesses=MEMORY_BLOCKS,
            keep=KEEP_BLOCKS,
            history=HISTORY,
            least_slots=SLOTS,
            streams=STREAMS,
        )
        self.loop = StagingLoop(settings)
        self.account = BlockAccount()
        self.paths: list[str] = []
        self._spaces: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def space(self, path: str) -> int:
        """Number of a file."""
        if path not in self._spaces:
            self._spaces[path] = len(self.paths)
            self.paths.append(path)
        return self._spaces[path]

    def used(self, vm_id: str, files: Sequence[DiskFile], requests: Requests) -> Used:
        """Blocks that a VM's requests touch; several requests in a row for one block are one use of it."""
        spaces = np.array([self.space(file.path) for file in files], np.int32)
        request, number = self._blocks(requests.offset_bytes, requests.size_bytes, MOST_AT_ONCE)
        space = spaces[requests.file[request]]
        if not len(number):
            return Used(space, number, np.zeros(0, np.bool_))
        space_before, number_before = self._last.get(vm_id, (-1, -1))
        again = (space == np.append(space_before, space[:-1])) & (number == np.append(number_before, number[:-1]))
        self._last[vm_id] = int(space[-1]), int(number[-1])
        return Used(space, number, requests.write[request]).chosen(~again)

    def in_use(self, used: Used) -> BoolArray:
        """Which of these were believed to be in memory, or come for the second time here; array (block,)."""
        in_use = self.loop.holds(used.space, used.number)
        _, first = np.unique(np.stack([used.space, used.number]), axis=1, return_index=True)
        again = np.ones(len(in_use), np.bool_)
        again[first] = False
        return in_use | again

    def take_in(self, vm_id: str, used: Used) -> Staged:
        """Learn from what a VM used; what is to be staged."""
        return self.loop.take_in(np.full(len(used.number), self._stream(vm_id), np.int32), used.space, used.number)

    def learn(self, past: Past) -> None:
        """Learn from what VMs used before; nothing of that is taken to be in memory still, when it was used again."""
        access, number = self._blocks(past.offset_bytes, past.size_bytes, MOST_PAST_BLOCKS)
        space = np.array([self.space(path) for path in past.paths], np.int32)[past.path[access]]
        stream = np.array([self._stream(vm_id) for vm_id in past.vm_ids], np.int32)[past.vm[access]]
        again = np.zeros(len(number), np.bool_)
        again[1:] = (np.diff(space) == 0) & (np.diff(number) == 0) & (np.diff(stream) == 0)
        stream, space, number = stream[~again], space[~again], number[~again]
        for first in range(0, len(number), PAST_AT_ONCE):
            part = slice(first, first + PAST_AT_ONCE)
            self.loop.take_in(stream[part], space[part], number[part])
            self.loop.lose(*self.loop.held())

    def believed(self) -> Iterator[tuple[str, IntArray]]:
        """What is believed to be in memory: of each file the blocks, in order."""
        space, number = self.loop.held()
        for k, path in enumerate(self.paths):
            yield path, np.sort(number[space == k])

    def lose(self, path: str, number: Sequence[int]) -> None:
        """Blocks of a file are not in memory."""
        if number:
            self.loop.lose(np.full(len(number), self.space(path), np.int32), np.array(number, np.int64))

    def _stream(self, vm_id: str) -> int:
        return self._streams.setdefault(vm_id, len(self._streams))

    def _blocks(self, offset: IntArray, size: IntArray, most: int) -> tuple[IntArray, IntArray]:
        """Blocks (block,) that requests (request,) touch, the latest: index of the request, and number of the block."""
        first = offset // self._block_bytes
        end = (offset + np.maximum(size, 1) - 1) // self._block_bytes + 1
        count = np.minimum(end - first, MOST_BLOCKS)
        request = np.repeat(np.arange(len(first)), count)
        number = first[request] + np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
        return request[-most:], number[-most:]
