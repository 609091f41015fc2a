"""Policies to compare with: after each first touch they name pages to stage.

=============  ============================================================================================
``none``       nothing
``next_4``     the next 4 pages; ``next_8`` the next 8, ``next_16`` the next 16
``around_64``  the block of 64 pages, aligned, that the page lies in (as fault-around does)
``leap``       along the step that most of the last touches took (Maruf & Chowdhury, ATC 2020)
``markov``     pages at distances that followed the last two distances before (Joseph & Grunwald, ISCA 1997, on deltas)
``history``    what followed the same page in the last VM of the trust group that touched it
``oracle``     the pages that are touched next, as many as there is room for
=============  ============================================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable

from forestall.replay.access.peers.stride import majority_trend
from forestall.replay.memory.trace import MemoryTrace

RECENT_STEPS, LEAP_PAGES = 32, 8
FOLLOWERS, LEAST_SHARE, MOST_CONTEXTS = 8, 0.1, 100_000
FOLLOWED_PAGES = 32


class MemoryPeer(ABC):
    """One policy in one run."""

    @abstractmethod
    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """Take in touch number ``at``, and name the pages of that VM to stage now."""


class Nothing(MemoryPeer):
    """Stages nothing."""

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """Nothing."""
        return ()


class Next(MemoryPeer):
    """The next pages."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """The next pages, the nearest last: it stays longest."""
        return range(page + self._pages, page, -1)


class Around(MemoryPeer):
    """The aligned block that the page lies in."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """All of the block."""
        start = page - page % self._pages
        return range(start, start + self._pages)


class Leap(MemoryPeer):
    """The majority trend of each VM."""

    def __init__(self) -> None:
        self._steps: dict[int, deque[int]] = {}
        self._last: dict[int, int] = {}

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """Some pages along the trend; if there is none, the next few."""
        steps = self._steps.setdefault(vm, deque(maxlen=RECENT_STEPS))
        steps.appendleft(page - self._last.get(vm, page))
        self._last[vm] = page
        trend = majority_trend(steps) or 1
        return range(page + LEAP_PAGES * trend, page, -trend)


class Markov(MemoryPeer):
    """Order two over distances, shared by the VMs of a trust group."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int, int], Counter[int]] = {}
        self._last: dict[int, tuple[int, int, int]] = {}

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """Pages at the distances that came after the last two often enough."""
        before, first, second = self._last.get(vm, (page, 0, 0))
        step = page - before
        if len(self._counts) < MOST_CONTEXTS:
            self._counts.setdefault((group, first, second), Counter())[step] += 1
        self._last[vm] = page, second, step
        following = self._counts.get((group, second, step), Counter())
        total = following.total()
        return [page + d for d, n in reversed(following.most_common(FOLLOWERS)) if n >= LEAST_SHARE * total]


class History(MemoryPeer):
    """What followed the page in the last VM of the group that touched it."""

    def __init__(self) -> None:
        self._log: dict[tuple[int, int], list[int]] = {}
        self._seen: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._run: dict[int, int] = {}

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """The pages that came after it then."""
        before = self._seen.get((group, page))
        if before and before[0] == vm and before[1] == self._run.get(vm, 0):
            self._run[vm] = self._run.get(vm, 0) + 1
        run = self._run.get(vm, 0)
        log = self._log.setdefault((vm, run), [])
        self._seen[group, page] = vm, run, len(log)
        log.append(page)
        if before is None:
            return ()
        old_vm, old_run, place = before
        return reversed(self._log[old_vm, old_run][place + 1 : place + 1 + FOLLOWED_PAGES])


class Oracle(MemoryPeer):
    """Knows the future."""

    def __init__(self, trace: MemoryTrace) -> None:
        self._pages = trace.page.tolist()
        self._vms = trace.vm.tolist()

    def touch(self, at: int, vm: int, group: int, page: int) -> Iterable[int]:
        """The page that is touched next, if it is of the same VM."""
        following = at + 1
        return self._pages[following : following + 1] if self._vms[following : following + 1] == [vm] else ()


PEERS: dict[str, Callable[[MemoryTrace], MemoryPeer]] = {
    "none": lambda trace: Nothing(),
    "next_4": lambda trace: Next(4),
    "next_8": lambda trace: Next(8),
    "next_16": lambda trace: Next(16),
    "around_64": lambda trace: Around(64),
    "leap": lambda trace: Leap(),
    "markov": lambda trace: Markov(),
    "history": lambda trace: History(),
    "oracle": Oracle,
}
"""How to make each peer for a trace, by name, in the order of reports."""
