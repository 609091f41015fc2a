"""What was asked for and is on its way: it arrives a number of accesses after it was asked for, in that order.

What has arrived is remembered for a while, so that it can go again if nobody uses it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.compiled import compiled
from forestall.model.samples import IntArray

ROOM = 1 << 16
FIRST, NEXT, OLDEST = 0, 1, 2


class Flight(NamedTuple):
    """A ring of requests.

    Attributes
    ----------
    tag, at, shelves
        Arrays (place,): item, access at which it was asked for, and bits of the shelves that asked.
    asked
        Array (slot,): bits of the shelves for which each item is on its way.
    counts
        Array (3,): number of the first that has not arrived, of the next to come, and of the oldest that is remembered.
    """

    tag: IntArray
    at: IntArray
    shelves: IntArray
    asked: NDArray[np.int64]
    counts: IntArray

    @classmethod
    def of(cls, slots: int) -> Flight:
        """Nothing is on its way."""
        tag, at, shelves = (np.zeros(ROOM, np.int64) for _ in range(3))
        return cls(tag, at, shelves, np.zeros(slots, np.int64), np.zeros(3, np.int64))


@compiled
def send(flight: Flight, tag: int, slot: int, now: int, shelves: int) -> bool:
    """Ask for an item for some shelves (bits); False if too much is on its way."""
    if flight.counts[NEXT] - flight.counts[OLDEST] >= ROOM:
        return False
    place = flight.counts[NEXT] & (ROOM - 1)
    flight.tag[place], flight.at[place], flight.shelves[place] = tag, now, shelves
    flight.asked[slot] |= shelves
    flight.counts[NEXT] += 1
    return True


@compiled
def arriving(flight: Flight, now: int, delay: int) -> int:
    """Place of the next that is there before the access at ``now``; -1: none."""
    place = flight.counts[FIRST] & (ROOM - 1)
    if flight.counts[FIRST] == flight.counts[NEXT] or flight.at[place] + delay >= now:
        return -1
    flight.counts[FIRST] += 1
    return int(place)


@compiled
def aging(flight: Flight, now: int, delay: int, keep: int) -> int:
    """Place of the next that arrived more than ``keep`` accesses ago, to be remembered no longer; -1: none."""
    place = flight.counts[OLDEST] & (ROOM - 1)
    if flight.counts[OLDEST] == flight.counts[FIRST] or flight.at[place] + delay + keep >= now:
        return -1
    flight.counts[OLDEST] += 1
    return int(place)
