"""What a prefetcher is, and the cache beside which it runs.

A prefetcher sees one access after the other and names keys. A key is a number of a block, page or connection, with
the number of its space above: the neighbour of a key is the neighbour on the disk, or in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Iterable

import numpy as np

from forestall.replay.access.prefetches import Prefetches
from forestall.replay.access.trace import AccessTrace

SPACE_SHIFT = 64
_MASK = (1 << SPACE_SHIFT) - 1


class Prefetcher(ABC):
    """One prefetcher in one run; not used again."""

    @abstractmethod
    def access(self, key: int, hit: bool) -> Iterable[int]:
        """Take in an access, and name the keys to fetch now, the most wanted last (it stays longest).

        Parameters
        ----------
        key
            What is used.
        hit
            Whether it was in the cache.
        """


class LeastRecentlyUsed:
    """A cache of so many keys; what is fetched ahead stands where what was just used stands."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    def use(self, key: int) -> bool:
        """Use a key; whether it was there."""
        hit = key in self._keys
        self.put(key)
        return hit

    def put(self, key: int) -> None:
        """Have a key stand first."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)


def keys_of(trace: AccessTrace) -> list[int]:
    """Key of each access."""
    spaces = trace.space.tolist()
    return [
        (space << SPACE_SHIFT) | number
        for space, number in zip(spaces, trace.resource.view(np.uint64).tolist(), strict=True)
    ]


def run_prefetcher(trace: AccessTrace, prefetcher: Prefetcher, cache_items: int, delay: int) -> Prefetches:
    """What a prefetcher asks for along a trace, beside a cache that holds what it asked for.

    What is in the cache, or on its way, is not asked for again.

    Parameters
    ----------
    trace
        The trace.
    prefetcher
        The prefetcher.
    cache_items
        What the cache holds.
    delay
        A prefetch arrives after so many more accesses.
    """
    cache, flying = LeastRecentlyUsed(cache_items), dict[int, int]()
    arriving: deque[tuple[int, int]] = deque()
    at: list[int] = []
    wanted: list[int] = []
    for i, key in enumerate(keys_of(trace)):
        while arriving and arriving[0][0] < i:
            _, arrived = arriving.popleft()
            del flying[arrived]
            if arrived not in cache:
                cache.put(arrived)
        for asked in prefetcher.access(key, cache.use(key)):
            if asked not in cache and asked not in flying:
                flying[asked] = i
                arriving.append((i + delay, asked))
                at.append(i)
                wanted.append(asked)
    return Prefetches(
        at=np.array(at, np.int64),
        space=np.array([key >> SPACE_SHIFT for key in wanted], np.int32),
        resource=np.array([key & _MASK for key in wanted], np.uint64).view(np.int64),
        probability=np.full(len(at), np.nan, np.float32),
    )
