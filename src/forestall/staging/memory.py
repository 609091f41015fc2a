"""The decision core that stages guest memory: which pages to populate before a guest touches them, which to let go.

No I/O, no clock, no threads. What is called a page here may also be a block of them: on a live host it is (see
staging/shadow). Two things are known of what comes next. What lies near: every touch gives the pages
around it a chance (learning/access/touches), and those above a threshold are staged. What came then: where another
run, in this VM or another of its trust group, has gone the same way, what followed there is staged, and as long as
that is right the neighbourhood counts for less. When there is no room, the page whose chance is least goes, a chance
fading with every touch since. A page that was touched is the guest's: nothing here ever lets it go.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from forestall.learning.access.touches import ABOVE, BELOW, MARGIN_ABOVE, MARGIN_BELOW, chances, untouched
from forestall.model.errors import WrongUse
from forestall.model.samples import IntArray
from forestall.staging.past_runs import PastRuns

Page = tuple[int, int]
"""A VM, and the number of a page of it."""
BLOCK = 256
THRESHOLD, AGAIN = 0.27, 1.4
"""A page is staged from this chance on; from so many times that if it was let go before."""
FADING = -math.log(0.96)
"""A chance that was stated fades by this much, in its logarithm, with every touch."""
SURE, GOING_ON = 0.99, 0.6
"""Chances of what followed in a past that is right, and of a run going on as fast as it came."""
ASTRAY = 0.75
"""What the neighbourhood must say of a touch that the past did not foresee, while it is trusted."""


class MemoryMoves(NamedTuple):
    """What to do after a touch: pages to let go, and pages of its VM to stage, in this order."""

    let_go: list[Page]
    stage: list[int]


@dataclass
class _Vm:
    """What is known of one VM: when each page was touched, in blocks."""

    touched: dict[int, IntArray] = field(default_factory=dict)
    count: int = 0

    def around(self, page: int) -> tuple[IntArray, int]:
        """Touches around a page, and its index there."""
        first = (page - MARGIN_BELOW) // BLOCK
        last = (page + MARGIN_ABOVE) // BLOCK
        blocks = [self.touched.get(block, _EMPTY) for block in range(first, last + 1)]
        return np.concatenate(blocks), page - first * BLOCK

    def is_touched(self, page: int) -> bool:
        """Whether the guest has the page."""
        block = self.touched.get(page // BLOCK)
        return block is not None and bool(block[page % BLOCK] != _EMPTY[0])

    def touch(self, page: int) -> None:
        """The guest takes the page."""
        if (block := self.touched.get(page // BLOCK)) is None:
            block = self.touched[page // BLOCK] = untouched(BLOCK)
        block[page % BLOCK] = self.count
        self.count += 1

    def leave(self, page: int) -> None:
        """The guest has the page no more."""
        if (block := self.touched.get(page // BLOCK)) is not None:
            block[page % BLOCK] = _EMPTY[0]


_EMPTY = untouched(BLOCK)


@dataclass
class _Turn:
    """What one touch changes in all; what comes and goes within it is nothing. Dictionaries keep the order."""

    let_go: dict[Page, None] = field(default_factory=dict)
    stage: dict[Page, None] = field(default_factory=dict)

    def goes(self, place: Page) -> None:
        """A page leaves the area."""
        if self.stage.pop(place, self) is self:
            self.let_go[place] = None

    def comes(self, place: Page) -> None:
        """A page is staged."""
        if self.let_go.pop(place, self) is self:
            self.stage[place] = None


class MemoryStaging:
    """Stages the memory of VMs that share a staging area.

    Parameters
    ----------
    capacity
        Pages that may be staged at a time.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise WrongUse(f"{capacity} pages: must not be negative")
        self._capacity = capacity
        self._vms: dict[int, _Vm] = {}
        self._staged: dict[Page, float] = {}
        self._queue: list[tuple[float, Page]] = []
        self._before: set[Page] = set()
        self._past = PastRuns()
        self._touches = 0
        self._chances = np.zeros(BELOW + ABOVE + 1)

    def touch(self, vm: int, group: int, page: int, threshold: float = THRESHOLD, at_once: int = 1) -> MemoryMoves:
        """Take in the first touch of a page, and decide.

        Parameters
        ----------
        vm, group
            The VM, and its trust group.
        page
            Number of the page; one that was touched before means that the VM begins anew.
        threshold
            A page near it is staged from this chance on.
        at_once
            It is the last of so many that follow each other and were touched since one looked last: so many more may
            be before one looks again.
        """
        state = self._vms.setdefault(vm, _Vm())
        turn = _Turn()
        if state.is_touched(page):
            turn.let_go = dict.fromkeys(place for place in self._begin_anew(vm) if place != (vm, page))
            state = self._vms[vm]
        self._touches += 1
        self._staged.pop((vm, page), None)
        self._before.discard((vm, page))
        state.touch(page)
        wanted = self._past.follow(vm, group, page)
        trusted, right = self._past.trusted(vm)
        if not (trusted and right):
            self._neighbours(state, vm, page, max(ASTRAY, threshold) if trusted else threshold, turn)
        if at_once > 1:
            for other in range(page + 1, page + 1 + at_once):
                self._want(state, (vm, other), GOING_ON, 0.0, turn)
        for other in wanted[: max(self._capacity // 2, 1)]:  # the next ones first; they must not push each other out
            self._want(state, (vm, other), SURE, 0.0, turn)
        return MemoryMoves(list(turn.let_go), [other for _, other in turn.stage])

    def _neighbours(self, state: _Vm, vm: int, page: int, threshold: float, turn: _Turn) -> None:
        """Stage what lies near and is probable enough."""
        window, here = state.around(page)
        chances(window, here, state.count - 1, self._chances)
        for k in np.flatnonzero(self._chances > 0.0).tolist():
            if page - BELOW + k >= 0:
                self._want(state, (vm, page - BELOW + k), float(self._chances[k]), threshold, turn)

    def _want(self, state: _Vm, place: Page, chance: float, threshold: float, turn: _Turn) -> None:
        """Stage a page if its chance is good enough; what is staged has its chance stated anew."""
        if place in self._staged:
            self._keep(place, chance)
            return
        least = min(SURE, AGAIN * threshold) if place in self._before else threshold
        if chance <= least or state.is_touched(place[1]) or not self._capacity:
            return
        if len(self._staged) >= self._capacity:
            turn.goes(self._least())
        self._keep(place, chance)
        self._before.add(place)
        turn.comes(place)

    def _keep(self, place: Page, chance: float) -> None:
        key = math.log(chance) + FADING * self._touches
        self._staged[place] = key
        heapq.heappush(self._queue, (key, place))
        if len(self._queue) > 64 + 8 * self._capacity:
            self._queue = [(key, place) for place, key in self._staged.items()]
            heapq.heapify(self._queue)

    def _least(self) -> Page:
        """Take the page whose chance is least out of the area."""
        while True:
            key, place = heapq.heappop(self._queue)
            if self._staged.get(place) == key:
                del self._staged[place]
                return place

    def _begin_anew(self, vm: int) -> list[Page]:
        """A VM has no pages any more; what was staged for it is let go."""
        gone = [place for place in self._staged if place[0] == vm]
        for place in gone:
            del self._staged[place]
        self._before = {place for place in self._before if place[0] != vm}
        self._vms[vm] = _Vm()
        self._past.begin_anew(vm)
        return gone

    def know(self, vm: int, pages: Iterable[int]) -> None:
        """A VM has these pages since nobody knows when; nothing is concluded from that."""
        state = self._vms.setdefault(vm, _Vm())
        for page in pages:
            state.touch(page)

    def remember(self, group: int, touches: Iterable[tuple[str, int]]) -> None:
        """Take in what VMs of a group touched before: names of VMs and pages, in the order of their first touches."""
        self._past.remember(group, touches)

    def let_go(self, vm: int, page: int) -> None:
        """A page that was staged is let go, by somebody else's decision."""
        self._staged.pop((vm, page), None)

    def expected(self, vm: int, most: int) -> list[int]:
        """Pages that followed in the past of its group, so many at most, while that is right."""
        return self._past.expected(vm, most)

    def leave_group(self, vm: int) -> None:
        """A VM goes to another trust group: what it did in this one stays there."""
        self._past.begin_anew(vm)

    def forget_group(self, group: int) -> None:
        """A trust group is gone, with the past of its VMs."""
        self._past.forget_group(group)

    def leave(self, vm: int, pages: Iterable[int]) -> None:
        """The guest has given these pages back; when it takes them again, they are new to it."""
        if (state := self._vms.get(vm)) is not None:
            for page in pages:
                state.leave(page)

    def forget(self, vms: Iterable[int]) -> None:
        """These VMs are gone, with all their pages."""
        for vm in vms:
            self._begin_anew(vm)
            self._vms.pop(vm, None)
