"""What one VM has of its memory, and what of it is staged, page by page: the shadow that the host keeps of it.

No I/O, no clock. Decisions are made for blocks of pages (staging/memory): a block is touched when the first page of it
is, and what is left of it then is staged with it. What is staged is *real*, populated on the host, or only followed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray

NOTHING = np.inf
"""Since when something is staged where nothing is."""
_NONE: IntArray = np.zeros(0, np.int64)


class Seen(NamedTuple):
    """What a look at some blocks has shown.

    Attributes
    ----------
    hits, real_hits, misses
        Pages that the VM has taken since the last look: staged ones, those of them that were real, and others.
    lost
        Pages that it has no more.
    opened
        Blocks of which it had nothing, in ascending order.
    left
        Blocks of which it has nothing any more.
    """

    hits: int = 0
    real_hits: int = 0
    misses: int = 0
    lost: int = 0
    opened: IntArray = _NONE
    left: IntArray = _NONE


class Shadow:
    """The memory of one VM.

    Parameters
    ----------
    pages
        How many it has.
    block_pages
        Pages of a block.

    Attributes
    ----------
    staged_pages, real_pages
        Pages that are staged, and those of them that are real.
    """

    def __init__(self, pages: int, block_pages: int) -> None:
        self.pages, self.block_pages = pages, block_pages
        self.blocks = -(-pages // block_pages)
        room = self.blocks * block_pages  # a last block that is not whole
        self._touched: BoolArray = np.zeros(room, np.bool_)
        self._staged: BoolArray = np.zeros(room, np.bool_)
        self._has: IntArray = np.zeros(self.blocks, np.int64)
        self._holds: IntArray = np.zeros(self.blocks, np.int64)
        self._real: BoolArray = np.zeros(self.blocks, np.bool_)
        self._since: FloatArray = np.full(self.blocks, NOTHING)
        self._until: FloatArray = np.full(self.blocks, -np.inf)
        self._sizes: IntArray = np.full(self.blocks, block_pages)
        self._sizes[-1] = pages - (self.blocks - 1) * block_pages
        self.staged_pages = self.real_pages = 0

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
            return Seen()
        new, lost = now & ~self._touched[pages], int((self._touched[pages] & ~now).sum())
        hit = new & self._staged[pages]
        hits, real_hits = int(hit.sum()), int((hit & np.repeat(self._real[own], self.block_pages)).sum())
        self._touched[pages] = now
        self._staged[pages] &= ~now
        had, has = self._has[own].copy(), _by_block(now, blocks)
        self._has[own] = has
        self._count(block, blocks)
        numbers = np.arange(block, block + blocks)
        opened, left = numbers[(had == 0) & (has > 0)], numbers[(had > 0) & (has == 0)]
        return Seen(hits, real_hits, int(new.sum()) - hits, lost, opened, left)

    def has(self, block: int) -> int:
        """How many pages of a block the VM has."""
        return int(self._has[block])

    def holds(self, block: int) -> int:
        """How many pages of a block are staged."""
        return int(self._holds[block])

    def is_real(self, block: int) -> bool:
        """Whether what is staged of a block is real."""
        return bool(self._real[block])

    def missing(self, block: int) -> int:
        """How many pages of a block are neither the VM's nor staged."""
        return int(self._sizes[block] - self._has[block] - self._holds[block])

    def lacking(self, block: int) -> int:
        """How many pages of a block the VM does not have."""
        return int(self._sizes[block] - self._has[block])

    def touched_of(self, pages: IntArray) -> int:
        """How many of these pages the VM has."""
        return int(self._touched[pages].sum())

    def stage(self, block: int, at: float, *, real: bool) -> int:
        """Count what the VM does not have of a block as staged since then; how many pages are new in that."""
        before = self.holds(block)
        first, count = self.range_of(block)
        self._staged[first : first + count] = ~self._touched[first : first + count]
        self._count(block, 1, real or self.is_real(block))
        if self._holds[block]:
            self._since[block] = at
        return self.holds(block) - before

    def keep(self, block: int, until: float) -> None:
        """What is staged of a block was asked for, and is kept until then."""
        self._until[block] = max(self._until[block], until)

    def release(self, block: int) -> None:
        """It is not asked for any more."""
        self._until[block] = -np.inf

    def is_kept(self, block: int, now: float) -> bool:
        """Whether what is staged of a block was asked for."""
        return bool(self._until[block] > now)

    def adopt(self, block: int, populated: BoolArray, at: float) -> None:
        """Count pages as staged, and real, that the host has and the VM has not; of the blocks from ``block`` on."""
        first, blocks = block * self.block_pages, -(-len(populated) // self.block_pages)
        pages = slice(first, first + len(populated))
        found = populated & ~self._touched[pages]
        if not found.any():
            return
        self._staged[pages] |= found
        own = slice(block, block + blocks)
        held = self._real[own] | (_by_block(self._staged[first : first + blocks * self.block_pages], blocks) > 0)
        self._count(block, blocks, held)
        self._since[own] = np.where((self._holds[own] > 0) & (self._since[own] == NOTHING), at, self._since[own])

    def staged_in(self, block: int) -> IntArray:
        """Pages of a block that are staged."""
        first, count = self.range_of(block)
        return first + np.flatnonzero(self._staged[first : first + count])

    def unstage(self, block: int, pages: IntArray | None = None) -> int:
        """Count pages of a block (page,) as staged no more, or all of them; how many were."""
        before = self.holds(block)
        self._staged[self.staged_in(block) if pages is None else pages] = False
        self._count(block, 1)
        return before - self.holds(block)

    def overdue(self, before: float, now: float) -> IntArray:
        """Blocks with something that is staged since before then, and not asked for; the oldest first."""
        old = np.flatnonzero((self._since < before) & (self._until <= now))
        in_order: IntArray = old[np.argsort(self._since[old], kind="stable")]
        return in_order

    def oldest(self, now: float, *, real: bool) -> tuple[float, int]:
        """Since when something is staged, real or not, that was not asked for and is the oldest, and where."""
        since = np.where((self._real == real) & (self._until <= now), self._since, NOTHING)
        block = int(np.argmin(since))
        return float(since[block]), block

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

    def _count(self, block: int, blocks: int, real: BoolArray | bool | None = None) -> None:
        """Count anew what of some blocks is staged, and say which of them are real."""
        first, last = block * self.block_pages, (block + blocks) * self.block_pages
        own = slice(block, block + blocks)
        staged, real_ones = self._holds[own].sum(), self._holds[own][self._real[own]].sum()
        self._holds[own] = _by_block(self._staged[first:last], blocks)
        if real is not None:
            self._real[own] = real
        empty = self._holds[own] == 0
        self._real[own][empty] = False
        self._since[own][empty] = NOTHING
        self._until[own][empty] = -np.inf
        self.staged_pages += int(self._holds[own].sum() - staged)
        self.real_pages += int(self._holds[own][self._real[own]].sum() - real_ones)


def _by_block(pages: BoolArray, blocks: int) -> IntArray:
    """How many pages of each block are set."""
    counts: IntArray = pages.reshape(blocks, -1).sum(axis=1)
    return counts
