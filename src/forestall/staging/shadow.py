"""What one VM has of its memory, and what of it is staged, page by page: the shadow that the host keeps of it.

No I/O, no clock. Decisions are made for blocks of pages (staging/memory): a block is touched when the first page of it
is, and what is left of it then is staged with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray

NOTHING = np.inf
"""Since when something is staged where nothing is."""


class Seen(NamedTuple):
    """What a look at some blocks has shown.

    Attributes
    ----------
    hits, misses
        Pages that the VM has taken since the last look: staged ones, and others.
    lost
        Pages that it has no more.
    opened
        Blocks of which it had nothing, in ascending order.
    left
        Blocks of which it has nothing any more.
    """

    hits: int
    misses: int
    lost: int
    opened: IntArray
    left: IntArray


_NONE = np.zeros(0, np.int64)
NOTHING_NEW = Seen(0, 0, 0, _NONE, _NONE)


class Shadow:
    """The memory of one VM.

    Parameters
    ----------
    pages
        How many it has.
    block_pages
        Pages of a block.
    """

    def __init__(self, pages: int, block_pages: int) -> None:
        self.pages, self.block_pages = pages, block_pages
        self.blocks = -(-pages // block_pages)
        room = self.blocks * block_pages  # a last block that is not whole
        self._touched: BoolArray = np.zeros(room, np.bool_)
        self._staged: BoolArray = np.zeros(room, np.bool_)
        self._has: IntArray = np.zeros(self.blocks, np.int64)
        self._holds: IntArray = np.zeros(self.blocks, np.int64)
        self._since: FloatArray = np.full(self.blocks, NOTHING)
        self._sizes: IntArray = np.full(self.blocks, block_pages)
        self._sizes[-1] = pages - (self.blocks - 1) * block_pages
        self.staged_pages = 0

    @property
    def touched_pages(self) -> int:
        """Pages that the VM has."""
        return int(self._has.sum())

    def range_of(self, block: int, blocks: int = 1) -> tuple[int, int]:
        """First page of some blocks that follow each other, and how many pages they have."""
        first = block * self.block_pages
        return first, min(blocks * self.block_pages, self.pages - first)

    def see(self, block: int, touched: BoolArray) -> Seen:
        """Take in which pages of the blocks from ``block`` on the VM has now: array (page,), of whole blocks."""
        first, count = block * self.block_pages, len(touched)
        blocks = -(-count // self.block_pages)
        now = np.zeros(blocks * self.block_pages, np.bool_)
        now[:count] = touched
        pages, own = slice(first, first + len(now)), slice(block, block + blocks)
        if np.array_equal(now, self._touched[pages]):
            return NOTHING_NEW
        new = now & ~self._touched[pages]
        hits = int((new & self._staged[pages]).sum())
        lost = int((self._touched[pages] & ~now).sum())
        self._touched[pages] = now
        self._staged[pages] &= ~now
        had, has = self._has[own].copy(), _by_block(now, blocks)
        self._has[own] = has
        self._count(block, blocks)
        numbers = np.arange(block, block + blocks)
        opened, left = numbers[(had == 0) & (has > 0)], numbers[(had > 0) & (has == 0)]
        return Seen(hits, int(new.sum()) - hits, lost, opened, left)

    def missing(self, block: int) -> int:
        """How many pages of a block are neither the VM's nor staged."""
        return int(self._sizes[block] - self._has[block] - self._holds[block])

    def lacking(self, block: int) -> int:
        """How many pages of a block the VM does not have."""
        return int(self._sizes[block] - self._has[block])

    def touched_of(self, pages: IntArray) -> int:
        """How many of these pages the VM has."""
        return int(self._touched[pages].sum())

    def stage(self, block: int, at: float) -> int:
        """Count what the VM does not have of a block as staged since then; how many pages are new in that."""
        before = int(self._holds[block])
        first, count = self.range_of(block)
        self._staged[first : first + count] = ~self._touched[first : first + count]
        self._count(block, 1)
        if self._holds[block] > before:
            self._since[block] = at
        return int(self._holds[block]) - before

    def renew(self, block: int, at: float) -> None:
        """What is staged of a block counts as staged since then."""
        if self._holds[block]:
            self._since[block] = at

    def adopt(self, block: int, populated: BoolArray, at: float) -> None:
        """Count pages as staged that the host already holds, and the VM does not have; of blocks from ``block`` on."""
        first = block * self.block_pages
        pages = slice(first, first + len(populated))
        self._staged[pages] |= populated & ~self._touched[pages]
        blocks = -(-len(populated) // self.block_pages)
        self._count(block, blocks)
        own = slice(block, block + blocks)
        self._since[own] = np.where((self._holds[own] > 0) & (self._since[own] == NOTHING), at, self._since[own])

    def staged_in(self, block: int) -> IntArray:
        """Pages of a block that are staged."""
        first, count = self.range_of(block)
        return first + np.flatnonzero(self._staged[first : first + count])

    def gone(self, block: int) -> int:
        """Count nothing of a block as staged any more; how many pages that were."""
        first, count = self.range_of(block)
        went = int(self._holds[block])
        self._staged[first : first + count] = False
        self._count(block, 1)
        return went

    def overdue(self, before: float) -> IntArray:
        """Blocks with something that is staged since before then, the oldest first."""
        old = np.flatnonzero(self._since < before)
        in_order: IntArray = old[np.argsort(self._since[old], kind="stable")]
        return in_order

    def oldest(self) -> tuple[float, int]:
        """Since when something is staged that has been for the longest, and in which block; infinite: nothing is."""
        block = int(np.argmin(self._since))
        return float(self._since[block]), block

    def staged_blocks(self) -> IntArray:
        """Blocks with something that is staged."""
        return np.flatnonzero(self._holds > 0)

    def open_blocks(self) -> IntArray:
        """Blocks of which the VM does not have everything."""
        return np.flatnonzero(self._has < self._sizes)

    def open_around(self, blocks: IntArray) -> IntArray:
        """Of these blocks and those next to them, the ones of which the VM does not have everything."""
        near = np.unique(np.concatenate([blocks - 1, blocks, blocks + 1]))
        near = near[(near >= 0) & (near < self.blocks)]
        open_ones: IntArray = near[self._has[near] < self._sizes[near]]
        return open_ones

    def _count(self, block: int, blocks: int) -> None:
        """Count anew what of some blocks is staged."""
        first, last = block * self.block_pages, (block + blocks) * self.block_pages
        own = slice(block, block + blocks)
        before, now = self._holds[own].sum(), _by_block(self._staged[first:last], blocks)
        self.staged_pages += int(now.sum() - before)
        self._holds[own] = now
        self._since[own][self._holds[own] == 0] = NOTHING


def _by_block(pages: BoolArray, blocks: int) -> IntArray:
    """How many pages of each block are set."""
    counts: IntArray = pages.reshape(blocks, -1).sum(axis=1)
    return counts
