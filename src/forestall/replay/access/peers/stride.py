"""Prefetchers that expect a constant step: per region, and Leap's majority."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.neighbours import neighbours
from forestall.replay.access.peers.sequential import MOST_DELAY
from forestall.replay.access.peers.table import Table

REGION_SHIFT = 8
REGIONS = 65_536
ASKED_KEYS = 65_536


class Stride(Prefetcher):
    """The step of each region of 256 numbers, once seen twice in a row (Chen & Baer, 1995, with regions for programs).

    Parameters
    ----------
    degree
        How many keys to ask for.
    delay
        Accesses until a fetch arrives: so many more are asked for.
    """

    def __init__(self, degree: int = 4, delay: int = 0) -> None:
        self._ahead = degree + min(delay, MOST_DELAY)
        self._regions: Table[int, tuple[int, int]] = Table(REGIONS)

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        region = key >> REGION_SHIFT
        last, before = self._regions.get(region, (key, 0))
        stride = key - last
        if stride == 0 and before:
            return ()
        self._regions.put(region, (key, stride))
        return neighbours(key, 1, self._ahead, stride) if stride and stride == before else ()


class Leap(Prefetcher):
    """The step that most of the last misses took (Leap; Maruf & Chowdhury, ATC 2020).

    It looks at the last 4 steps, then at twice as many, up to 32, until one step has the majority. It asks for as many
    keys along it as proved useful since it last asked, and one more, rounded up to a power of two; never for less than
    half as many as the last time.

    Parameters
    ----------
    delay
        Accesses until a fetch arrives: so many more keys are asked for.
    history
        Steps remembered.
    most
        Keys asked for at most.
    """

    def __init__(self, delay: int = 0, history: int = 32, most: int = 8) -> None:
        self._delay, self._most = min(delay, MOST_DELAY), most
        self._steps: deque[int] = deque(maxlen=history)
        self._asked: Table[int, None] = Table(ASKED_KEYS)
        self._last: int | None = None
        self._trend = self._size = self._useful = 0

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        asked = key in self._asked
        if hit and not asked:
            return ()
        if asked:
            del self._asked[key]
            self._useful += hit
        step = 0 if self._last is None else key - self._last
        self._last = key
        self._steps.appendleft(step)
        self._trend = majority_trend(self._steps) or self._trend
        self._resize(step)
        return self._along(key) if self._size and self._trend else ()

    def _resize(self, step: int) -> None:
        """The size of the next window, from what proved useful since the last one."""
        size = min(1 << self._useful.bit_length(), self._most) if self._useful else int(step == self._trend)
        self._size = max(size, self._size // 2)
        if self._size:
            self._useful = 0

    def _along(self, key: int) -> range:
        found = neighbours(key, 1, self._size + self._delay, self._trend)
        self._asked.put_each(found, None)
        return found


def majority_trend(steps: Sequence[int], least: int = 4) -> int:
    """The step that more than half of the latest took, in the shortest window that has one; 0 if none has.

    Parameters
    ----------
    steps
        The latest first.
    least
        The shortest window; each next one is twice as long.
    """
    latest = list(steps)
    while True:
        window = latest[:least]
        if 2 * window.count(found := _candidate(window)) > len(window):
            return found
        if least >= len(latest):
            return 0
        least *= 2


def _candidate(steps: list[int]) -> int:
    """The only value that can have the majority (Boyer & Moore's vote)."""
    found = votes = 0
    for step in steps:
        if votes == 0:
            found = step
        votes += 1 if step == found else -1
    return found
