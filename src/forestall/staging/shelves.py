"""Shelves: caches of the same size side by side, of which each holds what it would hold if its threshold were in force.

One shelf is what is there; one is for each threshold that is tried; the last of those stages nothing, and is a plain
cache. What was just used, or has just arrived, stands first; who stands last has to go (least recently used).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.compiled import compiled
from forestall.model.samples import FloatArray, IntArray

REAL = 0
"""The shelf that is there; shelf k + 1 is that of threshold k."""
RATE_OF_LIFE = 0.001
HITS, STAGED, WASTED, MISSES, ACCESSES = 0, 1, 2, 3, 4
COUNTS = 5


class Shelves(NamedTuple):
    """Doubly linked rings of slots, one for each shelf and one of all slots; the sentinel is the number of slots.

    Attributes
    ----------
    after, before
        Arrays (shelf + 1, slot + 1).
    on, unused
        Arrays (slot,): bits of the shelves on which an item stands, and of those on which it has waited in vain so far.
    since
        Array (slot,): access at which it came to stand on the real shelf, or was used last.
    held, capacity
        Arrays (shelf,), (1,): items on each shelf, and how many may be.
    cost
        Array (shelf,): misses and waste of each, fading.
    life
        Array (1,): accesses from the last use of an item of the real shelf to when it has to go, fading mean.
    counts
        Array (5,): of the real shelf: hits of what was staged, staged, wasted, misses, accesses.
    """

    after: NDArray[np.int32]
    before: NDArray[np.int32]
    on: IntArray
    unused: IntArray
    since: IntArray
    held: IntArray
    capacity: IntArray
    cost: FloatArray
    life: FloatArray
    counts: IntArray

    @classmethod
    def of(cls, slots: int, shelves: int, capacity: int) -> Shelves:
        """Empty shelves."""
        rings = np.full((shelves + 1, slots + 1), slots, np.int32)
        return cls(
            after=rings,
            before=rings.copy(),
            on=np.zeros(slots, np.int64),
            unused=np.zeros(slots, np.int64),
            since=np.zeros(slots, np.int64),
            held=np.zeros(shelves, np.int64),
            capacity=np.full(1, capacity, np.int64),
            cost=np.zeros(shelves),
            life=np.full(1, float(capacity)),
            counts=np.zeros(COUNTS, np.int64),
        )


@compiled
def _unlink(shelves: Shelves, shelf: int, slot: int) -> None:
    after, before = shelves.after[shelf, slot], shelves.before[shelf, slot]
    shelves.after[shelf, before], shelves.before[shelf, after] = after, before


@compiled
def _put_first(shelves: Shelves, shelf: int, slot: int) -> None:
    sentinel = shelves.after.shape[1] - 1
    first = shelves.after[shelf, sentinel]
    shelves.after[shelf, slot], shelves.before[shelf, slot] = first, sentinel
    shelves.before[shelf, first] = slot
    shelves.after[shelf, sentinel] = slot


@compiled
def _make_room(shelves: Shelves, shelf: int, now: int, waste_cost: float) -> None:
    """Have the last of a full shelf go."""
    if shelves.held[shelf] < shelves.capacity[0]:
        return
    last = shelves.before[shelf, shelves.after.shape[1] - 1]
    _unlink(shelves, shelf, last)
    shelves.on[last] &= ~(1 << shelf)
    shelves.held[shelf] -= 1
    if (shelves.unused[last] >> shelf) & 1:
        shelves.cost[shelf] += waste_cost
        shelves.unused[last] &= ~(1 << shelf)
        if shelf == REAL:
            shelves.counts[WASTED] += 1
    if shelf == REAL:
        shelves.life[0] += RATE_OF_LIFE * (now - shelves.since[last] - shelves.life[0])


@compiled
def stage(shelves: Shelves, shelf: int, slot: int, now: int, waste_cost: float) -> None:
    """What was asked for has arrived at a shelf; nothing changes if it stands there already."""
    if (shelves.on[slot] >> shelf) & 1:
        return
    _make_room(shelves, shelf, now, waste_cost)
    shelves.on[slot] |= 1 << shelf
    shelves.unused[slot] |= 1 << shelf
    shelves.held[shelf] += 1
    _put_first(shelves, shelf, slot)
    if shelf == REAL:
        shelves.since[slot] = now
        shelves.counts[STAGED] += 1


@compiled
def use(shelves: Shelves, slot: int, now: int, waste_cost: float, fading: float) -> None:
    """An item is used: from every shelf, or it misses there and comes to stand on it."""
    on = shelves.on[slot]
    shelves.counts[ACCESSES] += 1
    shelves.counts[HITS] += (shelves.unused[slot] >> REAL) & 1
    shelves.counts[MISSES] += 1 - ((on >> REAL) & 1)
    for shelf in range(len(shelves.cost)):
        shelves.cost[shelf] *= fading
        if (on >> shelf) & 1:
            _unlink(shelves, shelf, slot)
        else:
            shelves.cost[shelf] += 1.0
            _make_room(shelves, shelf, now, waste_cost)
            shelves.held[shelf] += 1
        _put_first(shelves, shelf, slot)
    shelves.on[slot] = (1 << len(shelves.cost)) - 1
    shelves.unused[slot] = 0
    shelves.since[slot] = now


@compiled
def leave(shelves: Shelves, slot: int, which: int, waste_cost: float) -> None:
    """An item goes from those of some shelves (bits) on which it has waited in vain so far."""
    for shelf in range(len(shelves.cost)):
        if ((which & shelves.unused[slot]) >> shelf) & 1:
            _unlink(shelves, shelf, slot)
            shelves.held[shelf] -= 1
            shelves.on[slot] &= ~(1 << shelf)
            shelves.unused[slot] &= ~(1 << shelf)
            shelves.cost[shelf] += waste_cost
            if shelf == REAL:
                shelves.counts[WASTED] += 1


@compiled
def lose(shelves: Shelves, slot: int) -> None:
    """An item is gone from every shelf, and it was nobody's choice here: it costs nothing."""
    for shelf in range(len(shelves.cost)):
        if (shelves.on[slot] >> shelf) & 1:
            _unlink(shelves, shelf, slot)
            shelves.held[shelf] -= 1
    shelves.on[slot] = shelves.unused[slot] = 0


@compiled
def mention(shelves: Shelves, slot: int, new: bool) -> None:
    """Have a slot stand first among all slots."""
    everyone = len(shelves.cost)
    if not new:
        _unlink(shelves, everyone, slot)
    _put_first(shelves, everyone, slot)


@compiled
def longest_unmentioned(shelves: Shelves) -> int:
    """The slot that stands on no shelf and was not mentioned for longest; those on shelves are passed over."""
    everyone, sentinel = len(shelves.cost), shelves.after.shape[1] - 1
    slot = shelves.before[everyone, sentinel]
    while shelves.on[slot] != 0:
        mention(shelves, slot, False)
        slot = shelves.before[everyone, sentinel]
    return int(slot)


@compiled
def cheapest(shelves: Shelves, active: int, inertia: float) -> int:
    """The threshold whose shelf has cost least of late; the active one unless another is better by the inertia."""
    best = 0
    for k in range(1, len(shelves.cost) - 1):
        if shelves.cost[k + 1] < shelves.cost[best + 1]:
            best = k
    return best if shelves.cost[best + 1] < shelves.cost[active + 1] * (1.0 - inertia) else active
