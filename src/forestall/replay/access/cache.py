"""The cache that every policy is scored by, and the one that knows the future.

Least recently used: what was just used, or has just arrived, stands first; who stands last has to go. A prefetch that
was issued after access s is there for accesses > s + delay. What is in the cache when it arrives changes nothing.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.compiled import entry
from forestall.model.samples import BoolArray, IntArray
from forestall.staging.shelves import REAL, Shelves, stage, use

UNUSED, USED, REDUNDANT, LATE = 0, 1, 2, 3
"""What became of a prefetch: let go unused or not used by the end, used, was there already, used before it arrived."""


class Outcome(NamedTuple):
    """What a cache did.

    Attributes
    ----------
    hit
        Array (access,): whether each access was served by the cache.
    fate
        Array (prefetch,): what became of each.
    """

    hit: BoolArray
    fate: NDArray[np.int8]


def serve(item: NDArray[np.int32], capacity: int, at: IntArray, wanted: NDArray[np.int32], delay: int) -> Outcome:
    """Serve accesses to items (access,) by a cache into which prefetches (prefetch,) come.

    Parameters
    ----------
    item, wanted
        Number of what is used, and of what is prefetched: the same number for the same thing.
    capacity
        What the cache holds.
    at
        Index of the access after which each prefetch was issued, not decreasing.
    delay
        Accesses from asking to arriving.
    """
    items = max(int(item.max(initial=-1)), int(wanted.max(initial=-1))) + 1
    hit, fate = np.zeros(len(item), np.bool_), np.zeros(len(at), np.int8)
    waiting = np.full(items, -1, np.int64)
    _serve(Shelves.of(items, 1, capacity), item, at, wanted, delay, hit, fate, waiting, np.zeros(items, np.int64))
    return Outcome(hit, fate)


@entry
def _serve(
    shelves: Shelves,
    item: NDArray[np.int32],
    at: IntArray,
    wanted: NDArray[np.int32],
    delay: int,
    hit: BoolArray,
    fate: NDArray[np.int8],
    waiting: IntArray,
    used_at: IntArray,
) -> None:
    """``waiting`` (item,): the prefetch whose fate is open; ``used_at`` (item,): one after the last use."""
    arrived = 0
    for i in range(len(item)):
        while arrived < len(at) and at[arrived] + delay < i:
            there = wanted[arrived]
            if (shelves.on[there] >> REAL) & 1:
                fate[arrived] = LATE if used_at[there] > at[arrived] + 1 else REDUNDANT
            else:
                fate[arrived] = LATE if used_at[there] > at[arrived] + 1 else UNUSED
                stage(shelves, REAL, there, i, 0.0)
                waiting[there] = arrived
            arrived += 1
        now = item[i]
        hit[i] = (shelves.on[now] >> REAL) & 1
        if (shelves.unused[now] >> REAL) & 1 and waiting[now] >= 0:
            fate[waiting[now]] = USED
        waiting[now] = -1
        used_at[now] = i + 1
        use(shelves, now, i, 0.0, 1.0)


def farthest(item: NDArray[np.int32], capacity: int) -> BoolArray:
    """Whether each access (access,) is a hit if what is used last in the future goes first (Belady, 1966)."""
    never = len(item)
    following = np.full(len(item), never)
    last: dict[int, int] = {}
    names = item.tolist()
    for i in range(len(names) - 1, -1, -1):
        following[i] = last.get(names[i], never)
        last[names[i]] = i
    hit, cached, queue = np.zeros(len(item), np.bool_), dict[int, int](), list[tuple[int, int]]()
    for i, (name, then) in enumerate(zip(names, following.tolist(), strict=True)):
        hit[i] = name in cached
        cached[name] = then
        heapq.heappush(queue, (-then, name))
        while len(cached) > capacity:
            when, who = heapq.heappop(queue)
            if cached.get(who) == -when:
                del cached[who]
    return hit
