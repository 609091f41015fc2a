"""Names of what is used, as small numbers: slots. There are so many slots; who needs one more takes an old one over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.compiled import compiled
from forestall.model.samples import IntArray

NOBODY = -1
GENERATION = 1 << 32
"""A tag is a slot plus so many times how often the slot was taken over: what remembers a tag knows if it is stale."""
_SLOT = GENERATION - 1


class Items(NamedTuple):
    """Arrays (slot,), and a hash table with chains.

    Attributes
    ----------
    number, space
        The name of each slot: a number within a space of numbers.
    tag
        See :data:`GENERATION`.
    uses, last
        How often each was used, and at which access last (-1: never).
    head, chain
        First slot of each bucket, and the next of each slot.
    total
        Array (1,): slots that were handed out.
    """

    number: IntArray
    space: NDArray[np.int32]
    tag: IntArray
    uses: NDArray[np.int32]
    last: IntArray
    head: NDArray[np.int32]
    chain: NDArray[np.int32]
    total: IntArray

    @classmethod
    def of(cls, slots: int) -> Items:
        """Room for so many items, none of them known."""
        buckets = 1 << max(slots - 1, 1).bit_length()
        return cls(
            number=np.zeros(slots, np.int64),
            space=np.zeros(slots, np.int32),
            tag=np.arange(slots, dtype=np.int64),
            uses=np.zeros(slots, np.int32),
            last=np.full(slots, -1, np.int64),
            head=np.full(buckets, NOBODY, np.int32),
            chain=np.full(slots, NOBODY, np.int32),
            total=np.zeros(1, np.int64),
        )


@compiled
def mixed(value: int, more: int) -> int:
    """A hash of two numbers (the finalizer of MurmurHash3; Appleby, 2011)."""
    h = np.uint64(value) ^ (np.uint64(more) * np.uint64(0x9E3779B97F4A7C15))
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64(h ^ (h >> np.uint64(33)))  # type: ignore[return-value]


@compiled
def _bucket(items: Items, space: int, number: int) -> int:
    return mixed(number, space) & (len(items.head) - 1)


@compiled
def find(items: Items, space: int, number: int) -> int:
    """Slot of an item; NOBODY if it has none."""
    slot = items.head[_bucket(items, space, number)]
    while slot != NOBODY and (items.number[slot] != number or items.space[slot] != space):
        slot = items.chain[slot]
    return int(slot)


@compiled
def name(items: Items, slot: int, space: int, number: int) -> None:
    """Give an item a slot that nobody has."""
    bucket = _bucket(items, space, number)
    items.number[slot], items.space[slot] = number, space
    items.chain[slot] = items.head[bucket]
    items.head[bucket] = slot


@compiled
def forget(items: Items, slot: int) -> None:
    """Take a slot from its item; whoever remembers its tag will see that."""
    bucket = _bucket(items, items.space[slot], items.number[slot])
    at = items.head[bucket]
    if at == slot:
        items.head[bucket] = items.chain[slot]
    else:
        while items.chain[at] != slot:
            at = items.chain[at]
        items.chain[at] = items.chain[slot]
    items.tag[slot] += GENERATION
    items.uses[slot], items.last[slot] = 0, -1


@compiled
def slot_of(items: Items, tag: int) -> int:
    """Slot of a tag; NOBODY if it belongs to another item by now."""
    slot = tag & _SLOT
    return slot if items.tag[slot] == tag else NOBODY
