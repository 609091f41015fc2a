"""One VM whose memory is shadowed: where to look for what it took, so that looking stays cheap.

That it took something the host says at once, by a count; where, must be searched: first where it took something of
late, and next to what is staged, then a part of the rest at each look, until everything that was counted is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from forestall.model.samples import IntArray
from forestall.ports.guest_pages import GuestPages
from forestall.staging.asked import Asked, AskedView, Held
from forestall.staging.shadow import Seen, Shadow

SWEEP_BLOCKS, SWEEP_SECONDS = 64, 0.002
"""So many blocks of the rest are looked at at once, and for so long each time."""
UNEXPLAINED_PAGES = 16
"""So few pages are not searched for: counts are of the whole process."""
LATELY = 16
"""Blocks that the VM took pages of last are looked at first."""
PATIENCE_SECONDS = 60.0
"""Who has searched everywhere in vain searches again after a second, then two, up to this."""


@dataclass(frozen=True)
class Place:
    """A VM that is to be shadowed.

    Attributes
    ----------
    vm_id, incarnation, pid
        Its name, which run of it, and its process.
    group, generation
        Name of its trust group, and which one of that name, should it have been made anew.
    horizon_seconds
        A page that is not touched within so long of being staged is given back.
    acting
        Whether pages may be staged; if not, it is only followed what would have come of it.
    asked
        Memory that is to be staged for it in any case.
    left_alone
        Whether an operator wants nothing about it changed: what is looked at by changing it is not looked at.
    """

    vm_id: str
    incarnation: str
    pid: int
    group: str
    horizon_seconds: float
    acting: bool = True
    asked: tuple[Asked, ...] = ()
    generation: str = ""
    left_alone: bool = False


@dataclass
class Watched:
    """A VM, its pages on the host, and their shadow.

    Attributes
    ----------
    number, group
        By which the core knows it and its trust group.
    silenced
        Whether nothing may be staged for it any more, whatever is wanted.
    taken_pages
        So many pages the VM has taken since it is shadowed.
    held
        What was asked for, by name.
    going
        Blocks that are to be given back, and whether because nobody touched them.
    may_give_back_at, refused
        Not before, for each time the VM stands still for a moment; and how often in vain.
    look_over_at
        When it is next seen to what has been staged for too long.
    """

    place: Place
    number: int
    group: int
    pages: GuestPages
    shadow: Shadow
    silenced: bool = False
    taken_pages: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    going: dict[int, bool] = field(default_factory=dict)
    may_give_back_at: float = 0.0
    refused: int = 0
    look_over_at: float = 0.0
    _news: list[Seen] = field(default_factory=list)
    _resident: int = 0
    _unexplained: int = 0
    _lately: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _cursor: int = 0
    _unswept: int = 0
    _fruitless: int = 0
    _sweep_at: float = float("-inf")

    @property
    def may_act(self) -> bool:
        """Whether pages may be staged for it."""
        return self.place.acting and not self.silenced

    def begin(self, at: float) -> list[int]:
        """Take in everything that there is; blocks of which the VM has something."""
        self._resident = self.pages.resident()
        if self.may_act:
            self.adopt(at)
        else:
            for block, blocks in self._whole():
                self._look(block, blocks)
        self.taken_pages = 0
        found: list[int] = self.drain().opened.tolist()
        return found

    def adopt(self, at: float) -> None:
        """What the host has and the VM has not was staged by somebody before us, who has ended: count it as staged."""
        for block, blocks in self._whole():
            first, count = self.shadow.range_of(block, blocks)
            self._look(block, blocks)
            if len(self.shadow.open_around(np.arange(block, block + blocks))):
                self.shadow.adopt(block, self.pages.populated(first, count), at)

    def _whole(self) -> Iterator[tuple[int, int]]:
        for block in range(0, self.shadow.blocks, SWEEP_BLOCKS):
            yield block, min(SWEEP_BLOCKS, self.shadow.blocks - block)

    def moved(self) -> bool:
        """Whether there is something to search for."""
        resident = self.pages.resident()
        if resident != self._resident:
            self._unexplained += resident - self._resident
            self._resident = resident
            self._unswept = self.shadow.blocks
        return self._unswept > 0 and abs(self._unexplained) > UNEXPLAINED_PAGES

    def search(self, now: Callable[[], float]) -> None:
        """Look where something is probable, and at parts of the rest for a moment if it is not all there."""
        near = np.union1d(self.shadow.open_around(self._lately), self.shadow.staged_blocks())
        for run in runs(near):
            self._look(int(run[0]), len(run))
        began = now()
        for part in self._rest() if began >= self._sweep_at else ():
            if abs(self._unexplained) <= UNEXPLAINED_PAGES:
                self._fruitless = 0
                break
            for run in runs(part):
                self._look(int(run[0]), len(run))
            if now() >= began + SWEEP_SECONDS:
                break
        if self._unswept <= 0 and abs(self._unexplained) > UNEXPLAINED_PAGES:
            # Searched everywhere: what is missing is not memory of the VM, but something else that its process has.
            self._unexplained = 0
            self._sweep_at = began + min(2.0**self._fruitless, PATIENCE_SECONDS)
            self._fruitless += 1

    def look(self, block: int) -> None:
        """Look at one block."""
        self._look(block, 1)

    def drain(self) -> Seen:
        """Everything that looks have shown since the last time."""
        news, self._news = self._news, []
        none = np.zeros(0, np.int64)
        opened = np.unique(np.concatenate([none, *(seen.opened for seen in news)]))
        return Seen(
            sum(seen.hits for seen in news),
            sum(seen.real_hits for seen in news),
            sum(seen.misses for seen in news),
            sum(seen.lost for seen in news),
            np.array([block for block in opened.tolist() if self.shadow.has(block)], np.int64),
            np.unique(np.concatenate([none, *(seen.left for seen in news)])),
        )

    @property
    def has_news(self) -> bool:
        """Whether a look has shown something that was not drained yet."""
        return bool(self._news)

    def ahead(self, pages: int, expected: Iterable[int]) -> tuple[list[int], int]:
        """Blocks that the VM will probably take next, enough for so many pages, and how many pages those have.

        Those that are expected come first, then what lies behind the block that it took last, then what is before it.
        What is asked for already is not asked for twice.
        """
        taken = {block for held in self.held.values() for block in (*held.blocks, *self.blocks_of(held))}
        here = int(self._lately[0]) if len(self._lately) else 0
        by_place = (*range(here, self.shadow.blocks), *range(here - 1, -1, -1))
        found, room = dict[int, None](), 0
        for block in (*expected, *by_place):
            if room >= pages:
                break
            free = 0 <= block < self.shadow.blocks and block not in found and block not in taken
            if free and (lacking := self.shadow.lacking(block)):
                found[block] = None
                room += lacking
        return list(found), min(room, pages)

    def blocks_of(self, held: Held) -> list[int]:
        """Blocks that were staged for something that was asked for."""
        blocks: list[int] = np.unique(held.all_pages // self.shadow.block_pages).tolist()
        return blocks

    def view_of(self, held: Held) -> AskedView:
        """What has become of something that was asked for."""
        pages = held.all_pages
        touched = self.shadow.touched_of(pages)
        taken, done = self.taken_pages - held.taken_before, not held.blocks
        return AskedView(held.wanted, len(pages), touched, taken, done, held.why)

    def _rest(self) -> Iterator[IntArray]:
        """Parts of all blocks that can show something, from where the last search ended until all were seen."""
        candidates: IntArray | None = None
        while self._unswept > 0:
            if candidates is None:
                candidates = self.shadow.open_blocks() if self._unexplained > 0 else np.arange(self.shadow.blocks)
            start = int(np.searchsorted(candidates, self._cursor))
            part = candidates[start : start + SWEEP_BLOCKS]
            end = int(part[-1]) + 1 if len(part) else self.shadow.blocks
            self._unswept -= end - self._cursor
            self._cursor = end % self.shadow.blocks
            yield part

    def _look(self, block: int, blocks: int) -> None:
        first, count = self.shadow.range_of(block, blocks)
        seen = self.shadow.see(block, self.pages.touched(first, count))
        if not (seen.hits or seen.misses or seen.lost):
            return
        self._news.append(seen)
        self.taken_pages += seen.hits + seen.misses
        self._unexplained -= seen.hits + seen.misses - seen.lost
        if len(seen.opened):
            self._lately = np.concatenate([seen.opened[-LATELY:][::-1], self._lately])[:LATELY]


def runs(blocks: IntArray) -> list[IntArray]:
    """Blocks (increasing) in runs of neighbours."""
    return np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1) if len(blocks) else []
